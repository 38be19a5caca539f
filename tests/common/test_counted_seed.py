from hypothesis import given
from hypothesis import strategies as st

from common.counted import counted_seed

counters = st.lists(st.integers(0, 2**63), min_size=1, max_size=4)


@given(counters)
def test_seed_fits_torch_and_numpy_and_follows_from_its_counters(values):
    seed = counted_seed(*values)
    assert 0 <= seed < 2**63
    assert seed == counted_seed(*values)


def test_neighbouring_counters_and_their_order_give_different_seeds():
    seeds = {counted_seed(a, b) for a in range(50) for b in range(50)}
    assert len(seeds) == 2_500
    assert counted_seed(1) != counted_seed(1, 0)


def test_bits_of_successive_seeds_are_balanced():
    ones = sum(counted_seed(7, i) >> 62 for i in range(4_000))
    assert abs(ones - 2_000) < 4 * 32  # four standard deviations of a fair coin

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from algos.running import RunningScale, merged_rows

chunks = st.lists(st.lists(st.floats(-1e3, 1e3), max_size=6), max_size=5)


@given(chunks)
def test_scale_is_the_standard_deviation_of_all_that_was_seen(parts):
    scale = RunningScale()
    for part in parts:
        scale.update(np.array(part, float))
    seen = np.array([v for part in parts for v in part])
    deviation = seen.std() if len(seen) else 0.0
    assert scale.scale == pytest.approx(deviation if deviation > 1e-9 else scale.scale, rel=1e-6)


def test_scale_is_one_while_nothing_varies():
    scale = RunningScale()
    assert scale.scale == 1.0
    scale.update(np.full(5, 3.0))
    assert scale.scale == 1.0


def test_state_carries_on_exactly():
    rng = np.random.default_rng(0)
    unbroken, first = RunningScale(), RunningScale()
    parts = [rng.standard_normal(7) for _ in range(4)]
    for part in parts[:2]:
        unbroken.update(part)
        first.update(part)
    second = RunningScale()
    second.set_state(first.get_state())
    for part in parts[2:]:
        unbroken.update(part)
        second.update(part)
    assert second.get_state() == unbroken.get_state()


def test_merged_rows_are_the_moments_of_both_streams_together():
    rng = np.random.default_rng(2)
    first, second = rng.normal(3, 2, (7, 4)), rng.normal(-1, 5, (11, 4))

    def moments(x):
        return np.stack([np.full(4, float(len(x))), x.mean(0), x.var(0) * len(x)])

    got = merged_rows(torch.from_numpy(moments(first)), torch.from_numpy(moments(second)))
    np.testing.assert_allclose(got.numpy(), moments(np.concatenate([first, second])), rtol=1e-12)
    nothing = torch.zeros(3, 4, dtype=torch.float64)
    np.testing.assert_allclose(merged_rows(nothing, torch.from_numpy(moments(first))).numpy(), moments(first))

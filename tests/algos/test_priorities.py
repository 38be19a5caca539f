import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algos.priorities import StartPriorities, SumTree, importance_weights


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), num_leaves=st.integers(1, 40), rounds=st.integers(1, 6))
def test_tree_finds_what_running_sums_of_a_plain_list_find(seed, num_leaves, rounds):
    rng, tree, plain = np.random.default_rng(seed), SumTree(num_leaves), np.zeros(num_leaves)
    for _ in range(rounds):
        index = rng.integers(0, num_leaves, int(rng.integers(1, 12)))
        weights = rng.integers(0, 5, len(index)).astype(float)  # whole numbers, so that sums are exact
        tree.set(index, weights)
        for i, weight in zip(index, weights, strict=True):
            plain[i] = weight
        assert tree.weights.tolist() == plain.tolist()
        assert tree.total == plain.sum()
        places = np.arange(0.0, plain.sum(), 0.25)
        wanted = [int(np.flatnonzero(np.cumsum(plain) > at)[0]) for at in places]
        assert tree.find(places).tolist() == wanted


def test_rounding_never_leads_to_a_leaf_without_weight():
    rng = np.random.default_rng(0)
    for num_leaves in (1, 2, 5, 64, 1000):
        weights = rng.random(num_leaves) ** 20 * (rng.random(num_leaves) < 0.3)
        weights[0] = 0.1
        tree = SumTree(num_leaves)
        tree.set(np.arange(num_leaves), weights)
        edges = np.cumsum(weights)
        places = np.concatenate([edges, np.nextafter(edges, 0.0), np.nextafter(edges, 9.0), [tree.total, -1e-18]])
        assert (weights[tree.find(places)] > 0).all()


def test_trees_of_equal_leaves_are_equal_whatever_their_history():
    rng = np.random.default_rng(1)
    worn, weights = SumTree(50), rng.random(50)
    for _ in range(30):
        worn.set(rng.integers(0, 50, 9), rng.random(9))
    worn.set(np.arange(50), weights)
    fresh = SumTree(50)
    for i in rng.permutation(50):
        fresh.set(np.array([i]), weights[i : i + 1])
    assert fresh.total == worn.total
    places = rng.random(5000) * fresh.total
    assert np.array_equal(fresh.find(places), worn.find(places))


def test_of_a_start_that_was_drawn_twice_the_last_error_counts():
    own = StartPriorities(4, 2, alpha=0.5)
    own.follow(3, np.array([0, 1, 2]), priority=1.0)
    assert own.update(np.array([2, 3, 2]), np.array([9.0, 1.0, 4.0])) == pytest.approx(9.0)
    assert own.tree.weights.tolist() == pytest.approx([1, 1, 2, 1, 1, 1, 0, 0], abs=1e-3)
    assert own.num_starts == 6


@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
def test_weights_take_the_bias_back(beta):
    chances = np.array([0.1, 0.2, 0.7])
    weights = importance_weights(chances, 3, beta=beta)
    assert weights.max() == 1.0
    assert weights == pytest.approx((0.1 / chances) ** beta)
    if beta == 1.0:  # what is drawn by chance and weighted counts alike
        assert chances * weights == pytest.approx([0.1] * 3)

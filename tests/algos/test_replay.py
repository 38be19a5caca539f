import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from replays import (
    NaiveReplay,
    by_priority,
    check_against,
    draw,
    ends_of,
    fill,
    loaded,
    one_batch,
    saved,
    stored_priorities,
)
from teams import rollout_of

from algos.replay import TeamReplay


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    capacity=st.integers(18, 60),
    num_rollouts=st.integers(1, 14),
    kind=st.sampled_from([(1, 1), (1, 3), (4, 1)]),
    chance=st.sampled_from([0.0, 0.2, 0.9]),
)
def test_samples_are_what_a_naive_record_of_the_same_steps_holds(seed, capacity, num_rollouts, kind, chance):
    rng, naive, replay = np.random.default_rng(seed), NaiveReplay(), TeamReplay(capacity)
    fill(replay, num_rollouts=num_rollouts, rng=rng, naive=naive, chance=chance)
    length, n_step = kind
    kept = min(num_rollouts * 5, capacity // 3)
    assert len(replay) == kept * 3
    batch = one_batch(replay, 24, rng, length=length, n_step=n_step, gamma=0.9)
    check_against(naive, batch, length=length, n_step=n_step, gamma=0.9)
    oldest = num_rollouts * 5 - kept
    assert int(batch.obs[0, :, 0, 0].min()) >= oldest, "what was overwritten must not be drawn"


def test_every_stored_start_is_drawn_equally_often():
    replay, rng = TeamReplay(30), np.random.default_rng(0)
    fill(replay, num_rollouts=5, rng=rng)
    batch = one_batch(replay, 20_000, rng, length=3, gamma=1.0)
    times, counts = np.unique(batch.obs[0, :, 0, 0].numpy(), return_counts=True)
    assert times.tolist() == list(range(15, 23))  # ten steps of three replicas are kept; three must follow
    expected = 20_000 / 8
    assert ((counts - expected) ** 2 / expected).sum() < 24.3  # chi-square, 7 degrees, 0.1 %


def test_no_sample_spans_a_seam():
    replay, rng = TeamReplay(300), np.random.default_rng(0)
    replay.add(rollout_of(num_steps=5, start=0))
    replay.add(rollout_of(num_steps=5, start=100))  # begins elsewhere than the first one stopped
    for kind in ({"length": 3}, {"n_step": 3}):
        batch = one_batch(replay, 500, rng, gamma=1.0, **kind)
        starts = set(batch.obs[0, :, 0, 0].int().tolist())
        assert starts == {0, 1, 2, 100, 101, 102}
        if "length" in kind:
            assert torch.equal(batch.obs[1:, :, 0, 0], batch.obs[:-1, :, 0, 0] + 1)


def test_a_seam_of_which_only_the_state_tells_is_seen():
    replay, rng = TeamReplay(300), np.random.default_rng(0)
    first, second = rollout_of(num_steps=5, start=0), rollout_of(num_steps=5, start=5)
    second.action_mask[0] = first.action_mask[-1]
    second.state[0] += 1.0
    replay.add(first)
    replay.add(second)
    batch = one_batch(replay, 500, rng, length=3, gamma=1.0)
    assert set(batch.obs[0, :, 0, 0].int().tolist()) == {0, 1, 2, 5, 6, 7}


def test_fragments_join_where_nan_is_observed():
    """An environment may see nothing of something, and say so for as long as it runs."""
    replay, rng = TeamReplay(300), np.random.default_rng(0)
    first, second = rollout_of(num_steps=5, start=0), rollout_of(num_steps=5, start=5)
    second.action_mask[0] = first.action_mask[-1]
    for rollout in (first, second):
        rollout.obs[:, 1, 0, 2] = torch.nan
    replay.add(first)
    replay.add(second)
    batch = one_batch(replay, 500, rng, length=7, gamma=1.0)
    assert set(batch.obs[0, :, 0, 0].int().tolist()) == {0, 1, 2, 3}


def test_nan_is_a_seam_where_a_number_was_seen_before():
    replay = TeamReplay(300)
    first, second = rollout_of(num_steps=5, start=0), rollout_of(num_steps=5, start=5)
    second.action_mask[0] = first.action_mask[-1]
    second.obs[0, 1, 0, 2] = torch.nan
    replay.add(first)
    replay.add(second)
    assert replay.can_sample(5, 1)
    assert not replay.can_sample(6, 1)


def test_seams_in_a_full_ring_stay_seams_until_they_are_overwritten():
    replay, rng, naive = TeamReplay(45), np.random.default_rng(1), NaiveReplay()
    for i in range(9):
        rollout = rollout_of(num_steps=4, start=100 * i, ends=ends_of(rng, 4, 3, 0.5), seed=i)
        replay.add(rollout)
        naive.add(rollout)
        batch = one_batch(replay, 100, rng, length=4, gamma=0.9)
        check_against(naive, batch, length=4, n_step=1, gamma=0.9)
        assert set((batch.obs[0, :, 0, 0] % 100).int().tolist()) == {0}


def test_final_observations_survive_growth_of_their_store():
    replay, rng, naive = TeamReplay(600), np.random.default_rng(2), NaiveReplay()
    fill(replay, num_rollouts=30, rng=rng, naive=naive, chance=1.0)
    check_against(naive, one_batch(replay, 400, rng, gamma=0.9), length=1, n_step=1, gamma=0.9)
    held = len(replay.rings[0].finals["obs"])
    fill(replay, num_rollouts=60, rng=rng, naive=naive, chance=1.0, start=150)
    assert len(replay.rings[0].finals["obs"]) <= 2 * held + 64, "the store is a ring, not a list"
    check_against(naive, one_batch(replay, 400, rng, gamma=0.9), length=1, n_step=1, gamma=0.9)


def test_sources_stay_apart_and_are_drawn_by_what_they_hold():
    replay, rng = TeamReplay(600, num_sources=2), np.random.default_rng(0)
    fill(replay, num_rollouts=1, rng=rng, source=1, B=2)
    fill(replay, num_rollouts=3, rng=rng, source=2, B=4, start=1000)
    batch = one_batch(replay, 7_000, rng, gamma=1.0)
    from_second = batch.obs[0, :, 0, 0] >= 1000
    assert abs(float(from_second.float().mean()) - 60 / 70) < 0.02
    sequences = one_batch(replay, 500, rng, length=4, gamma=1.0)
    assert torch.equal(sequences.obs[1:, :, 0, 0], sequences.obs[:-1, :, 0, 0] + 1)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    capacity=st.integers(18, 60),
    rounds=st.integers(1, 12),
    kind=st.sampled_from([(1, 1), (1, 3), (4, 1)]),
    alpha=st.sampled_from([0.0, 0.6, 1.0]),
)
def test_priorities_are_those_of_a_naive_record(seed, capacity, rounds, kind, alpha):
    rng, naive, known, largest = np.random.default_rng(seed), NaiveReplay(), {}, 1.0
    length, n_step = kind
    replay, start = by_priority(capacity, span=max(kind), alpha=alpha), 0
    for _ in range(rounds):
        num_steps = int(rng.integers(1, 6))
        rollout = rollout_of(num_steps=num_steps, start=start, ends=ends_of(rng, num_steps, 3, 0.2), seed=seed)
        known |= {(t, b): largest for t in range(start, start + num_steps) for b in range(3)}
        start += num_steps + 100 * bool(rng.random() < 0.3)  # a seam, at times
        replay.add(rollout)
        naive.add(rollout)
        found = stored_priorities(replay)
        assert found == pytest.approx({key: known[key] for key in found})
        (ring,) = replay.rings.values()
        weights = {int(leaf): w for leaf, w in enumerate(ring.priorities.tree.weights) if w > 0}
        assert len(weights) == len(found) == ring.priorities.num_starts
        assert sorted(weights.values()) == pytest.approx(sorted(p**alpha for p in found.values()), rel=1e-6)
        if not found:
            continue
        batch, drawn = draw(replay, 9, rng, length=length, n_step=n_step)
        check_against(naive, batch, length=length, n_step=n_step, gamma=0.9)
        errors = 3.0 * rng.random(9)
        replay.update_priorities(drawn, errors)
        for (t, b), error in zip(batch.obs[0, :, 0, :2].int().tolist(), errors, strict=True):
            known[t, b] = error + 1e-6
            largest = max(largest, error + 1e-6)


@pytest.mark.parametrize("kind", [{}, {"length": 4}, {"n_step": 3}])
@pytest.mark.parametrize("has_priorities", [False, True])
def test_batches_drawn_together_are_those_drawn_one_by_one_each_in_memory_of_its_own(kind, has_priorities):
    kept = by_priority if has_priorities else TeamReplay
    replay, rng = kept(600, num_sources=2, **({"span": 4} if has_priorities else {})), np.random.default_rng(0)
    for source, num_rollouts in ((0, 1), (1, 6)):  # so few of the first that some batches have none of them
        fill(replay, num_rollouts=num_rollouts, rng=rng, source=source, B=2 + source, start=1000 * source)

    def drawn(num, seed):
        if not has_priorities:
            return replay.sample(num, 5, seed, gamma=0.9, with_mask=True, **kind)
        return replay.sample_by_priority(num, 5, seed, gamma=0.9, beta=0.5, with_mask=True, **kind)[0]

    together, alone, rng = drawn(12, np.random.default_rng(3)), [], np.random.default_rng(3)
    for _ in range(12):
        alone += drawn(1, rng)
    assert {bool((batch.obs[0, :, 0, 0] < 1000).any()) for batch in together} == {False, True}
    for one, other in zip(together, alone, strict=True):
        assert all(a is b or torch.equal(a, b) for a, b in zip(one, other, strict=True))
        assert all(v is None or v.untyped_storage().nbytes() == v.nbytes for v in one)


def test_starts_are_drawn_in_proportion_to_the_power_of_their_priority_and_weighted_against_it():
    replay, rng = by_priority(600, num_sources=2, alpha=0.6), np.random.default_rng(0)
    for source in (0, 1):
        fill(replay, num_rollouts=2, rng=rng, source=source, B=2 + source, start=1000 * source)
    (every,), _ = replay.sample_by_priority(1, 400, rng, gamma=0.9, beta=1.0)
    assert torch.equal(every.weights, torch.ones(400)), "all are new, so none counts less"
    for ring in replay.rings.values():
        leaves = (ring.starts(1)[:, None] * ring.num_replicas + np.arange(ring.num_replicas)).ravel()
        replay.update_priorities([(ring.priorities, leaves)], rng.random(len(leaves)) ** 2)
    priorities = {(t + b / 10): p for (t, b), p in stored_priorities(replay).items()}
    keys, powers = np.array(list(priorities)), np.array(list(priorities.values())) ** 0.6
    chances, counts, num = powers / powers.sum(), np.zeros(len(keys)), 0
    for _ in range(40):
        (batch,), _ = replay.sample_by_priority(1, 500, rng, gamma=0.9, beta=0.4)
        drawn = np.abs(batch.obs[0, :, 0, 0].numpy()[:, None] + batch.obs[0, :, 0, 1].numpy()[:, None] / 10 - keys)
        index = drawn.argmin(1)
        counts += np.bincount(index, minlength=len(keys))
        weights = (len(keys) * chances[index]) ** -0.4
        np.testing.assert_allclose(batch.weights.numpy(), weights / weights.max(), rtol=1e-4)
        num += 500
    # One sample from each S-th of the sum: counts vary less than independent draws', whose chi-square has mean 49.
    assert ((counts - num * chances) ** 2 / (num * chances)).sum() < 49
    assert counts.min() > 0


def test_steps_of_a_runner_that_is_gone_are_no_longer_drawn_once_they_are_forgotten(tmp_path):
    old = by_priority(120)
    fill(old, num_rollouts=8, rng=np.random.default_rng(0))
    replay = loaded(saved(old, tmp_path / "a"), 120, 2, 1, priorities=old.priorities)
    rng = np.random.default_rng(1)
    for i in range(6):
        for source in (1, 2):
            fill(replay, num_rollouts=1, rng=rng, source=source, start=10_000 + 5 * i)
        gone = replay.rings.get(-1)
        times = draw(replay, 2000, rng)[0].obs[0, :, 0, 0]
        assert int((times < 10_000).sum()) == pytest.approx(2000 * (gone.size * 3 if gone else 0) / len(replay), abs=80)
    assert gone is None


def test_impossible_requests_are_refused():
    replay, rng = TeamReplay(30), np.random.default_rng(0)
    with pytest.raises(ValueError, match="no unbroken sequence of 1"):
        one_batch(replay, 1, rng, gamma=0.9)
    with pytest.raises(ValueError, match="replay_capacity 12 is too small for fragments of 5 steps of 3"):
        TeamReplay(12).add(rollout_of(num_steps=5))
    fill(replay, num_rollouts=1, rng=rng)
    assert replay.can_sample(5, 1)
    assert not replay.can_sample(6, 1)
    waiting = by_priority(60, span=6)
    fill(waiting, num_rollouts=1, rng=rng)
    with pytest.raises(ValueError, match="no unbroken sequence of 6"):
        draw(waiting, 1, rng, length=6)
    assert not replay.can_sample(1, 6)
    with pytest.raises(ValueError, match="not for sequences"):
        one_batch(replay, 1, rng, length=2, n_step=2, gamma=0.9)


def test_arrays_that_an_environment_lacks_stay_absent():
    replay = TeamReplay(30)
    replay.add(rollout_of(with_extras=False, ends={(0, 0): "truncated"}))
    batch = one_batch(replay, 8, np.random.default_rng(0), gamma=0.9)
    assert (batch.next_mask, batch.state, batch.next_state) == (None, None, None)
    doubled = batch.map(lambda v: v * 2)
    assert torch.equal(doubled.rewards, batch.rewards * 2)
    assert doubled.state is None

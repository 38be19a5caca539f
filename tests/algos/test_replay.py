import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from teams import rollout_of

from algos import replay_files
from algos.errors import IncompatibleError
from algos.priorities import PriorityRule
from algos.replay import TeamReplay
from algos.replay_files import load_replay, snapshot_replay
from algos.rollout import Rollout
from algos.snapshots import Snapshot


class NaiveReplay:
    """Every step as a plain record, found by what its observation says: (time, replica)."""

    def __init__(self) -> None:
        self.steps: dict[tuple[int, int], dict] = {}

    def add(self, rollout: Rollout) -> None:
        index = rollout.final_index.tolist()
        for t in range(rollout.num_steps):
            for b in range(rollout.num_replicas):
                ended = bool(rollout.ended[t, b])
                k = index.index([t, b]) if ended else -1
                final = [v[k] for v in (rollout.final_obs, rollout.final_mask, rollout.final_state)] if ended else None
                after = final or [v[t + 1, b] for v in (rollout.obs, rollout.action_mask, rollout.state)]
                self.steps[int(rollout.obs[t, b, 0, 0]), b] = {
                    "obs": rollout.obs[t, b],
                    "actions": rollout.actions[t, b],
                    "reward": rollout.rewards[t, b].mean(),
                    "terminated": bool(rollout.terminated[t, b]),
                    "ended": ended,
                    "next_obs": after[0],
                    "next_mask": after[1],
                    "state": rollout.state[t, b],
                    "next_state": after[2],
                }


def ends_of(rng, T, B, chance):
    return {
        (t, b): "terminated" if rng.random() < 0.5 else "truncated"
        for t in range(T)
        for b in range(B)
        if rng.random() < chance
    }


def fill(replay, *, num_rollouts, rng, T=5, B=3, chance=0.2, naive=None, source=0, start=0):
    last = None
    for i in range(num_rollouts):
        rollout = rollout_of(
            num_steps=T,
            num_replicas=B,
            start=start + i * T,
            ends=ends_of(rng, T, B, chance),
            source=source,
            seed=int(rng.integers(10**6)),
        )
        if last is not None:  # what that saw last, masks too, is what this one sees first
            rollout.action_mask[0] = last.action_mask[-1]
        last = rollout
        replay.add(rollout)
        if naive is not None:
            naive.add(rollout)


def check_against(naive, batch, *, length, n_step, gamma):
    for s in range(batch.obs.shape[1]):
        for i in range(length):
            t, b = int(batch.obs[i, s, 0, 0]), int(batch.obs[i, s, 0, 1])
            if i:
                assert (t, b) == (int(batch.obs[0, s, 0, 0]) + i, int(batch.obs[0, s, 0, 1]))
            step = naive.steps[t, b]
            reward, discount, last = 0.0, 1.0, step
            for k in range(n_step):
                last = naive.steps[t + k, b]
                reward += discount * float(last["reward"])
                discount *= gamma
                if last["ended"]:
                    break
            assert torch.equal(batch.obs[i, s], step["obs"])
            assert torch.equal(batch.actions[i, s], step["actions"])
            assert torch.equal(batch.state[i, s], step["state"])
            assert float(batch.rewards[i, s]) == pytest.approx(reward, rel=1e-6, abs=1e-4)
            assert float(batch.discounts[i, s]) == pytest.approx(0.0 if last["terminated"] else discount, abs=1e-6)
            assert bool(batch.ended[i, s]) == last["ended"]
            for name in ("next_obs", "next_mask", "next_state"):
                assert torch.equal(getattr(batch, name)[i, s], last[name]), name


def test_snapshot_of_a_buffer_is_of_the_instant_it_was_taken_at(tmp_path):
    rng, naive = np.random.default_rng(3), NaiveReplay()
    one = TeamReplay(60)
    fill(one, num_rollouts=5, rng=rng, naive=naive)
    at_once = loaded(saved(one, tmp_path / "at once"), 60)
    taken = Snapshot(replay=snapshot_replay(one))
    fill(one, num_rollouts=20, rng=rng, naive=naive, start=25)  # every row is written over
    (tmp_path / "later").mkdir()
    taken.write(tmp_path / "later")
    later = loaded(tmp_path / "later", 60)
    check_same_draws(later, at_once, length=2)
    assert later.num_added == at_once.num_added


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
    batch = replay.sample(24, rng, length=length, n_step=n_step, gamma=0.9)
    check_against(naive, batch, length=length, n_step=n_step, gamma=0.9)
    oldest = num_rollouts * 5 - kept
    assert int(batch.obs[0, :, 0, 0].min()) >= oldest, "what was overwritten must not be drawn"


def test_every_stored_start_is_drawn_equally_often():
    replay, rng = TeamReplay(30), np.random.default_rng(0)
    fill(replay, num_rollouts=5, rng=rng)
    batch = replay.sample(20_000, rng, length=3, gamma=1.0)
    times, counts = np.unique(batch.obs[0, :, 0, 0].numpy(), return_counts=True)
    assert times.tolist() == list(range(15, 23))  # ten steps of three replicas are kept; three must follow
    expected = 20_000 / 8
    assert ((counts - expected) ** 2 / expected).sum() < 24.3  # chi-square, 7 degrees, 0.1 %


def test_no_sample_spans_a_seam():
    replay, rng = TeamReplay(300), np.random.default_rng(0)
    replay.add(rollout_of(num_steps=5, start=0))
    replay.add(rollout_of(num_steps=5, start=100))  # begins elsewhere than the first one stopped
    for kind in ({"length": 3}, {"n_step": 3}):
        batch = replay.sample(500, rng, gamma=1.0, **kind)
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
    batch = replay.sample(500, rng, length=3, gamma=1.0)
    assert set(batch.obs[0, :, 0, 0].int().tolist()) == {0, 1, 2, 5, 6, 7}


def test_seams_in_a_full_ring_stay_seams_until_they_are_overwritten():
    replay, rng, naive = TeamReplay(45), np.random.default_rng(1), NaiveReplay()
    for i in range(9):
        rollout = rollout_of(num_steps=4, start=100 * i, ends=ends_of(rng, 4, 3, 0.5), seed=i)
        replay.add(rollout)
        naive.add(rollout)
        batch = replay.sample(100, rng, length=4, gamma=0.9)
        check_against(naive, batch, length=4, n_step=1, gamma=0.9)
        assert set((batch.obs[0, :, 0, 0] % 100).int().tolist()) == {0}


def test_final_observations_survive_growth_of_their_store():
    replay, rng, naive = TeamReplay(600), np.random.default_rng(2), NaiveReplay()
    fill(replay, num_rollouts=30, rng=rng, naive=naive, chance=1.0)
    check_against(naive, replay.sample(400, rng, gamma=0.9), length=1, n_step=1, gamma=0.9)
    held = len(replay.rings[0].finals["obs"])
    fill(replay, num_rollouts=60, rng=rng, naive=naive, chance=1.0, start=150)
    assert len(replay.rings[0].finals["obs"]) <= 2 * held + 64, "the store is a ring, not a list"
    check_against(naive, replay.sample(400, rng, gamma=0.9), length=1, n_step=1, gamma=0.9)


def saved(replay, folder, previous=None):
    folder.mkdir()
    Snapshot(replay=snapshot_replay(replay, previous=previous)).write(folder)
    return folder


def loaded(folder, *args, **kwargs):
    replay = TeamReplay(*args, **kwargs)
    load_replay(replay, folder)
    return replay


def check_same_draws(one, two, **kind):
    draws = [r.sample(50, np.random.default_rng(4), gamma=0.9, with_mask=True, **kind) for r in (one, two)]
    assert all(a is b or torch.equal(a, b) for a, b in zip(*draws, strict=True))


def test_a_restored_buffer_draws_and_goes_on_as_the_saved_one(tmp_path):
    rng, naive = np.random.default_rng(3), NaiveReplay()
    one = TeamReplay(60, num_sources=2, first_source=1)
    for source in (1, 2):
        fill(one, num_rollouts=3, rng=rng, naive=naive, source=source)
    two = loaded(saved(one, tmp_path / "a"), 60, num_sources=2, first_source=1)
    assert (len(two), two.num_added) == (len(one), one.num_added) == (60, 90)
    for _ in range(2):
        check_same_draws(one, two, length=2)
        for replay in (one, two):
            fill(replay, num_rollouts=2, rng=np.random.default_rng(5), source=1, start=15)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    capacity=st.integers(18, 90),
    steps=st.sampled_from([3, 12, 45]),
    chance=st.sampled_from([0.0, 0.3, 1.0]),
    saves=st.lists(st.integers(1, 6), min_size=1, max_size=6),
    reloads=st.integers(0, 63),
)
def test_any_series_of_saves_and_loads_holds_what_a_buffer_never_saved_holds(
    tmp_path_factory, seed, capacity, steps, chance, saves, reloads
):
    folder, rng = tmp_path_factory.mktemp("series"), np.random.default_rng(seed)
    naive, plain, kept, previous, start = NaiveReplay(), TeamReplay(capacity), TeamReplay(capacity), None, 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay_files, "STEPS_PER_SEGMENT", steps)
        for i, num in enumerate(saves):
            state = rng.bit_generator.state
            for replay in (plain, kept):
                rng.bit_generator.state = state
                fill(replay, num_rollouts=num, rng=rng, naive=naive, chance=chance, start=start)
            start += 5 * num  # what begins here does not follow: its first mask is another one
            previous = saved(kept, folder / str(i), previous)
            if reloads >> i & 1:
                kept = loaded(previous, capacity)
            check_same_draws(plain, kept)
            check_against(naive, kept.sample(20, rng, gamma=0.9), length=1, n_step=1, gamma=0.9)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    capacity=st.integers(18, 90),
    steps=st.sampled_from([3, 12, 45]),
    before=st.integers(1, 12),
    meanwhile=st.lists(st.integers(1, 9), min_size=1, max_size=3),
)
def test_what_is_added_before_a_snapshot_is_written_does_not_change_it(
    tmp_path_factory, seed, capacity, steps, before, meanwhile
):
    """Also where the ring comes round to rows that the snapshot still has to read."""
    folder, rng, replay = tmp_path_factory.mktemp("late"), np.random.default_rng(seed), TeamReplay(capacity)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay_files, "STEPS_PER_SEGMENT", steps)
        fill(replay, num_rollouts=before, rng=rng, chance=0.3)
        now, late = (Snapshot(replay=replay_files.snapshot_replay(replay)) for _ in range(2))
        for name in ("now", "late"):
            (folder / name).mkdir()
        settled = now.write(folder / "now")
        for i, num in enumerate(meanwhile):
            fill(replay, num_rollouts=num, rng=rng, chance=0.3, start=100 * i)
        assert late.write(folder / "late") == settled
    for path in (folder / "now").rglob("*.*"):
        assert path.read_bytes() == (folder / "late" / path.relative_to(folder / "now")).read_bytes()


def test_a_snapshot_copies_nothing_and_moves_nothing_once_it_is_written(tmp_path):
    replay, rng = TeamReplay(60), np.random.default_rng(0)
    fill(replay, num_rollouts=3, rng=rng)
    (ring,) = replay.rings.values()
    memory = ring.rows["obs"].data_ptr()
    taken = Snapshot(replay=replay_files.snapshot_replay(replay))
    assert next(iter(taken.replay.new.values()))["obs"][0].data_ptr() == memory
    taken.write(tmp_path)
    fill(replay, num_rollouts=30, rng=rng, start=100)
    assert ring.rows["obs"].data_ptr() == memory


def test_a_save_writes_only_what_is_new(tmp_path, monkeypatch):
    monkeypatch.setattr(replay_files, "STEPS_PER_SEGMENT", 30)
    replay, rng = TeamReplay(600), np.random.default_rng(0)
    fill(replay, num_rollouts=20, rng=rng)
    first = saved(replay, tmp_path / "first")
    fill(replay, num_rollouts=2, rng=rng, start=100)
    second = saved(replay, tmp_path / "second", first)

    def inodes(folder):
        return {path.stat().st_ino for path in folder.glob("replay/*") if path.name != "index.json"}

    assert len(inodes(first)) == 11
    assert len(inodes(second) - inodes(first)) == 2, "the open segment, and the one that has been finished"
    for path in sorted(first.glob("replay/*")):
        path.unlink()
    check_same_draws(replay, loaded(second, 600))


def test_a_file_system_without_links_gets_copies(tmp_path, monkeypatch):
    def refuse(*args):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(replay_files, "STEPS_PER_SEGMENT", 30)
    monkeypatch.setattr(replay_files.os, "link", refuse)
    replay = TeamReplay(600)
    fill(replay, num_rollouts=20, rng=np.random.default_rng(0))
    second = saved(replay, tmp_path / "second", saved(replay, tmp_path / "first"))
    assert {p.stat().st_nlink for p in second.glob("replay/*")} == {1}
    check_same_draws(replay, loaded(second, 600))


def test_a_buffer_with_a_part_missing_is_refused(tmp_path):
    replay = TeamReplay(60)
    fill(replay, num_rollouts=3, rng=np.random.default_rng(0))
    folder = saved(replay, tmp_path / "a")
    segment = next(folder.glob("replay/*.open"))
    segment.write_bytes(segment.read_bytes()[:-8])
    with pytest.raises(IncompatibleError, match="holds no whole replay buffer"):
        loaded(folder, 60)
    (folder / "replay" / "index.json").unlink()
    with pytest.raises(IncompatibleError, match=r"index\.json"):
        loaded(folder, 60)


@pytest.mark.parametrize(("before", "after"), [(0, 2), (2, 0), (2, 1), (2, 3), (0, 1), (1, 0)])
def test_steps_of_runners_that_are_gone_make_room_for_those_of_the_present_ones(tmp_path, before, after):
    def buffer(num_runners):
        return TeamReplay(120, max(1, num_runners), first_source=min(1, num_runners))

    def sources(num_runners):
        return range(1, num_runners + 1) if num_runners else [0]

    saved, rng = buffer(before), np.random.default_rng(3)
    for source in sources(before):
        fill(saved, num_rollouts=12, rng=rng, source=source, start=1000 * source)
    full = len(saved)
    Snapshot(replay=snapshot_replay(saved)).write(tmp_path)
    loaded = buffer(after)
    load_replay(loaded, tmp_path)
    assert (len(loaded), loaded.num_added) == (full, saved.num_added), "nothing is lost by the change itself"

    def stored_times():
        return set(loaded.sample(4000, rng, gamma=0.9).obs[0, :, 0, 0].long().tolist())

    assert stored_times() == {int(t) for r in saved.rings.values() for t in r.rows["obs"][r.starts(1), 0, 0, 0]}
    for i in range(8):
        for source in sources(after):
            fill(loaded, num_rollouts=1, rng=rng, source=source, start=10_000 * (source + 1) + 5 * i)
            assert len(loaded) <= 120
        if i == 2:  # a kill in between changes nothing
            folder = tmp_path / "again"
            folder.mkdir()
            Snapshot(replay=snapshot_replay(loaded)).write(folder)
            loaded = buffer(after)
            load_replay(loaded, folder)
    assert set(loaded.rings) == set(sources(after))
    assert min(stored_times()) >= 10_000


def test_sources_stay_apart_and_are_drawn_by_what_they_hold():
    replay, rng = TeamReplay(600, num_sources=2), np.random.default_rng(0)
    fill(replay, num_rollouts=1, rng=rng, source=1, B=2)
    fill(replay, num_rollouts=3, rng=rng, source=2, B=4, start=1000)
    batch = replay.sample(7_000, rng, gamma=1.0)
    from_second = batch.obs[0, :, 0, 0] >= 1000
    assert abs(float(from_second.float().mean()) - 60 / 70) < 0.02
    sequences = replay.sample(500, rng, length=4, gamma=1.0)
    assert torch.equal(sequences.obs[1:, :, 0, 0], sequences.obs[:-1, :, 0, 0] + 1)


# --- priorities -------------------------------------------------------------------------------------------------------


def by_priority(capacity, *, span=1, alpha=0.7, **sources):
    return TeamReplay(capacity, priorities=PriorityRule(alpha, span), **sources)


def draw(replay, num, rng, *, length=1, n_step=1, beta=0.5):
    return replay.sample_by_priority(num, rng, length=length, n_step=n_step, gamma=0.9, beta=beta)


def stored_priorities(replay):
    """(time, replica) -> priority of every start, as the rings tell it."""
    found = {}
    for ring in replay.rings.values():
        for row in ring.starts(replay.priorities.span):
            for b in range(ring.num_replicas):
                found[int(ring.rows["obs"][row, b, 0, 0]), b] = float(ring.priorities.values[row, b])
    return found


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


def test_starts_are_drawn_in_proportion_to_the_power_of_their_priority_and_weighted_against_it():
    replay, rng = by_priority(600, num_sources=2, alpha=0.6), np.random.default_rng(0)
    for source in (0, 1):
        fill(replay, num_rollouts=2, rng=rng, source=source, B=2 + source, start=1000 * source)
    every, _ = replay.sample_by_priority(400, rng, gamma=0.9, beta=1.0)
    assert torch.equal(every.weights, torch.ones(400)), "all are new, so none counts less"
    for ring in replay.rings.values():
        leaves = (ring.starts(1)[:, None] * ring.num_replicas + np.arange(ring.num_replicas)).ravel()
        replay.update_priorities([(ring.priorities, leaves)], rng.random(len(leaves)) ** 2)
    priorities = {(t + b / 10): p for (t, b), p in stored_priorities(replay).items()}
    keys, powers = np.array(list(priorities)), np.array(list(priorities.values())) ** 0.6
    chances, counts, num = powers / powers.sum(), np.zeros(len(keys)), 0
    for _ in range(40):
        batch, _ = replay.sample_by_priority(500, rng, gamma=0.9, beta=0.4)
        drawn = np.abs(batch.obs[0, :, 0, 0].numpy()[:, None] + batch.obs[0, :, 0, 1].numpy()[:, None] / 10 - keys)
        index = drawn.argmin(1)
        counts += np.bincount(index, minlength=len(keys))
        weights = (len(keys) * chances[index]) ** -0.4
        np.testing.assert_allclose(batch.weights.numpy(), weights / weights.max(), rtol=1e-4)
        num += 500
    # One sample from each S-th of the sum: counts vary less than independent draws', whose chi-square has mean 49.
    assert ((counts - num * chances) ** 2 / (num * chances)).sum() < 49
    assert counts.min() > 0


@pytest.mark.parametrize("steps", [3, 45])
def test_a_restored_buffer_has_the_priorities_of_the_saved_one(tmp_path, monkeypatch, steps):
    monkeypatch.setattr(replay_files, "STEPS_PER_SEGMENT", steps)
    one, previous = by_priority(60, span=3, num_sources=2, first_source=1), None
    for i in range(3):
        for source in (1, 2):
            fill(one, num_rollouts=1 + i, rng=np.random.default_rng(i), source=source, start=100 * i)
        for j in range(4):
            _, drawn = draw(one, 20, np.random.default_rng([i, j]), length=3)
            one.update_priorities(drawn, np.random.default_rng([i, j]).random(20) * (3 - i))
        previous = saved(one, tmp_path / str(i), previous)
        rule = {"num_sources": 2, "first_source": 1, "priorities": one.priorities}
        two = loaded(previous, 60, **rule)
        assert (two.max_priority, stored_priorities(two)) == (one.max_priority, stored_priorities(one))
        for _ in range(2):  # and they go on alike
            draws = [draw(r, 30, np.random.default_rng(7), length=3) for r in (one, two)]
            assert all(a is b or torch.equal(a, b) for a, b in zip(draws[0][0], draws[1][0], strict=True))
            for replay, (_, drawn) in zip((one, two), draws, strict=True):
                replay.update_priorities(drawn, np.linspace(0.0, 2.0, 30))
                fill(replay, num_rollouts=1, rng=np.random.default_rng(8), source=1, start=100 * i + 50)


def test_priorities_change_without_a_segment_being_written_again(tmp_path, monkeypatch):
    monkeypatch.setattr(replay_files, "STEPS_PER_SEGMENT", 30)
    replay, rng = by_priority(600), np.random.default_rng(0)
    fill(replay, num_rollouts=20, rng=rng)
    first = saved(replay, tmp_path / "first")
    _, drawn = draw(replay, 50, rng)
    replay.update_priorities(drawn, 2.0 + rng.random(50))
    second = saved(replay, tmp_path / "second", first)
    stats = {path.name: path.stat() for path in second.glob("replay/*")}
    assert sorted(n for n, s in stats.items() if s.st_nlink == 1) == [
        "0-0-00000010.open",
        "index.json",
        "priorities.open",
    ]
    assert stats["priorities.open"].st_size < 300 * 4 + 200
    assert stored_priorities(loaded(first, 600, priorities=replay.priorities)) != stored_priorities(replay)


def test_buffer_that_was_saved_without_priorities_starts_with_equal_ones(tmp_path):
    plain = TeamReplay(60)
    fill(plain, num_rollouts=3, rng=np.random.default_rng(0))
    replay = loaded(saved(plain, tmp_path / "a"), 60, priorities=PriorityRule(0.6, 1))
    assert set(stored_priorities(replay).values()) == {1.0}
    _, drawn = draw(replay, 10, np.random.default_rng(0))
    replay.update_priorities(drawn, np.ones(10))
    check_same_draws(plain, loaded(saved(replay, tmp_path / "b"), 60))


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
        replay.sample(1, rng, gamma=0.9)
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
        replay.sample(1, rng, length=2, n_step=2, gamma=0.9)


def test_arrays_that_an_environment_lacks_stay_absent():
    replay = TeamReplay(30)
    replay.add(rollout_of(with_extras=False, ends={(0, 0): "truncated"}))
    batch = replay.sample(8, np.random.default_rng(0), gamma=0.9)
    assert (batch.next_mask, batch.state, batch.next_state) == (None, None, None)
    doubled = batch.map(lambda v: v * 2)
    assert torch.equal(doubled.rewards, batch.rewards * 2)
    assert doubled.state is None

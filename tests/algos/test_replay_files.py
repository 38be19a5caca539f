import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from replays import (
    NaiveReplay,
    by_priority,
    check_against,
    check_same_draws,
    draw,
    fill,
    loaded,
    one_batch,
    saved,
    stored_priorities,
)

from algos import replay_files
from algos.priorities import PriorityRule
from algos.replay import TeamReplay
from algos.replay_files import load_replay, snapshot_replay
from algos.snapshots import Snapshot
from common.errors import IncompatibleError


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
            check_against(naive, one_batch(kept, 20, rng, gamma=0.9), length=1, n_step=1, gamma=0.9)


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
        written = now.write(folder / "now")
        for i, num in enumerate(meanwhile):
            fill(replay, num_rollouts=num, rng=rng, chance=0.3, start=100 * i)
        assert late.write(folder / "late") == written
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


def test_segments_of_another_length_are_not_taken_for_those_of_now(tmp_path, monkeypatch):
    monkeypatch.setattr(replay_files, "STEPS_PER_SEGMENT", 30)
    replay = TeamReplay(600)
    fill(replay, num_rollouts=20, rng=np.random.default_rng(0))
    first = saved(replay, tmp_path / "first")
    monkeypatch.setattr(replay_files, "STEPS_PER_SEGMENT", 60)
    second = saved(replay, tmp_path / "second", first)
    assert {path.stat().st_nlink for path in second.glob("replay/*")} == {1}
    for folder in (first, second):
        check_same_draws(replay, loaded(folder, 600))


def test_a_large_buffer_has_longer_segments(tmp_path, monkeypatch):
    assert replay_files.segment_steps(100_000) == replay_files.STEPS_PER_SEGMENT
    assert replay_files.segment_steps(10**7) == pytest.approx(10**7 / 256, rel=1e-3)
    monkeypatch.setattr(replay_files, "STEPS_PER_SEGMENT", 1)
    monkeypatch.setattr(replay_files, "_MOST_SEGMENTS", 8)
    replay = TeamReplay(600)
    fill(replay, num_rollouts=60, rng=np.random.default_rng(0))
    folder = saved(replay, tmp_path / "a")
    assert 8 <= len(list(folder.glob("replay/*.safetensors"))) <= 10
    check_same_draws(replay, loaded(folder, 600))


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
        return set(one_batch(loaded, 4000, rng, gamma=0.9).obs[0, :, 0, 0].long().tolist())

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
        "0-0-10-00000010.open",
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


@pytest.mark.parametrize("is_there", [False, True])
def test_checkpoint_before_that_has_no_buffer_or_is_gone_lends_nothing(tmp_path, is_there):
    replay = TeamReplay(60)
    fill(replay, num_rollouts=6, rng=np.random.default_rng(0))
    if is_there:
        (tmp_path / "before").mkdir()
    taken = snapshot_replay(replay, previous=tmp_path / "before")
    assert not taken.known
    assert taken.new.keys() == snapshot_replay(replay).new.keys()

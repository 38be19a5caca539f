import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common.manifests import MARKER_FILE, find_damage
from experiments.recovery import checkpoints as checkpoints_module
from experiments.recovery.checkpoints import TrialCheckpoints, rename_aside

ROOT = Path(__file__).resolve().parents[3]


def fill(text="x"):
    def write(folder):
        (folder / "part").mkdir()
        (folder / "part" / "weights").write_text(text * 1000)
        (folder / "state").write_text(text)

    return write


@pytest.fixture
def full(checkpoints):
    """Four checkpoints: 0, 1, 2 and 3."""
    for i in range(4):
        checkpoints.publish(fill(str(i)))
    return checkpoints


def names(paths):
    return [path.name for path in paths]


def numbers(checkpoints):
    return [int(path.name[-6:]) for path in checkpoints.published()]


def test_checkpoints_beyond_six_digits_go_on_by_number(checkpoints):
    for number in (999_998, 999_999, 1_000_000):
        checkpoints.publish(fill(str(number)), path=checkpoints.folder / f"checkpoint_{number:06d}")
    assert names(checkpoints.published())[-1] == checkpoints.newest_whole().name == "checkpoint_1000000"
    assert checkpoints.publish(fill()).name == "checkpoint_1000001"
    assert names(checkpoints.prunable(2)) == ["checkpoint_999998", "checkpoint_999999"]
    checkpoints.prune(2)
    assert names(checkpoints.published()) == ["checkpoint_1000000", "checkpoint_1000001"]


# --- publishing -------------------------------------------------------------------------------------------------------


def test_published_checkpoint_is_whole_and_numbered(full):
    assert names(full.published()) == [f"checkpoint_{i:06d}" for i in range(4)]
    assert all(find_damage(path) == [] for path in full.published())
    assert (full.newest_whole() / "state").read_text() == "3"
    assert sorted(names(full.folder.iterdir())) == sorted(names(full.folder.glob("checkpoint_*"))), (
        "nothing is left beside them"
    )


@pytest.mark.parametrize("moment", ["write", "half of the write", "seal", "rename"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_publishing_that_fails_leaves_what_was_there(full, monkeypatch, moment, error):
    def write(folder):
        if moment == "write":
            raise error
        fill("new")(folder)
        if moment == "half of the write":
            raise error

    def fail(*args, **kwargs):
        raise error

    with monkeypatch.context() as patch:
        if moment == "seal":
            patch.setattr(checkpoints_module, "seal", fail)
        if moment == "rename":
            patch.setattr(checkpoints_module.os, "rename", fail)
        with pytest.raises(type(error)):
            full.publish(write)
    assert sorted(names(full.folder.iterdir())) == names(full.published())
    assert full.newest_whole().name == "checkpoint_000003"
    assert full.publish(fill()).name == "checkpoint_000004", "the next one succeeds"


@pytest.mark.parametrize("call", ["writev", "fsync"])
def test_full_disk_while_sealing_leaves_what_was_there(full, monkeypatch, call):
    def refuse(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(OSError, match="No space left"):
            full.publish(fill())
    assert sorted(names(full.folder.iterdir())) == names(full.published())


def test_file_has_no_checkpoints(tmp_path):
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "missing"):
        assert TrialCheckpoints(folder).published() == TrialCheckpoints(folder).damaged() == []


def test_leftovers_of_a_kill_are_neither_listed_nor_kept(full):
    staged = full.folder / ".publishing-checkpoint_000004"
    fill()(staged.mkdir() or staged)
    deleting = full.folder / ".publishing-deleting-checkpoint_000000"
    deleting.mkdir()
    assert numbers(full) == [0, 1, 2, 3]
    assert full.newest_whole().name == "checkpoint_000003"
    full.publish(fill())
    assert not staged.exists()
    assert not deleting.exists()


CHILD = """
import sys
from pathlib import Path
from experiments.recovery.checkpoints import TrialCheckpoints
checkpoints = TrialCheckpoints(Path(sys.argv[1]))
while True:
    def write(folder):
        for i in range(6):
            (folder / f"part_{i}").write_bytes(bytes([i]) * 30_000)
    checkpoints.publish(write)
    checkpoints.prune(2)
    print(flush=True)
"""


def test_writer_killed_at_any_instant_leaves_only_whole_checkpoints(checkpoints):
    dice, newest = random.Random(0), -1
    for _ in range(8):
        with subprocess.Popen(
            [sys.executable, "-c", CHILD, str(checkpoints.folder)],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            start_new_session=True,
        ) as child:
            child.stdout.readline()
            time.sleep(dice.random() * 0.05)
            os.killpg(child.pid, signal.SIGKILL)
        assert checkpoints.published()
        for path in checkpoints.published():
            assert find_damage(path) == [], path.name
        assert len(checkpoints.published()) <= 3
        assert max(numbers(checkpoints)) > newest
        newest = max(numbers(checkpoints))
    assert checkpoints.damaged() == []


# --- verifying --------------------------------------------------------------------------------------------------------


def test_damaged_ones_are_set_aside_until_one_is_whole(full):
    newest, before = full.published()[-1], full.published()[-2]
    (newest / "part" / "weights").unlink()
    (newest / "more").write_text("x")
    os.truncate(before / "state", 0)
    lines = []
    assert full.newest_whole(lines.append).name == "checkpoint_000001"
    assert names(full.damaged()) == ["damaged-checkpoint_000002", "damaged-checkpoint_000003"]
    assert lines == [
        "checkpoint checkpoint_000003 is damaged, part/weights: is missing (and 1 more): "
        "set aside as damaged-checkpoint_000003",
        "checkpoint checkpoint_000002 is damaged, state: has 0 bytes instead of 1: "
        "set aside as damaged-checkpoint_000002",
    ]
    assert (full.folder / "damaged-checkpoint_000003" / "more").read_text() == "x", "nothing is deleted"


def test_none_is_whole_where_all_are_damaged(full):
    for path in full.published():
        (path / MARKER_FILE).unlink()
    assert full.newest_whole(lambda line: None) is None
    assert len(full.damaged()) == 4
    assert full.published() == []


def test_damaged_ones_of_somebody_who_writes_to_them_are_passed_over_and_stay(full):
    before = full.published()
    (before[-1] / MARKER_FILE).unlink()
    lines = []
    assert full.newest_whole(lines.append, may_rename=False) == before[-2]
    assert full.newest_whole(None, may_rename=False) == before[-2]
    assert full.published() == before
    assert [line.rsplit(": ", 1)[1] for line in lines] == ["passed over"]


def test_damaged_one_that_can_be_brought_back_is_the_newest(full, tmp_path):
    newest, asked = full.published()[-1], []
    copy = shutil.copytree(newest, tmp_path / "elsewhere")
    for path in full.published()[-2:]:
        (path / MARKER_FILE).unlink()

    def bring_back(path):
        asked.append(path)
        return bool(path == newest and shutil.copytree(copy, path))

    assert full.newest_whole(lambda line: None, bring_back=bring_back) == newest
    assert asked == [newest], "older ones are not asked for"
    assert names(full.damaged()) == ["damaged-checkpoint_000002", "damaged-checkpoint_000003"]
    assert full.newest_whole(lambda line: None, bring_back=lambda path: False) == newest


def test_numbers_are_never_used_twice(full):
    for _ in range(2):
        newest = full.published()[-1]
        shutil.rmtree(newest / "part")
        full.newest_whole(lambda line: None)
    assert names(full.damaged()) == ["damaged-checkpoint_000002", "damaged-checkpoint_000003"]
    assert full.publish(fill()).name == "checkpoint_000004"


def test_two_damaged_ones_of_one_name_both_stay(full):
    path = full.published()[0]
    first = rename_aside(path)
    shutil.copytree(first, path)
    assert rename_aside(path).name == "damaged-checkpoint_000000-2"
    assert len(full.damaged()) == 2


def test_empty_or_missing_folder_has_none(checkpoints):
    assert (checkpoints.published(), checkpoints.damaged(), checkpoints.newest_whole()) == ([], [], None)
    assert checkpoints.next_path().name == "checkpoint_000000"


def test_other_names_are_left_alone(full):
    for name in ("checkpoint_best", "best_checkpoint", "checkpoint_0000001", "notes"):
        (full.folder / name).mkdir()
    (full.folder / "checkpoint_000009").write_text("a file")
    assert numbers(full) == [0, 1, 2, 3]
    full.prune(1)
    assert (full.folder / "checkpoint_best").is_dir()


# --- keeping ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keep", "left"), [(-1, [3]), (0, [3]), (1, [3]), (2, [2, 3]), (4, [0, 1, 2, 3]), (9, [0, 1, 2, 3])]
)
def test_newest_are_kept_and_never_fewer_than_one(full, keep, left):
    assert [int(path.name[-6:]) for path in full.prunable(keep)] == [i for i in range(4) if i not in left]
    full.prune(keep)
    assert numbers(full) == left


def test_every_kth_stays(full):
    for _ in range(4):
        full.publish(fill())
    full.prune(1, keep_every=3)
    assert numbers(full) == [0, 3, 6, 7]


def of_worth(value, steps, *, is_best=True, metric="sharpe", mode="max"):
    """A checkpoint that says what it reached, when, and whether it was the best; the clock is set back all the time."""
    meta = {"timestamp": f"2026-01-01T00:00:{59 - steps:02d}+00:00", "is_best": is_best, "total_steps": steps}
    meta |= {"metric_name": metric, "metric_value": value, "metric_mode": mode}
    return lambda folder: (folder / "checkpoint_meta.json").write_text(json.dumps(meta)) and None


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize(
    ("kept", "spared"),
    [
        (None, 2),  # there is no copy
        ((0.5, 0), 2),  # of the best before
        ((0.7, 20), None),  # of this one
        ((0.7, 10), 2),  # of an equal one before it
        ((0.7, 30), None),  # of an equal one after it, which is gone
        ((0.9, 40), None),  # of a better one, which is gone
        ((0.9, 10), None),  # of a better one before the run was told to go back
        ((None, 40), 2),  # of one that was worth nothing
        ((9.9, 10, "return"), 2),  # of one before another metric was chosen
        ((0.1, 40, "return"), None),  # of one after that, which is gone
        ("damage", 2),
    ],
)
def test_best_stays_until_it_has_been_copied(tmp_path, kept, spared, mode):
    def worth(value, *given, **more):
        return of_worth(value if value is None or mode == "max" else -value, *given, mode=mode, **more)

    checkpoints = TrialCheckpoints(tmp_path)
    for i, value in enumerate((0.5, 0.1, 0.7, 0.2, 0.3)):
        checkpoints.publish(worth(value, 10 * i, is_best=i in (0, 2)))
    best = tmp_path / "best_checkpoint"
    if kept is not None:
        best.mkdir()
        if kept == "damage":
            (best / "checkpoint_meta.json").write_text("{")
        else:
            value, steps, *metric = kept
            worth(value, steps, **({"metric": metric[0]} if metric else {}))(best)
    owed = checkpoints.owed_best()
    assert (owed and int(owed.name[-6:])) == spared
    checkpoints.prune(1)
    assert numbers(checkpoints) == sorted({4} | ({spared} if spared is not None else set()))


def test_delete_that_is_cut_short_leaves_no_half_checkpoint(full, monkeypatch):
    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints_module, "_delete", killed)
        with pytest.raises(KeyboardInterrupt):
            full.prune(1)
    assert numbers(full) == [1, 2, 3]
    assert all(find_damage(path) == [] for path in full.published())
    full.sweep()
    assert sorted(names(full.folder.iterdir())) == sorted(names(full.folder.glob("checkpoint_*")))


def test_what_could_not_be_deleted_is_deleted_at_the_next_save(full, monkeypatch):
    def stubborn(path, **kwargs):
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", stubborn)
        full.prune(1)
    assert numbers(full) == [3]
    assert len(list(full.folder.glob(".publishing-deleting-*"))) == 3
    full.publish(fill())
    assert list(full.folder.glob(".publishing-*")) == []
    full.prune(1)
    assert [path.name for path in full.folder.iterdir()] == ["checkpoint_000004"]


@pytest.mark.parametrize(
    ("followers", "keep", "left"),
    [(0, 1, [1, 3]), (1, 2, [1, 3, 4]), (2, 2, [4, 5]), (1, 1, [4]), (1, 9, [0, 1, 2, 3, 4])],
)
def test_checkpoint_that_was_gone_back_to_stays_until_all_that_stay_follow_it(full, followers, keep, left):
    named = {"checkpoint": "trial_0/checkpoint_000001", "asked_at": "2026-01-01"}
    (full.folder.parent / "config.json").write_text(json.dumps({"resume_from": named}))

    def write(folder):
        (folder / "run_state.json").write_text(json.dumps({"resume_from": named}))

    for _ in range(followers):
        full.publish(write)
    full.prune(keep)
    assert numbers(full) == left

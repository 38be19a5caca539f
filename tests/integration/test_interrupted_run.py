"""A run that was interrupted and then killed carries on, by the same command and by plain Tune."""

import json
import os
import shutil

import pytest
from commands import QMIX, Started, checkpoints, episodes_shown, readme_script, run_command, run_script, summary, tree


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A run that was first interrupted, then carried on and killed; with the exit code and summary in between.

    Beside it, in ``first``, lies what it was after the interrupt.
    """
    folder = tmp_path_factory.mktemp("runs") / "killed"
    words = [*QMIX, "--episodes", "400"]
    with Started(folder, *words) as started:
        started.wait_for_episodes(16)
        code = started.interrupt()
    between = summary(folder) | {"shown": episodes_shown(started.out.read_text())}
    assert not (folder / "backtest").exists()
    shutil.copytree(folder, folder.with_name("first"))
    with Started(folder, *words) as started:
        started.wait_for_episodes(between["episodes"] + 24)
        started.kill()
    return folder, words, code, between


def test_interrupted_run_says_so(killed):
    _, _, code, between = killed
    assert code == 130
    assert between["status"] == "interrupted"
    assert between["episodes"] == max(between["shown"]) >= 16, "the last thing that it did is in a checkpoint"


def test_killed_run_carries_on_from_its_newest_checkpoint(killed, tmp_path):
    """In another place, too: the folder holds all that is needed."""
    folder, words, _, between = killed
    moved = shutil.copytree(folder, tmp_path / "killed")
    newest = summary(moved)["episodes"]
    assert newest >= between["episodes"] + 24
    log = (moved / "train.log").read_text()
    done = run_command(moved, *words[:-1], newest + 32)
    assert done.returncode == 0, done.stderr
    assert min(episodes_shown(done.stdout)) >= newest - 8, "at most one checkpoint interval is lost"
    assert summary(moved)["status"] == "complete"
    assert summary(moved)["episodes"] == newest + 32
    assert (moved / "train.log").read_text().startswith(log)
    assert len(checkpoints(moved)) == 2
    assert summary(folder)["status"] == "running"


@pytest.mark.parametrize(
    ("session", "are_emptied"),
    [
        ("killed", True),
        pytest.param("first", False, marks=pytest.mark.slow),
        pytest.param("first", True, marks=pytest.mark.slow),
        pytest.param("killed", False, marks=pytest.mark.slow),
    ],
    ids=["killed while Tune copied its files", "first", "first while Tune copied its files", "killed"],
)
def test_plain_tune_restores_the_folder(killed, tmp_path, session, are_emptied):
    folder, *_ = killed
    moved = shutil.copytree(folder.with_name(session), tmp_path / "killed")
    if are_emptied:
        for pattern in ("tuner.pkl", "experiment_state-*.json", "basic-variant-state-*.json"):
            os.truncate(max(moved.glob(pattern)), 0)
    newest = summary(moved)["episodes"]
    record = json.loads((moved / "config.json").read_text())
    record["config"]["episodes"] = newest + 16
    (moved / "config.json").write_text(json.dumps({**record, "format": 1}))  # without a checksum
    (moved / "stop_requested").write_text("SIGTERM")  # of the process that was killed then
    script = readme_script("Tuner.restore").replace("results/dow", str(moved))
    done = run_script(script + "assert not results.num_errors\n")
    assert done.returncode == 0, done.stderr
    assert summary(moved)["episodes"] == newest + 16
    assert summary(moved)["latest_checkpoint"] == str(checkpoints(moved)[-1].relative_to(moved))


def test_plain_tune_starts_nothing_over_a_run_that_has_lost_its_checkpoints(killed, tmp_path):
    folder, *_ = killed
    moved = shutil.copytree(folder, tmp_path / "killed")
    for path in checkpoints(moved):
        shutil.rmtree(path)
    before = tree(moved)
    done = run_script(readme_script("Tuner.restore").replace("results/dow", str(moved)))
    assert done.returncode == 1
    assert "has lost its checkpoints (best_checkpoint is left), nothing is started over it" in done.stderr
    bare = readme_script("Tuner.restore").replace('restorable("results/dow")', repr(str(moved)))
    done = run_script(bare + "assert 'has lost its checkpoints' in str(results.errors[0])\n")
    assert done.returncode == 0, done.stderr
    kept = {name for name in before if name.endswith(("result.json", "progress.csv")) or "best_checkpoint" in name}
    assert len(kept) > 2
    assert {name: tree(moved)[name] for name in kept} == {name: before[name] for name in kept}
    assert checkpoints(moved) == []

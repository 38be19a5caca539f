"""Models whose files are not what was written, or not of the run that they lie in."""

import json
import shutil

import pytest
from commands import QMIX, checkpoints, meta, run_here, summary, tree

from experiments.backtest import run as backtest
from experiments.command_line import exit_code
from experiments.recovery.lock import run_lock
from experiments.run import run

pytestmark = pytest.mark.usefixtures("ray_session")
EPISODES = 24


@pytest.fixture(scope="module")
def first(tmp_path_factory, ray_session):
    folder = tmp_path_factory.mktemp("runs") / "first"
    assert run_here(folder, *QMIX, "--episodes", EPISODES) == 0
    return folder


@pytest.fixture
def model(first, tmp_path):
    """A finished run, moved."""
    return shutil.copytree(first, tmp_path / "dow")


def weights_of(checkpoint):
    return checkpoint / "weights.safetensors"


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize("harm", [flip, cut])
def test_damaged_best_checkpoint_gives_way_to_the_newest_whole_one(model, capsys, harm):
    best, newest = model / "trial_0" / "best_checkpoint", checkpoints(model)[-1]
    harm(weights_of(best))
    assert exit_code(backtest, ["--model", str(model)]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert f"best checkpoint {best} is damaged, weights.safetensors" in shown.out
    assert "set aside as damaged-best_checkpoint" in shown.out
    assert f"taken from its latest whole checkpoint: {newest.name}" in shown.out
    assert (best.parent / "damaged-best_checkpoint").is_dir()
    assert exit_code(backtest, ["--model", str(model)]) == 0
    assert "is damaged" not in capsys.readouterr().out


def test_every_damaged_checkpoint_is_passed_over(model, capsys):
    for path in (model / "trial_0" / "best_checkpoint", checkpoints(model)[-1]):
        flip(weights_of(path))
    words = ["--name", model.name, "--storage", str(model.parent), "--skip-training"]
    older = checkpoints(model)[0]
    assert exit_code(run, words) == 0
    assert f"taken from its latest whole checkpoint: {older.name}" in capsys.readouterr().out
    flip(weights_of(older))
    for _ in range(2):  # the second time all of them have been set aside
        assert exit_code(run, words) == 2
        assert "has no checkpoint that is whole any more" in capsys.readouterr().err


def test_damaged_checkpoint_that_was_named_is_refused(model, capsys):
    newest = checkpoints(model)[-1]
    flip(weights_of(newest))
    before = tree(model)
    assert exit_code(backtest, ["--model", str(newest)]) == 2
    shown = capsys.readouterr()
    assert f"{newest} is damaged, weights.safetensors" in shown.err
    assert shown.err.count("\n") == 1
    assert tree(model) == before


def test_damage_in_a_run_that_is_being_written_is_passed_over_and_stays(model, capsys):
    best = model / "trial_0" / "best_checkpoint"
    flip(weights_of(best))
    with run_lock(model):
        assert exit_code(backtest, ["--model", str(model)]) == 0
    assert "left where it is" in capsys.readouterr().out
    assert best.is_dir()


def test_weights_to_start_from_are_verified(model, tmp_path, capsys):
    flip(weights_of(model / "trial_0" / "best_checkpoint"))
    words = ["--load-model", model, "--qmix.learning-starts", "1000000", "--episodes", "8"]
    assert run_here(tmp_path / "second", *words) == 0
    assert "set aside as damaged-best_checkpoint" in capsys.readouterr().out
    newest = summary(model)["latest_checkpoint"]
    assert summary(tmp_path / "second")["weights_sha256"] == meta(model / newest)["weights_sha256"]
    words = ["--name", "second", "--storage", str(tmp_path), "--skip-training"]
    assert exit_code(run, words) == 0, "a run that began with other weights is tested by its own"
    assert "model second" in capsys.readouterr().out


def test_resumed_run_replaces_its_damaged_best_checkpoint(model, capsys):
    best = model / "trial_0" / "best_checkpoint"
    value, left = meta(best)["metric_value"], {meta(path)["metric_value"]: path for path in checkpoints(model)}
    flip(weights_of(best))
    for path in checkpoints(model)[:-1]:
        if meta(path)["metric_value"] == value:
            flip(weights_of(path))
            left.pop(value)
    assert run_here(model, "--episodes", EPISODES + 16) == 0
    shown = capsys.readouterr().out
    assert "best_checkpoint is damaged" in shown
    assert f"{left[max(left)].name} is the best that is left" in shown
    reached = [meta(path)["metric_value"] for path in checkpoints(model)]
    assert summary(model)["best_metric"]["value"] == max(max(left), *reached)
    assert summary(model)["best_checkpoint"] == "trial_0/best_checkpoint"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [({"qmix": {"hypernet_hidden": 32}}, "mixer"), ({"algo": "vdn"}, "mixer"), ({"algo": "dqn"}, "networks")],
)
def test_checkpoint_of_other_networks_than_its_run_describes_is_refused(model, capsys, changes, complaint):
    record = json.loads((model / "config.json").read_text())
    for key, value in changes.items():
        record["config"][key] = {**record["config"][key], **value} if isinstance(value, dict) else value
    (model / "config.json").write_text(json.dumps({**record, "format": 1}))  # without a checksum
    before = tree(model)
    assert exit_code(backtest, ["--model", str(model)]) == 2
    shown = capsys.readouterr().err
    assert "was not made by the run that" in shown
    assert complaint in shown
    assert tree(model) == before


def test_folder_of_a_trial_means_its_best_checkpoint(model, tmp_path, capsys):
    trial = model / "trial_0"
    for expected in ("best checkpoint", "latest checkpoint"):
        assert exit_code(backtest, ["--model", str(trial), "--out", str(tmp_path / "out")]) == 0
        assert expected in capsys.readouterr().out
        shutil.rmtree(trial / "best_checkpoint", ignore_errors=True)

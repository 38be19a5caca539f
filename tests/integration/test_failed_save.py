"""The last checkpoint of a run cannot be saved: the command says so, and given again it makes up for it."""

import json

import pytest
from commands import QMIX, checkpoints, meta, run_here, summary

from experiments.recovery.checkpoints import STAGED_PREFIX
from experiments.runs.record import write_run_record
from experiments.runs.run import find_run
from experiments.settings.run_config import config_to_json

pytestmark = pytest.mark.usefixtures("ray_session")


def test_run_whose_last_checkpoint_could_not_be_saved_has_failed_and_is_made_up_for(tmp_path, capsys):
    folder = tmp_path / "results" / "full"
    obstacle = folder / "trial_0" / f"{STAGED_PREFIX}checkpoint_000002"
    obstacle.parent.mkdir(parents=True)
    obstacle.write_text("in the way of the third checkpoint")
    config = find_run(["--storage", str(folder.parent), "--name", folder.name, *QMIX]).config
    write_run_record(folder, config=config_to_json(config), provenance={}, scaler=None, agents=None)
    assert run_here(folder, *QMIX, "--episodes", 24, "--json", tmp_path / "out.json") == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "the last checkpoint could not be saved ([Errno 17] File exists" in errors[0]
    assert f"{folder.absolute()} keeps 16 of 24 episodes, and the same command trains the others again" in errors[0]
    assert errors[0] in (folder / "train.log").read_text()
    assert (summary(folder)["status"], summary(folder)["episodes"]) == ("failed", 16)
    assert json.loads((tmp_path / "out.json").read_text())["summary"] == summary(folder)
    assert [meta(path)["episode"] for path in checkpoints(folder)] == [8, 16]
    assert not (folder / "backtest").exists()

    obstacle.unlink()
    assert run_here(folder, *QMIX, "--episodes", 24) == 0
    assert (summary(folder)["status"], summary(folder)["episodes"]) == ("complete", 24)
    assert [meta(path)["episode"] for path in checkpoints(folder)] == [16, 24]
    assert not (folder / "trial_0" / "save_error.txt").exists()
    lines = [json.loads(line) for line in (folder / "trial_0" / "result.json").read_text().splitlines()]
    iterations = [line["training_iteration"] for line in lines]
    assert iterations == sorted(set(iterations))

"""A run that fails again and again from the same checkpoint is given up loudly, and never called finished."""

import pytest
from commands import QMIX, checkpoints, meta, run_here, summary

from experiments.tuning import trainables

pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.fixture
def no_samples(monkeypatch):
    """Every iteration after the first checkpoint samples nothing, as when all runners are dead."""

    def stalling(run):
        class FloorQMIX(trainables.FloorQMIX):  # in a function, so that workers get it by value
            @classmethod
            def make(cls, config, **kwargs):
                made = super().make(config, **kwargs)
                require = made._require_progress

                def require_progress(before, now):
                    if made.num_episodes > 8:
                        with (made._run_folder / "tries").open("a") as file:
                            file.write("x")
                        made._steps_before = made.num_env_steps
                    require(before, now)

                made._require_progress = require_progress
                return made

        return FloorQMIX

    with monkeypatch.context() as patch:
        patch.setattr(trainables, "trainable_class", stalling)
        yield patch


def test_run_that_has_used_up_its_failures_has_failed_loudly_and_is_made_up_for(tmp_path, capsys, no_samples):
    folder = tmp_path / "results" / "stalls"
    words = [*QMIX, "--episodes", 24, "--max-failures", 2]
    assert run_here(folder, *words) == 1
    shown = capsys.readouterr()
    wanted = "error: training failed: experiments.tuning.run_trainable.StalledError: an iteration sampled nothing"
    (error,) = [line for line in shown.err.splitlines() if line.startswith("error: ")]
    assert error.startswith(wanted)
    assert "the last good checkpoint is kept; details in" in shown.err
    assert (folder / "tries").read_text() == "xxx", "it was tried again twice"
    assert (summary(folder)["status"], summary(folder)["episodes"]) == ("failed", 8)
    assert [meta(path)["episode"] for path in checkpoints(folder)] == [8]
    assert not (folder / "backtest").exists()
    assert "complete" not in shown.out
    told = [line for line in shown.err.splitlines() if "it goes on from its newest checkpoint" in line]
    assert [line[-14:] for line in told] == ["(1 of 2 times)", "(2 of 2 times)"]
    assert all(line.startswith("training failed (") and "an iteration sampled nothing" in line for line in told)
    log = (folder / "train.log").read_text()
    assert log.count('File "') >= 3, "each with its traceback"
    assert 'File "' not in shown.err

    assert run_here(folder, *words) == 1
    assert (folder / "tries").read_text() == "xxxxxx", "and as often by the same command"
    no_samples.undo()
    assert run_here(folder, *words) == 0
    assert (summary(folder)["status"], summary(folder)["episodes"]) == ("complete", 24)

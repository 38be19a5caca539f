"""A run that is asked to stop in an evaluation of many bars writes its checkpoint at once, and evaluates it later."""

import json
import math
import signal
import time

import pytest
from commands import CLOCK, Started, checkpoints, summary

WORDS = ["--data.synthetic.num-assets", "3", "--data.synthetic.num-bars", "90000", "--floor.horizon-bars", "20", *CLOCK]
WORDS += ["--qmix.num-envs-per-env-runner", "8", "--qmix.learning-starts", "64", "--episodes", "16"]
WORDS += ["--data.validation", "0.39", "--data.test", "0.01"]


def wait_for(started, words):
    """Wait until a command has said some words."""
    deadline = time.monotonic() + 180
    while words not in (said := started.out.read_text()):
        assert started.process.poll() is None, said
        assert time.monotonic() < deadline, said
        time.sleep(0.1)


@pytest.mark.slow
def test_a_signal_in_a_long_evaluation_is_obeyed_and_the_evaluation_made_up_for(tmp_path):
    folder = tmp_path / "long"
    with Started(folder, *WORDS) as started:
        wait_for(started, "bars, about ")
        begun = time.monotonic()
        assert started.interrupt(signal.SIGTERM) == 130
        assert time.monotonic() - begun < 60
        assert "evaluation left: it comes first when the run goes on" in started.out.read_text()
    assert summary(folder)["status"] == "interrupted"
    assert len(checkpoints(folder)) == 1
    with Started(folder, *WORDS) as started:
        wait_for(started, "validation: profit")
        started.interrupt(signal.SIGTERM)
    left, made_up = [json.loads(line) for line in (folder / "trial_0" / "result.json").read_text().splitlines()[:2]]
    assert left["episodes"] == made_up["episodes"]
    assert (left["is_evaluated"], made_up["is_evaluated"]) == (False, True)
    assert left["sharpe"] is None or math.isnan(left["sharpe"])
    assert math.isfinite(made_up["sharpe"])

"""An environment may call its agents anything: no name leads out of a checkpoint or an export, and none is lost."""

import json
import os

import numpy as np
import pytest
from commands import run_here

from algos.file_names import file_stems
from experiments.checkpoints import run
from experiments.command_line import exit_code
from experiments.runs.models import load_policy

NAMES = ["a/b", "..", "../x", "CON", "ü", "mixer", "Left", "left", "left.targets", "x" * 300, " ", ""]


def test_plain_names_are_file_names_and_all_others_get_one_of_their_own():
    stems = file_stems(NAMES, taken=("mixer", "critic"), endings=(".targets",))
    assert list(stems) == NAMES
    assert stems["Left"] == "Left"
    others = {name: stem for name, stem in stems.items() if name != "Left"}
    assert others == {name: f"agent-{NAMES.index(name) + 1}" for name in others}
    assert file_stems(["agent-2", "ü"]) == {"agent-2": "agent-2", "ü": "agent-2-2"}


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize(
    "words",
    [
        ["--qmix.num-envs-per-env-runner", "4", "--qmix.learning-starts", "16"],
        ["--algo", "ppo", "--ppo.num-envs-per-env-runner", "4", "--ppo.train-batch-size-per-learner", "64",
         "--ppo.minibatch-size", "32", "--ppo.num-epochs", "1", "--ppo.use-shared-networks", "False"],
    ],
    ids=["one network with a mixer", "networks of their own"],
)  # fmt: skip
def test_agents_of_any_name_are_trained_exported_and_loaded(tmp_path, words):
    folder, out = tmp_path / "results" / "walk", tmp_path / "out"
    env = ["--env", "foreign_envs:WalkOfAnyName", "--evaluation-episodes", "2", "--episodes", "8"]
    clock = ["--checkpoint-interval", "8", "--evaluation-interval", "8", "--checkpoint-interval-s", "0"]
    assert run_here(folder, *env, *clock, *words) == 0
    assert exit_code(run, ["export", str(folder), "--out", str(out)]) == 0
    assert sorted(os.listdir(tmp_path)) == ["mine", "out", "results"]
    assert sorted(os.listdir(folder.parent)) == ["walk"]
    policy, again = load_policy(folder), load_policy(out)
    assert policy.agent_ids == ("../x", "mixer", "Left", "left", "ü")
    seen = {name: np.full(2, n / 5, np.float32) for n, name in enumerate(policy.agent_ids)}
    assert policy(seen) == again(seen)
    files = json.loads((out / "summary.json").read_text())["files"]
    assert set(policy.agent_ids) <= set(files)
    names = [name.casefold() for of_one in files.values() for name in of_one]
    assert len(names) == len(set(names)), "two agents' files are one where capitals do not count"
    assert {out / name for of_one in files.values() for name in of_one} <= set(out.iterdir())

import shutil
from random import Random

import pytest
from commands import CLOCK, MARKET, PPO, QMIX, checkpoints, run_command, run_here, summary
from comparing import records
from killing import CHECKPOINTED, kill_once

DQN = [*MARKET, *CLOCK, "--algo", "dqn", "--dqn.learning-starts", "64", "--dqn.num-envs-per-env-runner", "2"]
RUNS = {"qmix": QMIX, "ppo": PPO, "dqn": DQN}
KEPT = ["--keep", "9", "--episodes", "40"]
INSTANTS = (
    "experiments.tuning.branching:find_damage:after:2",  # copied, but not yet under its name
    "experiments.tuning.session:adopt:after:1",
    f"{CHECKPOINTED}._branch_off:after:1",
    f"{CHECKPOINTED}.save:before:1",
)


@pytest.mark.faults
def test_branch_killed_before_its_first_checkpoint_starts_again_from_its_parents(tmp_path):
    parent, folder = tmp_path / "parent", tmp_path / "branch"
    assert run_command(parent, *QMIX, *KEPT).returncode == 0
    source = checkpoints(parent)[1]
    wanted, words = summary(parent), ["--branch-from", source]
    for at in INSTANTS:
        assert kill_once(folder, words, at, Random(0)) == "killed"
        assert checkpoints(folder) == []
        if "save" in at:
            shutil.rmtree(parent)
    ended = run_command(folder, *words)
    assert ended.returncode == 0, ended.stderr
    found = summary(folder)
    assert {k: found[k] for k in ("episodes", "env_steps", "weights_sha256")} == {
        k: wanted[k] for k in ("episodes", "env_steps", "weights_sha256")
    }


@pytest.mark.parametrize("name", [n if n == "qmix" else pytest.param(n, marks=pytest.mark.faults) for n in RUNS])
def test_branch_without_changes_is_the_run_that_it_came_from(ray_session, tmp_path, name, capsys):
    folder = tmp_path / name
    assert run_here(folder, *RUNS[name], *KEPT) == 0
    source = checkpoints(folder)[1]
    assert run_here(tmp_path / "branch", "--branch-from", source) == 0
    assert "branched off" in capsys.readouterr().out
    mine, theirs = summary(tmp_path / "branch"), summary(folder)
    for key in ("episodes", "env_steps", "agent_steps", "weights_sha256", "metrics"):
        assert mine[key] == theirs[key]
    lines = records(tmp_path / "branch")
    assert 0 < len(lines) < len(records(folder))
    for a, b in zip(lines, records(folder)[-len(lines) :], strict=True):
        differing = {key for key in a.keys() | b.keys() if a.get(key) != b.get(key)}
        assert differing <= {"/best_score", "/is_best", "/experiment_tag", "/trial_id"}

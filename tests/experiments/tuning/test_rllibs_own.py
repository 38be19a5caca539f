"""RLlib's own algorithms on our path: a new capital, and runners that answer no more."""

import os
import signal
from dataclasses import replace

import pytest
from sample_runs import config_of, train_run

from experiments.settings.run_config import config_to_json
from experiments.tuning import run_trainable
from experiments.tuning.run_trainable import StalledError, algorithm_class

pytestmark = pytest.mark.usefixtures("ray_session")
DQN = {"learning_starts": 64, "num_envs_per_env_runner": 2, "rollout_fragment_length": 4}


def made(run):
    return algorithm_class(run)({"run": config_to_json(run)})


def floors(algorithm):
    return [env.unwrapped.floor.get_state() for env in algorithm.env_runner.env.envs]


@pytest.mark.parametrize("capital", [1e6, 1e7])
def test_episodes_begin_anew_with_another_capital_and_else_go_on(tmp_path, capital):
    run = train_run(tmp_path / "run", config_of("dqn", dqn=DQN, floor={"horizon_bars": 23}))
    run = replace(run, floor=replace(run.floor, capital=capital))
    restored = made(run)
    try:
        restored.load_checkpoint(str(next((tmp_path / "run").glob("trial_0/checkpoint_*"))))
        before = floors(restored)
        sampled = restored.env_runner.sample(num_timesteps=2)
        after = floors(restored)
    finally:
        restored.stop()
    assert not any(episode.is_terminated for episode in sampled), "no account of before was ruined by the new capital"
    for old, new in zip(before, after, strict=True):
        assert all(new[name] == old[name] for name in ("seed", "clock.episode")) == (capital == 1e6)
        assert 0.9 * capital < new["books.equity"].sum() < 1.1 * capital


@pytest.mark.slow
def test_runners_that_answer_no_more_are_a_failure(monkeypatch):
    monkeypatch.setattr(run_trainable, "IDLE_LIMIT_S", 5.0)
    run = config_of("dqn", dqn=DQN, hang_timeout_s=0.0)
    algorithm = made(replace(run, scaling=replace(run.scaling, num_env_runners=1)))
    (pid,) = algorithm.env_runner_group.foreach_env_runner(lambda runner: os.getpid(), local_env_runner=False)
    try:
        assert algorithm.step()["total_steps"] > 0
        algorithm.config._is_frozen = False
        algorithm.config.sample_timeout_s = 1.0
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(StalledError, match="nothing was sampled for 5 s"):
            algorithm.step()
    finally:
        os.kill(pid, signal.SIGCONT)
        algorithm.stop()

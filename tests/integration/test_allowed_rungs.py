"""On RLlib's own path no agent ever takes a rung that its desk forbids."""

from dataclasses import replace

import numpy as np
import pytest

from experiments.builders.algorithms import algorithm_config
from experiments.settings.run_config import RunConfig

pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.mark.parametrize("algo", ["dqn", "ppo"])
def test_rllibs_runners_sample_only_allowed_rungs(algo):
    run = RunConfig(algo=algo, runner="rllib" if algo == "ppo" else "team")
    run = replace(
        run,
        desk=replace(run.desk, max_rung_change=1, allow_short=False),
        floor=replace(run.floor, horizon_bars=20),
        ppo=replace(run.ppo, train_batch_size_per_learner=200, minibatch_size=100),
        dqn=replace(run.dqn, learning_starts=50),
        scaling=replace(run.scaling, num_envs_per_env_runner=2),
    )
    algorithm = algorithm_config(run).build_algo()
    try:
        algorithm.train()
        episodes = algorithm.env_runner.sample(num_timesteps=200, explore=True)
        found, forbidden = 0, 0
        for episode in episodes:
            for single in episode.agent_episodes.values():
                masks = np.asarray(single.get_observations()["action_mask"])[: len(single)]
                actions = np.asarray(single.get_actions())
                found += int(masks[np.arange(len(actions)), actions].sum())
                forbidden += int((masks == 0).sum())
                assert masks[np.arange(len(actions)), actions].all()
        assert found > 100
        assert forbidden > 100, "the desk forbids something"
    finally:
        algorithm.stop()

"""RLlib's runner begins other episodes in every copy, in every runner and after every restart."""

import pytest
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME
from teams import Clockwork, to_own

from algos.env_runner import CountedEnvRunner

pytestmark = [
    pytest.mark.usefixtures("ray_session"),
    pytest.mark.filterwarnings("ignore:.*Overriding environment.*:UserWarning"),
]


class Seeds(Clockwork):
    """Keeps how it was seeded."""

    def reset(self, *, seed=None, options=None):
        self.seeds = [*getattr(self, "seeds", []), seed]
        return super().reset(seed=seed, options=options)


def runner_of(*, worker_index=0, seed=3, in_evaluation=False):
    config = PPOConfig()
    config.environment(Seeds, disable_env_checking=True)
    config.env_runners(num_env_runners=2, num_envs_per_env_runner=3, create_env_on_local_worker=True)
    config.multi_agent(policies={"zoe", "abe"}, policy_mapping_fn=to_own)
    config.rl_module(model_config={"fcnet_hiddens": [4]})
    config.debugging(seed=seed)
    config.in_evaluation = in_evaluation
    config.freeze()
    return CountedEnvRunner(config=config, worker_index=worker_index)


def first_seeds(runner):
    runner.sample(num_timesteps=3)
    return [env.unwrapped.seeds[0] for env in runner.env.envs]


def test_every_copy_of_every_runner_begins_by_a_seed_of_its_own():
    found = [
        first_seeds(runner_of(worker_index=w, seed=seed, in_evaluation=e))
        for w in (0, 1, 2)
        for seed in (3, 4)
        for e in (False, True)
    ]
    every = [seed for seeds in found for seed in seeds]
    assert len(set(every)) == len(every) == 36
    assert all(0 <= seed < 2**32 for seed in every)
    assert first_seeds(runner_of()) == found[0], "and the same run begins alike"


def test_runner_that_was_made_anew_begins_other_episodes():
    anew = runner_of(worker_index=1)
    anew.set_state({NUM_ENV_STEPS_SAMPLED_LIFETIME: 120})  # as RLlib tells it
    assert not set(first_seeds(anew)) & set(first_seeds(runner_of(worker_index=1)))


def test_new_episodes_are_begun_when_they_are_asked_for():
    runner = runner_of()
    runner.sample(num_timesteps=3)
    runner.sample(num_timesteps=3)
    assert all(len(env.unwrapped.seeds) == 1 for env in runner.env.envs)
    runner.begin_new_episodes()
    runner.sample(num_timesteps=3)
    assert all(len(env.unwrapped.seeds) == 2 for env in runner.env.envs)


def test_without_a_seed_environments_are_left_to_seed_themselves():
    assert first_seeds(runner_of(seed=None)) == [None] * 3

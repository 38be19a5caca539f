"""Short guards that MAPPO and IPPO learn, where the best policy is known."""

import pytest
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from teams import mappo_config

from algos.mappo.algorithm import IPPOConfig, MAPPOConfig
from envs.optima.catalog import make_problem
from envs.optima.evaluation import score, value
from envs.optima.rllib import KnownMarketEnv

pytestmark = pytest.mark.usefixtures("ray_session")

SETTINGS = {
    "hidden": (64, 64),
    "gamma": 1.0,
    "lr": 1e-3,
    "train_batch_size_per_learner": 1024,
    "minibatch_size": 256,
    "num_epochs": 5,
    "num_envs_per_env_runner": 64,
}


def learned_value(
    config: type[MAPPOConfig], market: str, *, seed: int = 0, iterations: int, num_agents: int | None = None, **settings
) -> float:
    """Mean objective of the agents under the greedy policy after so many rounds."""
    built: AlgorithmConfig = mappo_config(KnownMarketEnv, seed=seed, config=config, **{**SETTINGS, **settings})
    built.environment(env_config={"market": market, "num_agents": num_agents})
    algorithm = built.build_algo()
    for _ in range(iterations):
        algorithm.train()
    module = algorithm.env_runner.module["team"]
    problem = make_problem(market, num_agents=num_agents)
    found = value(problem, lambda obs: module.act(obs, None, explore=False).actions, num_episodes=256)
    algorithm.stop()
    return found.team_mean


@pytest.mark.parametrize("config", [MAPPOConfig, pytest.param(IPPOConfig, marks=pytest.mark.slow)])
def test_investor_finds_mertons_weight(config):
    problem = make_problem("merton")
    found = learned_value(config, "merton", iterations=50)
    assert score(found, float(problem.optimal_value), float(problem.baseline_value)) > 0.95


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_team_finds_the_best_joint_policy_of_the_two_step_game(seed):
    assert learned_value(MAPPOConfig, "two-step", seed=seed, iterations=60, entropy_coeff=0.05) == 8.0


def test_sellers_who_share_a_reward_spare_each_other_and_rivals_do_not():
    """Team optimum 2.400 and Nash cost 3.206 per seller (Almgren and Chriss 2000, four sellers in one market)."""
    team, rivals = (learned_value(c, "almgren-chriss", num_agents=4, iterations=60) for c in (MAPPOConfig, IPPOConfig))
    assert -team <= 2.45
    assert 3.0 < -rivals < 3.3

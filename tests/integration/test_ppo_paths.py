"""PPO learns alike on the team path and on RLlib's own: same floor, networks, batches and settings, several seeds."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from envs.settings import DataConfig, SyntheticConfig
from experiments.builders.algorithms import algorithm_config
from experiments.settings.run_config import RunConfig

SEEDS = (0, 1, 2, 3, 4)
ITERATIONS = 20
LAST = 5


def _final_return(runner: str, seed: int) -> float:
    """Mean training return over the last iterations, on a market with a planted signal."""
    run = RunConfig(algo="ppo", runner=runner, seed=seed)
    run = replace(
        run,
        data=DataConfig(synthetic=SyntheticConfig(signal_strength=3.0)),
        floor=replace(run.floor, horizon_bars=32),
        ppo=replace(run.ppo, lr=1e-3, gamma=0.9, train_batch_size_per_learner=2048, minibatch_size=512),
        scaling=replace(run.scaling, num_envs_per_env_runner=32),
    )
    algorithm = algorithm_config(run).build_algo()
    try:
        returns = [algorithm.train()["env_runners"]["episode_return_mean"] for _ in range(ITERATIONS)]
    finally:
        algorithm.stop()
    return float(np.mean(returns[-LAST:]))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_team_and_rllib_runners_learn_alike_within_seed_noise(ray_session):
    team = np.array([_final_return("team", seed) for seed in SEEDS])
    stock = np.array([_final_return("rllib", seed) for seed in SEEDS])
    difference = stats.ttest_ind(team, stock, equal_var=False).confidence_interval(0.99)
    margin = 2.0 * max(team.std(ddof=1), stock.std(ddof=1))
    inner = stats.ttest_ind(team, stock, equal_var=False).confidence_interval(0.90)  # two one-sided tests at 5 %
    shown = f"team {team.round(4)}, rllib {stock.round(4)}, 99 % interval of the difference {difference}"
    print(shown, "margin", margin)
    assert difference.low < 0.0 < difference.high, shown
    assert min(team.mean(), stock.mean()) > 0.0, shown
    assert -margin < inner.low <= inner.high < margin, f"not shown to be within seed noise, {margin}: {shown}"

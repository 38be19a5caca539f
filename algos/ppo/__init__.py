"""RLlib's PPO, fed by batched rollouts instead of episode objects."""

from algos.ppo.config import PPOSettings
from algos.registry import RLLIB, TEAM, Algorithm

ALGORITHMS = (
    Algorithm(
        name="ppo",
        settings=PPOSettings,
        configs={TEAM: "algos.ppo.algorithm:team_ppo", RLLIB: "algos.ppo.algorithm:rllib_ppo"},
        searched=("lr", "gamma", "lambda_", "entropy_coeff", "clip_param"),
        modules=("algos.ppo.module:MaskedPPOModule",),
    ),
)

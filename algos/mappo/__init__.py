"""MAPPO and IPPO: PPO for teams, by one value of the global state or by each agent's own (Yu et al. 2022)."""

from algos.mappo.config import MAPPOSettings
from algos.registry import TEAM, Algorithm

ALGORITHMS = tuple(
    Algorithm(
        name=name,
        group="mappo",
        settings=MAPPOSettings,
        configs={TEAM: f"algos.mappo.algorithm:{name}"},
        is_joint=True,
        searched=("lr", "gamma", "lambda_", "entropy_coeff", "clip_param", "num_epochs"),
        modules=("algos.mappo.module:TeamActorCritic",),
        optimizers={"actor": ("agents.",), "critic": ("critic.",)},
    )
    for name in ("mappo", "ippo")
)

"""MADDPG: an actor for each agent, judged by critics that see what all observe and do (Lowe et al. 2017)."""

from algos.maddpg.config import MADDPGSettings
from algos.registry import TEAM, Algorithm

ALGORITHMS = (
    Algorithm(
        name="maddpg",
        settings=MADDPGSettings,
        configs={TEAM: "algos.maddpg.algorithm:maddpg"},
        has_replay=True,
        is_joint=True,
        searched=("actor_lr", "critic_lr", "gamma", "tau", "n_step", "policy_delay"),
        modules=("algos.maddpg.module:TeamDDPGModule",),
        optimizers={"actor": ("agents.",), "critic": ("critic.",)},
    ),
)

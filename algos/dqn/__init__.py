"""RLlib's own DQN: settings only; the algorithm is stock."""

from algos.dqn.config import DQNSettings
from algos.registry import DISCRETE, RLLIB, Algorithm

ALGORITHMS = (
    Algorithm(
        name="dqn",
        settings=DQNSettings,
        configs={RLLIB: "algos.dqn.algorithm:dqn"},
        actions=frozenset({DISCRETE}),
        has_replay=True,
        searched=("lr", "gamma", "target_network_update_freq", "n_step", "epsilon_decay_steps"),
        modules=("algos.dqn.module:MaskedDQNModule",),
    ),
)

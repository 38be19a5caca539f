"""What is known of each algorithm by its name."""

from typing import Literal

AlgoName = Literal["qmix", "vdn", "iql", "mappo", "ippo", "maddpg", "ppo", "dqn", "sac", "tqc", "impala", "appo"]

SECTION_OF_ALGO = {
    "qmix": "qmix",
    "vdn": "qmix",
    "iql": "qmix",
    "mappo": "mappo",
    "ippo": "mappo",
    "maddpg": "maddpg",
    "ppo": "ppo",
    "dqn": "dqn",
    "sac": "sac",
    "tqc": "tqc",
    "impala": "impala",
    "appo": "appo",
}
"""The group of settings that each algorithm uses."""
ONLY_ON_TEAM_PATH = ("qmix", "vdn", "iql", "mappo", "ippo", "maddpg")
"""Algorithms with one network for the whole team, which the batched team runner alone samples for."""
RUNNER_OF_ALGO = dict.fromkeys(ONLY_ON_TEAM_PATH, "team") | dict.fromkeys(
    ("dqn", "sac", "tqc", "impala", "appo"), "rllib"
)
"""Who samples for each algorithm that leaves no choice."""
ON_POLICY = ("ppo", "mappo", "ippo", "impala", "appo")
"""Algorithms that learn from what they have just sampled and keep no replay buffer."""
ONLY_CONTINUOUS = ("sac", "tqc")
"""Algorithms that set target weights and cannot choose among rungs."""

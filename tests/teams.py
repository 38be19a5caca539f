"""Small teams for tests of the learning path: environments whose every number is known, and rollouts of any shape."""

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from games import TwoStepGame
from pettingzoo import ParallelEnv
from ray.rllib.env.multi_agent_env import MultiAgentEnv

from algos.maddpg.algorithm import MADDPGConfig
from algos.maddpg.config import MADDPGSettings
from algos.mappo.algorithm import MAPPOConfig
from algos.mappo.config import MAPPOSettings
from algos.ppo.algorithm import TeamPPOConfig
from algos.qmix.algorithm import QMIXConfig, TeamQConfig
from algos.rollout import Rollout
from envs.market import spec_to_json
from envs.rllib import register
from envs.settings import DataConfig, DeskConfig, FloorConfig, FloorSpec, SyntheticConfig

WIDTHS = {"zoe": 3, "abe": 2}
"""Agents in an order that is not the alphabet's, with observations of different width."""


class Clockwork(MultiAgentEnv):
    """Shows [seed, t, agent], pays 10 t + action, and ends after ``length`` steps as told.

    Config: ``length`` (4), ``end`` ("terminated" or "truncated"), ``leaves`` ({agent: step after which it has left}),
    ``use_masks`` (odd steps allow only action 1), ``turns`` (agents act one after the other), ``is_box``.
    """

    def __init__(self, config: Any = None) -> None:
        super().__init__()
        self.settings = {"length": 4, "end": "truncated", "leaves": {}, "use_masks": False, "turns": False}
        self.settings.update(config or {})
        self.possible_agents = list(WIDTHS)
        self.agents = list(WIDTHS)
        boxes = {a: gym.spaces.Box(-np.inf, np.inf, (w,), np.float32) for a, w in WIDTHS.items()}
        masks = {a: gym.spaces.Box(0, 1, (2 + n,), np.int8) for n, a in enumerate(WIDTHS)}
        self.observation_spaces = (
            {a: gym.spaces.Dict({"observations": boxes[a], "action_mask": masks[a]}) for a in WIDTHS}
            if self.settings["use_masks"]
            else boxes
        )
        self.action_spaces = {a: gym.spaces.Discrete(2 + n) for n, a in enumerate(WIDTHS)}
        if self.settings.get("is_box"):
            self.action_spaces = {a: gym.spaces.Box(-2.0, 4.0, (1 + n,), np.float32) for n, a in enumerate(WIDTHS)}
        self.seed_, self.t, self.episode = 0, 0, 0
        self.received: list[dict[str, Any]] = []

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            np.random.RandomState(seed)  # refuses what does not fit into 32 bits, as many environments do
            self.seed_, self.episode = seed, -1
        self.t, self.agents = 0, list(WIDTHS)
        self.episode += 1
        return self._see(), {}

    def _see(self) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for n, agent in enumerate(WIDTHS):
            if agent not in self.agents or (self.settings["turns"] and self.t % 2 != n):
                continue
            seen[agent] = np.array([self.t, self.episode, n][: WIDTHS[agent]], np.float32)
            if self.settings["use_masks"]:
                allowed = np.ones(2 + n, np.int8) if self.t % 2 == 0 else np.eye(2 + n, dtype=np.int8)[1]
                seen[agent] = {"observations": seen[agent], "action_mask": allowed}
        return seen

    def step(self, actions):
        self.received.append(dict(actions))
        self.t += 1
        rewards = {a: 10.0 * self.t + float(np.sum(c)) for a, c in actions.items()}
        over = self.t >= self.settings["length"]
        is_terminated = over and self.settings["end"] == "terminated"
        leavers = {a for a in self.agents if self.settings["leaves"].get(a) == self.t}
        terminateds = {a: is_terminated or a in leavers for a in self.agents} | {"__all__": is_terminated}
        truncateds = dict.fromkeys(self.agents, over and not is_terminated)
        truncateds["__all__"] = over and not is_terminated and not self.settings["leaves"]
        seen = self._see()
        self.agents = [a for a in self.agents if a not in leavers]
        return seen, rewards, terminateds, truncateds, {}


class ParallelClock(ParallelEnv):
    """PettingZoo's view of a clock: agents z, m and a, of which ``m`` leaves after the second of four steps."""

    metadata = {"name": "clock"}  # noqa: RUF012

    def __init__(self) -> None:
        self.possible_agents = ["z", "m", "a"]
        self.agents: list[str] = []
        self.t = 0

    def observation_space(self, agent):
        return gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)

    def action_space(self, agent):
        return gym.spaces.Discrete(3)

    def _see(self):
        return {a: np.array([self.possible_agents.index(a), self.t], np.float32) for a in self.agents}

    def state(self):
        return np.array([self.t, -1.0, 7.0, 2.0], np.float32)

    def reset(self, seed=None, options=None):
        self.agents, self.t = list(self.possible_agents), 0
        return self._see(), {a: {} for a in self.agents}

    def step(self, actions):
        assert set(actions) == set(self.agents)
        self.t += 1
        seen, rewards = self._see(), {a: float(self.t) for a in self.agents}
        terminateds = {a: a == "m" and self.t == 2 for a in self.agents}
        truncateds = dict.fromkeys(self.agents, self.t == 4)
        infos = {a: {} for a in self.agents}
        self.agents = [a for a in self.agents if not (terminateds[a] or truncateds[a])]
        return seen, rewards, terminateds, truncateds, infos


def floor_env(*, num_assets: int = 3, horizon_bars: int = 6, window: int = 1, desk: Any = None) -> dict[str, Any]:
    """``env_config`` of a small trading floor on the built-in market."""
    spec = FloorSpec(
        data=DataConfig(synthetic=SyntheticConfig(num_assets=num_assets, num_bars=260)),
        desk=DeskConfig(**{"feature_groups": ("momentum",), **(desk or {})}),
        floor=FloorConfig(horizon_bars=horizon_bars, window=window),
    )
    return {"spec": spec_to_json(spec)}


def qmix_config(env: Any, *, seed: int = 0, config: type[TeamQConfig] = QMIXConfig, **settings: Any) -> TeamQConfig:
    """QMIX (or VDN, or independent Q-learning) at a size that learns in a second."""
    small = {
        "hidden": (16,),
        "num_updates": 3,
        "rollout_fragment_length": 8,
        "num_envs_per_env_runner": 4,
        "replay_capacity": 400,
        "learning_starts": 32,
        "train_batch_size": 16,
        "target_network_update_freq": 5,
        "epsilon_decay_steps": 500,
    }
    built = config()
    if built.mixer == "qmix":
        small |= {"mixing_embed_dim": 8, "hypernet_hidden": 8}
    return _on(env, built.use_settings(type(built.settings)(**{**small, **settings})), seed)


SMALL_TRANSFORMER = {"network": "transformer", "d_model": 8, "num_heads": 2, "num_layers": 1}


def ppo_config(
    env: Any, *, seed: int = 0, shared: str | None = "shared", network: dict[str, Any] | None = None
) -> TeamPPOConfig:
    """TeamPPO at a size that learns in a second; one network for all agents, or one each."""
    config = TeamPPOConfig()
    config.training(train_batch_size_per_learner=64, minibatch_size=32, num_epochs=2, lr=1e-3, use_kl_loss=True)
    config.rl_module(model_config={"fcnet_hiddens": [16], "fcnet_activation": "relu", **(network or {})})
    config.env_runners(num_envs_per_env_runner=4, num_env_runners=0)
    _on(env, config, seed)
    if shared is not None:
        config.multi_agent(policies={shared}, policy_mapping_fn=to_shared)
    return config


def mappo_config(env: Any, *, seed: int = 0, config: type[MAPPOConfig] = MAPPOConfig, **settings: Any) -> MAPPOConfig:
    """MAPPO (or IPPO) at a size that learns in a second."""
    small = {
        "hidden": (16,),
        "num_envs_per_env_runner": 4,
        "train_batch_size_per_learner": 64,
        "minibatch_size": 24,
        "num_epochs": 2,
    }
    return _on(env, config().use_settings(MAPPOSettings(**{**small, **settings})), seed)


def maddpg_config(env: Any, *, seed: int = 0, **settings: Any) -> MADDPGConfig:
    """MADDPG at a size that learns in a second."""
    small = {
        "hidden": (16,),
        "num_updates": 3,
        "rollout_fragment_length": 8,
        "num_envs_per_env_runner": 4,
        "replay_capacity": 400,
        "learning_starts": 32,
        "train_batch_size": 16,
        "noise_decay_steps": 500,
    }
    return _on(env, MADDPGConfig().use_settings(MADDPGSettings(**{**small, **settings})), seed)


def to_shared(agent_id: str, *args: Any, **kwargs: Any) -> str:
    return "shared"


def to_own(agent_id: str, *args: Any, **kwargs: Any) -> str:
    return agent_id


def _on(env: Any, config: Any, seed: int) -> Any:
    if isinstance(env, dict):
        config.environment(register(), env_config=env, disable_env_checking=True)
    else:
        config.environment(env, disable_env_checking=True)
    config.debugging(seed=seed, log_level="ERROR")
    config.reporting(min_time_s_per_iteration=0)
    config.api_stack(enable_rl_module_and_learner=True, enable_env_runner_and_connector_v2=True)
    return config


def greedy_return(algorithm: Any) -> float:
    """Team reward of one greedy episode of TwoStepGame."""
    return float(algorithm.evaluate()["env_runners"]["episode_return_mean"]) / 2


def with_evaluation(config: Any, **overrides: Any) -> Any:
    """Let ``evaluate()`` run one greedy episode."""
    config.evaluation(
        evaluation_interval=10**9,
        evaluation_duration=1,
        evaluation_duration_unit="episodes",
        evaluation_config={"num_envs_per_env_runner": 1, "explore": False, **overrides},
    )
    return config


def rollout_of(
    *,
    num_steps: int = 6,
    num_replicas: int = 3,
    num_agents: int = 2,
    start: int = 0,
    source: int = 0,
    ends: dict[tuple[int, int], str] | None = None,
    with_extras: bool = True,
    features: int = 3,
    num_actions: int = 4,
    seed: int = 0,
) -> Rollout:
    """A rollout that can be read: obs [t, b, n] starts with (start + t, b, n); finals are the negative of that."""
    T, B, N = num_steps, num_replicas, num_agents
    rng = np.random.default_rng(seed)
    t, b, n = np.meshgrid(np.arange(start, start + T + 1), np.arange(B), np.arange(N), indexing="ij")
    obs = np.zeros((T + 1, B, N, features), np.float32)
    obs[..., 0], obs[..., 1], obs[..., 2] = t, b, n
    terminated, truncated = np.zeros((T, B), bool), np.zeros((T, B), bool)
    index = sorted(ends or {})
    for (step, replica), kind in (ends or {}).items():
        (terminated if kind == "terminated" else truncated)[step, replica] = True
    final_obs = np.array([-obs[s + 1, r] for s, r in index], np.float32).reshape(len(index), N, features)
    extras: dict[str, Any] = {}
    if with_extras:
        extras = {
            "logp": torch.from_numpy(rng.standard_normal((T, B, N)).astype(np.float32)),
            "dist_inputs": {"shared": torch.from_numpy(rng.standard_normal((T, B, N, 4)).astype(np.float32))},
            "action_mask": torch.from_numpy(rng.random((T + 1, B, N, num_actions)) < 0.7),
            "final_mask": torch.from_numpy(rng.random((len(index), N, num_actions)) < 0.7),
            "state": torch.from_numpy(obs[:, :, 0, :2].copy()),
            "final_state": torch.from_numpy(final_obs[:, 0, :2].copy()),
        }
    return Rollout(
        obs=torch.from_numpy(obs),
        actions=torch.from_numpy(rng.integers(0, num_actions, (T, B, N))),
        rewards=torch.from_numpy(obs[:-1, :, :, 0] + 0.01 * obs[:-1, :, :, 1] + 0.1 * obs[:-1, :, :, 2]),
        terminated=torch.from_numpy(terminated),
        truncated=torch.from_numpy(truncated),
        final_index=torch.tensor(index, dtype=torch.int64).reshape(-1, 2),
        final_obs=torch.from_numpy(final_obs),
        source=source,
        **extras,
    )


__all__ = [
    "SMALL_TRANSFORMER",
    "WIDTHS",
    "Clockwork",
    "ParallelClock",
    "TwoStepGame",
    "floor_env",
    "greedy_return",
    "maddpg_config",
    "mappo_config",
    "ppo_config",
    "qmix_config",
    "rollout_of",
    "to_own",
    "to_shared",
    "with_evaluation",
]

"""TeamEnvRunner: an RLlib EnvRunner that steps a TeamEnv with one forward pass per module."""

import math
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Any, cast

import gymnasium as gym
import numpy as np
import ray
import torch
from ray.rllib.core import COMPONENT_RL_MODULE
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES, INPUT_ENV_SPACES
from ray.rllib.env.env_context import EnvContext
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.utils.checkpoints import Checkpointable
from ray.rllib.utils.framework import get_device
from ray.rllib.utils.metrics import (
    NUM_AGENT_STEPS_SAMPLED,
    NUM_AGENT_STEPS_SAMPLED_LIFETIME,
    NUM_ENV_STEPS_SAMPLED,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_MODULE_STEPS_SAMPLED,
    NUM_MODULE_STEPS_SAMPLED_LIFETIME,
    SAMPLE_TIMER,
    WEIGHTS_SEQ_NO,
)
from torch import Tensor

from algos.acting import Acted, ModuleActor, agents_by_module
from algos.episodes import EpisodesUnderWay
from algos.hooks import EndedEpisodes, ended_together
from algos.ray_internals import environment_creator
from algos.recording import Recording
from algos.rollout import Rollout
from algos.team_env import Step, TeamEnv, TeamStep, make_team_env
from algos.windows import with_windows
from common.counted import counted_seed

TEAM_MODULE = "team"
"""Module id of the one RLModule that acts for a whole team."""
ENV_STATE = "env_state"
"""Key of the environment's own state in a runner's state."""


class TeamEnvRunner(EnvRunner, Checkpointable):
    """Samples ``Rollout`` arrays instead of episode objects.

    Draws are counted, not carried: what runner w samples after s environment steps is drawn from a generator seeded by
    (seed, w, s), so the state of a runner is its counter, its environment and the returns of the episodes under way. A
    config without a seed means seed 0.

    The config may carry ``use_global_state`` (the learner wants ``state``), ``stored_columns`` (which of ``logp``,
    ``dist_inputs`` and ``memory`` the learner wants), ``floor_device``, and ``collect_episodes`` (keep what
    ended for hooks).
    """

    on_step: Callable[[int, int], None] | None = None
    """Called after each joint step, with how many the sample has, and how many episodes have ended in it; what it
    raises ends the sample."""

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        self.spaces: dict[str, Any] = kwargs.get("spaces") or {}
        self.worker_index: int = int(kwargs.get("worker_index") or 0)
        self._device = self._choose_device()
        self.env: TeamEnv | None = None
        self.module: Any = None
        if self.worker_index > 0 or self.config.create_env_on_local_worker or self.config.num_env_runners == 0:
            self.make_env()
        self.make_module()
        self._weights_seq_no = 0
        self._last: TeamStep | None = None
        self._carry: Any = None
        self._episodes: EpisodesUnderWay | None = None
        self._generator = torch.Generator(device=self._device)
        self._collects = bool(getattr(self.config, "collect_episodes", False)) and not self.config.in_evaluation
        self.ended_episodes: list[EndedEpisodes] = []

    # -- building ------------------------------------------------------------------------------------------------------

    def _choose_device(self) -> torch.device:
        """Where floor and networks are: as set, or the GPU that this process was given."""
        wanted = getattr(self.config, "floor_device", "auto")
        if wanted != "auto":
            return torch.device(wanted)
        if self.worker_index:
            return torch.device(get_device(self.config, self.config.num_gpus_per_env_runner))
        return torch.device(
            get_device(self.config, 0 if self.config.num_learners else self.config.num_gpus_per_learner)
        )

    def make_env(self) -> None:
        """Make the TeamEnv that the config names; the registry's creator is asked for one environment first."""
        self.close_env()
        context = EnvContext(
            dict(self.config.env_config), worker_index=self.worker_index, num_workers=self.config.num_env_runners
        )
        env = self.config.env
        create = environment_creator(env) if isinstance(env, str) else env
        self.env = make_team_env(
            lambda: create(context),
            self.config.num_envs_per_env_runner,
            device=self._device,
            seed=base_seed(self),
            with_state=bool(getattr(self.config, "use_global_state", False)),
        )
        self._last = None

    def make_module(self) -> None:
        """Make the inference-only modules and, where this runner has an environment, the actor that calls them."""
        spec = self.config.get_multi_rl_module_spec(spaces=self.get_spaces(), inference_only=True)
        self.module = spec.build()
        for key in list(self.module.keys()):
            self.module[key].to(self._device)
        self._actor: Any = None
        if self.env is None:
            return
        if TEAM_MODULE in self.module.keys():  # noqa: SIM118 - a MultiRLModule is no dict
            self._actor = self.module[TEAM_MODULE].unwrapped()
        else:
            self._actor = ModuleActor(
                self.module,
                self.agents_of_modules(),
                list(self.env.obs_dims),
                [self.env.action_spaces[a] for a in self.env.agent_ids],
            )

    def agents_of_modules(self) -> dict[str, list[int]]:
        """Indices of the agents that act by each module."""
        assert self.env is not None
        return agents_by_module(self.config.policy_mapping_fn(agent_id, None) for agent_id in self.env.agent_ids)

    def get_spaces(self) -> dict[str, tuple[gym.Space, gym.Space]]:
        """Observation and action space of the environment and of each module."""
        if self.env is None:
            return self.spaces
        # An OrderedDict keeps the agents' order; gymnasium would sort a plain dict by name.
        seen = with_windows(self.env.observation_spaces, self.env.windows)
        whole = tuple(gym.spaces.Dict(OrderedDict(s)) for s in (seen, self.env.action_spaces))
        spaces = {INPUT_ENV_SPACES: whole, INPUT_ENV_SINGLE_SPACES: whole}
        for module_id, index in self.agents_of_modules().items():
            if module_id == TEAM_MODULE:
                state = gym.spaces.Box(-np.inf, np.inf, (self.env.state_dim,), np.float32)
                spaces[module_id] = (gym.spaces.Dict(OrderedDict(obs=whole[0], state=state)), whole[1])
            else:
                agent_id = self.env.agent_ids[index[0]]
                spaces[module_id] = (seen[agent_id], self.env.action_spaces[agent_id])
        return spaces

    # -- sampling ------------------------------------------------------------------------------------------------------

    def sample(
        self,
        *,
        num_timesteps: int | None = None,
        num_episodes: int | None = None,
        explore: bool | None = None,
        random_actions: bool = False,
        force_reset: bool = False,
    ) -> list[Rollout]:
        """Step every replica and return one rollout, in a list because RLlib expects a list of episodes.

        Args:
            num_timesteps: Environment steps over all replicas; by default the config's fragment length times replicas.
            num_episodes: Reset, then step until that many episodes have ended.
            explore: Draw actions, or take the policy's mode; by default as configured.
            random_actions: Not supported: the policies' own exploration covers it.
            force_reset: Start new episodes first.

        Raises:
            ValueError: if both counts are given, random actions are asked for, or there is no environment.
        """
        if self.env is None:
            raise ValueError("this runner has no environment (it is the local one beside remote runners)")
        if random_actions or (num_timesteps is not None and num_episodes is not None):
            raise ValueError("sample takes either num_timesteps or num_episodes, and no random_actions")
        explore = bool(self.config.explore) if explore is None else explore
        with self.metrics.log_time(SAMPLE_TIMER):
            draw = counted_seed(base_seed(self), self.num_env_steps_sampled_lifetime)
            self._generator.manual_seed(draw)
            if num_episodes is not None:
                self._start_episodes()
            elif self._last is None or force_reset:
                self._start_episodes(seed=draw)
            if num_episodes is None:
                # Runner 1's length is the longest that RLlib's rounding gives; all take it, so that rollouts line up.
                fragment = self.config.get_rollout_fragment_length(worker_index=1)
                steps = fragment if num_timesteps is None else math.ceil(num_timesteps / self.env.num_replicas)
                rollout = self._collect(steps, None, explore)
            else:
                rollout = self._collect(None, num_episodes, explore)
                self._last = None
        return [rollout]

    def begin_new_episodes(self) -> None:
        """Leave the episodes under way; the next sample starts new ones."""
        self._last = None

    def _start_episodes(self, seed: int | None = None) -> None:
        """Begin anew in every replica: a new stream of episodes where seeded, else the first of the present one."""
        assert self.env is not None
        self._last = self.env.reset(seed)
        self._carry = self._actor.initial_carry(self.env.num_replicas)
        self._episodes = EpisodesUnderWay(self.env.num_replicas, self.env.num_agents)

    @torch.no_grad()
    def _collect(self, num_steps: int | None, num_episodes: int | None, explore: bool) -> Rollout:
        """Step until ``num_steps`` are taken or ``num_episodes`` have ended."""
        assert self.env is not None
        assert self._last is not None
        columns = getattr(self.config, "stored_columns", ("logp", "dist_inputs"))
        recording = Recording(self._last, columns, memory=self._carry)
        steps = ended = 0
        num_runners = max(1, self.config.num_env_runners)  # RLlib sends every runner the count of all of them together
        while (num_steps is not None and steps < num_steps) or (num_episodes is not None and ended < num_episodes):
            acted: Acted = self._actor.act(
                self._last.obs,
                self._last.action_mask,
                self._carry,
                explore=explore,
                generator=self._generator,
                timestep=self.num_env_steps_sampled_lifetime + steps * self.env.num_replicas * num_runners,
            )
            step = self.env.step(acted.actions)
            recording.add(acted, step)
            ended += self._close_episodes(step, acted.carry)
            self._last = step
            steps += 1
            if self.on_step is not None:
                self.on_step(steps, ended)
        self._log_steps(steps * self.env.num_replicas)
        return recording.rollout(self.worker_index or 0)

    def _close_episodes(self, step: TeamStep, carry: Any) -> int:
        """Add the step to the episodes under way; log and clear those that ended. Returns how many did."""
        assert self.env is not None
        assert self._episodes is not None
        self._carry = carry
        over = self._episodes.add(step)
        if over is None:
            return 0
        window = max(1, math.ceil(self.config.metrics_num_episodes_for_smoothing / max(1, self.config.num_env_runners)))
        self._episodes.log(self.metrics, step, over, self.env.agent_ids, window=window)
        if self._collects:
            agent_ids, counted = tuple(self.env.agent_ids), self._episodes.get_state()
            self.ended_episodes.append(ended_together(agent_ids, self.worker_index, over, counted, step.stats or {}))
        self._episodes.close(over)
        if carry is not None:
            carry[over.to(carry.device)] = 0.0
        return int(over.sum())

    def _log_steps(self, env_steps: int) -> None:
        assert self.env is not None
        self.num_env_steps_sampled_lifetime += env_steps
        log = self.metrics.log_value
        log(NUM_ENV_STEPS_SAMPLED, env_steps, reduce="sum")
        log(NUM_ENV_STEPS_SAMPLED_LIFETIME, env_steps, reduce="lifetime_sum", with_throughput=True)
        log(WEIGHTS_SEQ_NO, self._weights_seq_no, window=1)
        for agent_id in self.env.agent_ids:
            log((NUM_AGENT_STEPS_SAMPLED, agent_id), env_steps, reduce="sum")
            log((NUM_AGENT_STEPS_SAMPLED_LIFETIME, agent_id), env_steps, reduce="lifetime_sum")
        for module_id, index in self.agents_of_modules().items():
            log((NUM_MODULE_STEPS_SAMPLED, module_id), env_steps * len(index), reduce="sum")
            log((NUM_MODULE_STEPS_SAMPLED_LIFETIME, module_id), env_steps * len(index), reduce="lifetime_sum")

    def get_metrics(self) -> Any:
        """What was logged since the last call."""
        return self.metrics.reduce()

    # -- state ---------------------------------------------------------------------------------------------------------

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Weights (where asked for), counters, and the environment in the middle of its episodes."""
        state: dict[str, Any] = {NUM_ENV_STEPS_SAMPLED_LIFETIME: self.num_env_steps_sampled_lifetime}
        if self._check_component(COMPONENT_RL_MODULE, components, not_components):
            state[COMPONENT_RL_MODULE] = self.module.get_state(
                components=self._get_subcomponents(COMPONENT_RL_MODULE, components),
                not_components=self._get_subcomponents(COMPONENT_RL_MODULE, not_components),
                **kwargs,
            )
            state[WEIGHTS_SEQ_NO] = self._weights_seq_no
        if components is None and self.env is not None:
            state[ENV_STATE] = {
                "of": base_seed(self),
                "env": None if self._last is None else self.env.get_state(),
                "last": None if self._last is None else _seen(self._last),
                "carry": None if self._carry is None else self._carry.cpu(),
                **({} if self._episodes is None else self._episodes.get_state()),
            }
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over weights, counters, and an environment's state.

        Weights are taken over whatever their number says: RLlib's own runners refuse those of a restored checkpoint
        that is older than they are, and would go on acting by weights that no longer exist. The state of another
        runner's environment is left alone, since RLlib restores a lost runner from whichever one is at hand.
        """
        if COMPONENT_RL_MODULE in state:
            weights = state[COMPONENT_RL_MODULE]
            self.module.set_state(ray.get(weights) if isinstance(weights, ray.ObjectRef) else weights)
            self._weights_seq_no = state.get(WEIGHTS_SEQ_NO, 0)
        if NUM_ENV_STEPS_SAMPLED_LIFETIME in state:
            self.num_env_steps_sampled_lifetime = int(state[NUM_ENV_STEPS_SAMPLED_LIFETIME])
        saved = state.get(ENV_STATE)
        if saved is not None and self.env is not None and saved["of"] == base_seed(self):
            self._last = None
            if saved["env"]:
                self._start_episodes()
                assert self._episodes is not None
                self.env.set_state(saved["env"])
                seen = {name: _on(value, self._device) for name, value in saved["last"].items()}
                self._last = Step.resumed(cast(Tensor, seen["obs"]), seen["state"], seen["action_mask"])
                self._carry = None if saved["carry"] is None else saved["carry"].to(self._device)
                self._episodes.set_state(saved)

    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """For RLlib's checkpoints."""
        return (), {"config": self.config}

    def get_checkpointable_components(self) -> list[tuple[str, Any]]:
        """For RLlib's checkpoints."""
        return [(COMPONENT_RL_MODULE, self.module)]

    def assert_healthy(self) -> None:
        """Checks that environment and modules were made."""
        assert self.env
        assert self.module

    def stop(self) -> None:
        """Close the environment."""
        self.close_env()

    def close_env(self) -> None:
        """Close the environment, if there is one that can be closed."""
        close = getattr(self.env, "close", None)
        if close is not None:
            close()
        self.env = None


def base_seed(runner: EnvRunner) -> int:
    """The run's seed, told apart by runner and by purpose."""
    return counted_seed(runner.config.seed or 0, runner.worker_index or 0, 1 if runner.config.in_evaluation else 0)


def _seen(step: TeamStep) -> dict[str, Tensor | None]:
    """What the next joint action will be chosen from."""
    return {"obs": _on(step.obs, "cpu"), "state": _on(step.state, "cpu"), "action_mask": _on(step.action_mask, "cpu")}


def _on(value: Tensor | None, device: torch.device | str) -> Tensor | None:
    return None if value is None else value.to(device)

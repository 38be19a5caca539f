"""From observations to actions: one forward pass per module for all replicas and agents at once."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import TorchSquashedGaussian
from ray.rllib.utils.numpy import MAX_LOG_NN_OUTPUT, MIN_LOG_NN_OUTPUT
from torch import Tensor

from algos.distributions import gumbel_noise
from algos.masks import ACTION_MASK
from common.errors import IncompatibleError


class Acted(NamedTuple):
    """Joint actions and what a learner wants to know of how they came about; axes B replicas, N agents."""

    actions: Tensor
    """As the environment takes them: [B, N] int64, or [B, N, D] float32."""
    stored: Tensor
    """As the policy drew them, before any scaling to the action space; same shape."""
    logp: Tensor | None
    """[B, N] float32."""
    dist_inputs: dict[str, Tensor] | None
    """Per module, [B, n, P] float32."""
    carry: Any
    """What a recurrent policy remembers, else None."""


def agents_by_module(module_ids: Iterable[str]) -> dict[str, list[int]]:
    """Group the indices of agents by the module that each acts by, in the order of the agents."""
    agents: dict[str, list[int]] = {}
    for n, module_id in enumerate(module_ids):
        agents.setdefault(module_id, []).append(n)
    return agents


class ModuleActor:
    """Acts for a team through RLlib's RLModules, whichever agents share one.

    Args:
        modules: RLModules by module id.
        agents: For each module id, the indices of the agents that act by it.
        obs_dims: Width of each agent's own observation, [N].
        action_spaces: Each agent's action space, [N].

    Raises:
        IncompatibleError: if agents that share a module differ in observation width or action space, if some agents
            choose and others set numbers, or if a module has a memory.
    """

    def __init__(
        self,
        modules: Mapping[str, Any],
        agents: Mapping[str, Sequence[int]],
        obs_dims: Sequence[int],
        action_spaces: Sequence[gym.Space],
    ) -> None:
        self.modules, self.num_agents = modules, len(obs_dims)
        self.agents = {m: list(i) for m, i in agents.items()}
        for module_id, index in self.agents.items():
            kinds = {(obs_dims[i], str(action_spaces[i])) for i in index}
            if len(kinds) > 1:
                raise IncompatibleError(
                    f"agents that share network {module_id!r} differ in observation width or actions: {sorted(kinds)}; "
                    "give each agent its own network (use_shared_networks=false)"
                )
            stateful = getattr(modules[module_id], "is_stateful", None)
            if stateful is not None and stateful():
                raise IncompatibleError(
                    f"network {module_id!r} has a memory, which this runner does not carry; use an MLP (use_lstm=False)"
                )
        if len({isinstance(s, gym.spaces.Discrete) for s in action_spaces}) > 1:
            named = ", ".join(str(s) for s in action_spaces)
            raise IncompatibleError(f"a team must act all in Discrete or all in Box spaces, but it has {named}")
        self.widths = {m: obs_dims[i[0]] for m, i in self.agents.items()}
        self.spaces = {m: action_spaces[i[0]] for m, i in self.agents.items()}
        self.is_discrete = all(isinstance(s, gym.spaces.Discrete) for s in action_spaces)
        self.squashed = set() if self.is_discrete else {m for m in self.agents if _is_squashed(modules[m])}
        self.action_dim = 0 if self.is_discrete else max(int(np.prod(cast(Any, s.shape))) for s in action_spaces)

    def initial_carry(self, num_replicas: int) -> None:
        """Nothing: stock modules are used without memory."""

    def act(
        self,
        obs: Tensor,
        action_mask: Tensor | None,
        carry: Any = None,
        *,
        explore: bool,
        generator: torch.Generator | None = None,
        timestep: int = 0,
    ) -> Acted:
        """Choose one joint action per replica.

        Args:
            obs: [B, N, F] float32.
            action_mask: [B, N, K] bool or None.
            carry: Ignored.
            explore: Draw from the policy, or take its mode.
            generator: Source of the draws; on the device of ``obs``.
            timestep: Environment steps sampled so far, for modules with a schedule of their own.
        """
        num_replicas = obs.shape[0]
        shape = (
            (num_replicas, self.num_agents) if self.is_discrete else (num_replicas, self.num_agents, self.action_dim)
        )
        dtype = torch.int64 if self.is_discrete else torch.float32
        stored = torch.zeros(shape, dtype=dtype, device=obs.device)
        actions = stored if self.is_discrete else torch.zeros_like(stored)
        logp = torch.zeros((num_replicas, self.num_agents), device=obs.device)
        dist_inputs: dict[str, Tensor] = {}
        for module_id, index in self.agents.items():
            rows, mask = self._rows(obs, action_mask, module_id)
            batch = {Columns.OBS: rows} if mask is None else {Columns.OBS: rows, ACTION_MASK: mask}
            module = self.modules[module_id]
            out = module.forward_exploration(batch, t=timestep) if explore else module.forward_inference(batch)
            num = len(index)
            if Columns.ACTION_DIST_INPUTS not in out:
                stored[:, index] = out[Columns.ACTIONS].view(num_replicas, num)
                continue
            inputs = out[Columns.ACTION_DIST_INPUTS]
            draw = draw_choice if self.is_discrete else _draw_gaussian
            drawn, drawn_logp = (_draw_squashed if module_id in self.squashed else draw)(inputs, explore, generator)
            dist_inputs[module_id] = inputs.view(num_replicas, num, -1)
            logp[:, index] = drawn_logp.view(num_replicas, num)
            if self.is_discrete:
                stored[:, index] = drawn.view(num_replicas, num)
            else:
                width = drawn.shape[-1]
                stored[:, index, :width] = drawn.view(num_replicas, num, width)
                actions[:, index, :width] = unsquash(drawn, self.spaces[module_id]).view(num_replicas, num, width)
        return Acted(actions, stored, logp if dist_inputs else None, dist_inputs or None, None)

    def _rows(self, obs: Tensor, action_mask: Tensor | None, module_id: str) -> tuple[Tensor, Tensor | None]:
        """Return the observations [B * n, F] and masks [B * n, K] of the agents of one module."""
        index, width = self.agents[module_id], self.widths[module_id]
        if len(index) != self.num_agents:
            obs = obs[:, index]
            action_mask = None if action_mask is None else action_mask[:, index]
        if width != obs.shape[-1]:
            obs = obs[..., :width]
        rows = obs.reshape(-1, width)
        if action_mask is None:
            return rows, None
        count = int(cast(gym.spaces.Discrete, self.spaces[module_id]).n)
        return rows, action_mask[..., :count].reshape(-1, count)


def draw_choice(logits: Tensor, explore: bool, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Draw from softmax(logits) by the Gumbel-max trick, or take the mode; [R, K] -> [R] int64 and log-probability."""
    noise = gumbel_noise(logits.shape, generator, logits.device) if explore else 0.0
    drawn = (logits + noise).argmax(-1)
    return drawn, torch.log_softmax(logits, -1).gather(-1, drawn.unsqueeze(-1)).squeeze(-1)


def _draw_gaussian(inputs: Tensor, explore: bool, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Draw from a diagonal Gaussian given as means and log standard deviations, [R, 2 D] -> [R, D] and log-density."""
    mean, log_std = inputs.chunk(2, dim=-1)
    noise = torch.randn(mean.shape, generator=generator, device=mean.device) if explore else torch.zeros_like(mean)
    logp = (-0.5 * noise.square() - log_std - 0.5 * float(np.log(2 * np.pi))).sum(-1)
    return mean + log_std.exp() * noise, logp


def _draw_squashed(inputs: Tensor, explore: bool, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Draw as ``_draw_gaussian`` does and squash by tanh, as SAC's policies act; [R, 2 D] -> (-1, 1)^D and log-density.

    RLlib's own greedy action would be the mean before it is squashed, which learners have never seen.
    """
    mean, log_std = inputs.chunk(2, dim=-1)
    bounded = torch.cat([mean, log_std.clamp(MIN_LOG_NN_OUTPUT, MAX_LOG_NN_OUTPUT)], dim=-1)
    drawn = torch.tanh(_draw_gaussian(bounded, explore, generator)[0])
    return drawn, cast(Tensor, TorchSquashedGaussian.from_logits(inputs).logp(drawn))


def _is_squashed(module: Any) -> bool:
    """Whether a module that sets numbers gives the parameters of a Gaussian that is squashed onto (-1, 1)."""
    kind = getattr(module, "get_inference_action_dist_cls", None)
    return kind is not None and kind() is TorchSquashedGaussian


def unsquash_team(drawn: Tensor, spaces: Sequence[gym.Space]) -> Tensor:
    """Map what agents have drawn, [B, N, D] in units of half their boxes, onto them; the rest of each row is 0."""
    actions = torch.zeros_like(drawn)
    for n, space in enumerate(spaces):
        width = int(np.prod(cast(gym.spaces.Box, space).shape))
        actions[:, n, :width] = unsquash(drawn[:, n, :width], space)
    return actions


def unsquash(actions: Tensor, space: gym.Space) -> Tensor:
    """Map [-1, 1] onto a Box and clip, as RLlib's ``normalize_actions`` does; [R, D] -> [R, D].

    Actions of a Box that has no bounds in some direction are left as they are.
    """
    box = cast(gym.spaces.Box, space)
    if not box.is_bounded():
        return actions
    low = torch.as_tensor(box.low, device=actions.device).reshape(-1)
    high = torch.as_tensor(box.high, device=actions.device).reshape(-1)
    return (low + (actions + 1.0) * (high - low) / 2.0).clamp(low, high)

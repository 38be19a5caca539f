"""TeamActorCritic: the policies of all agents, and the value function that they are judged by, in one RLModule."""

import math
from collections.abc import Sequence
from typing import Any, cast

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from algos.acting import Acted, draw_choice, unsquash_team
from algos.agent_attention import AgentAttention
from algos.distributions import choice_entropy, choice_logp, gaussian_entropy, gaussian_logp
from algos.encoders import Encoder, make_encoder
from algos.mappo.config import MAPPOSettings
from algos.masks import MASKED_LOGIT
from algos.nets import TeamEncoder, TeamLinear
from algos.running import merged_rows
from algos.spaces import is_team_of_choices
from algos.team_module import TeamModule
from algos.windows import width_of
from common.errors import IncompatibleError

LOGP, ENTROPY, VALUES = "logp", "entropy", "values"
STATISTICS = "critic.statistics"
"""Name of the running moments of returns in the module's state."""
_FIRST_POLICY_GAIN = 0.01
"""How much smaller the last layer of a policy starts than others, so that it prefers nothing (Yu et al. 2022)."""


class Policies(nn.Module):
    """Observations of every agent, [N, R, F], to the parameters of its distribution, by way of ``encoder``.

    Args:
        spaces: What each agent observes, N of them.
        width: K choices, or D numbers, of the agent that has most.
        is_discrete: Whether agents choose, or set numbers.
        settings: Of the algorithm.
    """

    def __init__(self, spaces: Sequence[gym.Space], width: int, settings: MAPPOSettings, *, is_discrete: bool):
        super().__init__()
        num_agents, is_shared = len(spaces), settings.use_shared_networks
        self.encoder = make_encoder(spaces, settings, hidden=settings.hidden)
        self.head = TeamLinear(num_agents, self.encoder.out_features, width, is_shared=is_shared)
        with torch.no_grad():
            self.head.weight.mul_(_FIRST_POLICY_GAIN)
            self.head.bias.zero_()
        first = torch.full((1 if is_shared else num_agents, 1, width), math.log(settings.initial_std))
        self.log_std = None if is_discrete else nn.Parameter(first)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the encoder makes of observations, [N, R, H], to distributions.

        Returns:
            Logits [N, R, K]; or means, and log standard deviations that no observation changes, [N, R, D] each.
        """
        out = self.head(features)
        return out, None if self.log_std is None else self.log_std.expand_as(out)


class Critic(nn.Module):
    """The value function: of the global state for all agents (MAPPO), or of each agent's observation (IPPO).

    Where MAPPO attends, it is of all agents' observations, each encoded by itself. No value function has a memory:
    beside recurrent policies it is an MLP.

    ``statistics`` are count, mean and sum of squared deviations of all returns so far, [3, C] float64, one column for
    a reward that all share, or one for each agent; by them values are normalised (Yu et al. 2022, section 3). They
    are part of the module, so that whoever takes over its weights takes over their meaning.
    """

    def __init__(self, spaces: Sequence[gym.Space], state_dim: int, settings: MAPPOSettings, *, is_own: bool):
        super().__init__()
        self.num_agents, self.is_normalised = len(spaces), settings.use_value_normalisation
        self.is_central = bool(state_dim)
        num_values = self.num_agents if is_own else 1
        count = 1 if self.is_central else self.num_agents
        is_shared = self.is_central or settings.use_shared_networks
        self.encoder: Encoder = (
            TeamEncoder(1, state_dim, settings.hidden, is_recurrent=False, is_shared=True)
            if self.is_central
            else make_encoder(spaces, settings, hidden=settings.hidden, has_memory=False)
        )
        outputs, width = num_values if self.is_central else 1, self.encoder.out_features
        attends = settings.critic == "attention"
        self.attention = AgentAttention(count, width, settings.num_heads, is_shared=is_shared) if attends else None
        self.head = None if attends else TeamLinear(count, width, outputs, is_shared=is_shared)
        self.register_buffer("statistics", torch.zeros(3, num_values, dtype=torch.float64))

    def forward(self, obs: Tensor, state: Tensor | None) -> Tensor:
        """Normalised values of every agent.

        Args:
            obs: [R, N, F] float32.
            state: [R, S] float32, for a central value function.

        Returns:
            [R, N] float32.
        """
        seen = cast(Tensor, state).unsqueeze(0) if self.is_central else obs.transpose(0, 1)
        features = self.encoder(seen)
        if self.attention is not None:
            values: Tensor = self.attention(features, features.transpose(0, 1).unsqueeze(0))
            return values
        out = cast(TeamLinear, self.head)(features)
        return out[0].expand(-1, self.num_agents) if self.is_central else out.squeeze(-1).transpose(0, 1)

    def scale(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of returns so far, [C] float32; 0 and 1 where nothing is to be normalised."""
        count, mean, squares = cast(Tensor, self.statistics)
        deviation = (squares / count.clamp_min(1.0)).sqrt()
        can = (deviation > 1e-12) & self.is_normalised
        return torch.where(can, mean, 0.0).float(), torch.where(can, deviation, 1.0).float()

    def normalise(self, returns: Tensor) -> Tensor:
        """Returns in the units of ``forward``; [..., N]."""
        mean, deviation = self.scale()
        return (returns - mean) / deviation

    def denormalise(self, values: Tensor) -> Tensor:
        """What ``forward`` gives in the units of returns; [..., N]."""
        mean, deviation = self.scale()
        return values * deviation + mean

    @torch.no_grad()
    def see(self, moments: Tensor) -> None:
        """Add count, mean and sum of squared deviations of new returns to the statistics; [3, C] float64."""
        statistics = cast(Tensor, self.statistics)
        statistics.copy_(merged_rows(statistics, moments))


class TeamActorCritic(TeamModule):
    """One RLModule for the whole team.

    Observation space: ``Dict(obs=Dict(agent: Box), state=Box)``; action space: ``Dict(agent: Discrete)`` or
    ``Dict(agent: Box)``. The model config holds ``settings`` (a MAPPOSettings as a dict), ``is_central`` and
    ``is_own`` (whether each agent is paid its own reward).

    Numbers are drawn from a diagonal Gaussian in units of half the width of the Box, and clipped to it on their way to
    the environment only: what is stored, and what the log-density is of, is the draw. The greedy action is the mean.

    Raises:
        IncompatibleError: if some agents choose and others set numbers, or there is no state to be central about.
    """

    def setup(self) -> None:
        """Build the networks; a runner's copy has the policies alone."""
        spaces = cast(gym.spaces.Dict, self.observation_space)
        obs_spaces = cast(gym.spaces.Dict, spaces["obs"]).spaces
        self.agent_spaces = list(cast(gym.spaces.Dict, self.action_space).spaces.values())
        self.is_discrete, widths = is_team_of_choices(self.agent_spaces)
        self.settings = MAPPOSettings(**self.model_config["settings"])
        self.num_agents = len(obs_spaces)
        seen = [*obs_spaces.values()]
        used = torch.arange(max(widths)) < torch.tensor(widths).unsqueeze(-1)
        self.register_buffer("used", used, persistent=False)
        self.agents = Policies(seen, max(widths), self.settings, is_discrete=self.is_discrete)
        if self.inference_only:
            return
        is_of_state = bool(self.model_config["is_central"]) and self.settings.critic == "mlp"
        state_dim = width_of(spaces["state"]) if is_of_state else 0
        if is_of_state and not state_dim:
            raise IncompatibleError("mappo values the global state, but this environment has none: use ippo")
        is_own = bool(self.model_config["is_own"])
        self.critic = Critic(seen, state_dim, self.settings, is_own=is_own)

    def get_non_inference_attributes(self) -> list[str]:
        """What a runner does without."""
        return ["critic"]

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Weights and statistics; RLlib alone would round the latter to float32, and a resumed run drift."""
        state: dict[str, Any] = super().get_state(*args, **kwargs)
        if STATISTICS in state:
            state[STATISTICS] = cast(Tensor, self.critic.statistics).cpu().numpy().copy()
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over weights and, unrounded, statistics."""
        super().set_state(state)
        if not self.inference_only and STATISTICS in state:
            saved = np.asarray(state[STATISTICS], np.float64)
            cast(Tensor, self.critic.statistics).copy_(torch.from_numpy(saved))

    # -- acting --------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def act(
        self,
        obs: Tensor,
        action_mask: Tensor | None,
        carry: Tensor | None = None,
        *,
        explore: bool,
        generator: torch.Generator | None = None,
        timestep: int = 0,
    ) -> Acted:
        """Draw each agent's action, or take its mode.

        Args:
            obs: [B, N, F] float32.
            action_mask: [B, N, K] bool or None.
            carry: Memory of a GRU, [B, N, H].
            explore: Draw, or take the mode.
            generator: Source of the draws.
            timestep: Ignored.
        """
        features = self.agents.encoder(obs.transpose(0, 1), None if carry is None else carry.transpose(0, 1))
        new_carry = None if carry is None else features.transpose(0, 1)
        out, log_std = self._distributions(features, action_mask)
        if log_std is None:
            drawn, logp = draw_choice(out, explore, generator)
            return Acted(drawn, drawn, logp, None, new_carry)
        used = cast(Tensor, self.used)
        noise = torch.randn(out.shape, generator=generator, device=out.device) if explore else torch.zeros_like(out)
        drawn = (out + log_std.exp() * noise) * used
        actions = unsquash_team(drawn, self.agent_spaces)
        return Acted(actions, drawn, gaussian_logp(out, log_std, drawn, used), None, new_carry)

    def _distributions(self, features: Tensor, action_mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """From encoded observations [N, R, H]: masked logits [R, N, K] and None; or means and log stds, [R, N, D]."""
        out, log_std = self.agents(features)
        out = out.transpose(0, 1)
        if log_std is not None:
            return out, log_std.transpose(0, 1)
        allowed = cast(Tensor, self.used) if action_mask is None else action_mask
        return out.masked_fill(~allowed, MASKED_LOGIT), None

    # -- learning ------------------------------------------------------------------------------------------------------

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Tensor]:
        """What the losses are made of.

        Args:
            batch: ``obs`` [R, N, F], ``actions`` [R, N] or [R, N, D], and where there are any ``action_mask``
                [R, N, K] and ``state`` [R, S]. For policies with a memory the R rows are T steps of b replicas, step
                after step, and beside them are ``memory`` [b, N, H] at the first step and ``ended`` [T, b].
            kwargs: Nothing that is used.

        Returns:
            ``logp`` of the actions, ``entropy`` of the policies and normalised ``values``, [R, N] each.
        """
        out, log_std = self._distributions(self._features(batch), batch.get("action_mask"))
        values = self.critic(batch["obs"], batch.get("state"))
        if log_std is None:
            return {LOGP: choice_logp(out, batch["actions"]), ENTROPY: choice_entropy(out), VALUES: values}
        used = cast(Tensor, self.used)
        logp = gaussian_logp(out, log_std, batch["actions"], used)
        return {LOGP: logp, ENTROPY: gaussian_entropy(log_std, used), VALUES: values}

    def _features(self, batch: dict[str, Any]) -> Tensor:
        """What policies see and remember in each row of a batch, [N, R, H]."""
        obs, encoder = batch["obs"].transpose(0, 1), self.agents.encoder
        if "memory" not in batch:
            features: Tensor = encoder(obs)
            return features
        ended = batch["ended"]
        sequences = obs.unflatten(1, ended.shape)
        return cast(TeamEncoder, encoder).unroll(sequences, batch["memory"].transpose(0, 1), ended).flatten(1, 2)

"""TeamDDPGModule: deterministic policies of all agents, and critics of all they observe and do, with target copies."""

import copy
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import gymnasium as gym
import torch
from torch import Tensor, nn

from algos.acting import Acted, draw_choice, unsquash_team
from algos.agent_attention import AgentAttention
from algos.distributions import gumbel_noise, straight_through
from algos.encoders import make_encoder
from algos.maddpg.config import MADDPGSettings
from algos.masks import MASKED_LOGIT
from algos.nets import TeamEncoder, TeamLinear, follow
from algos.replay import TeamBatch
from algos.schedules import straight_line
from algos.spaces import is_team_of_choices
from algos.team_module import TeamModule
from algos.windows import width_of
from common.errors import IncompatibleError

Q, NEXT_Q, POLICY_Q, OUTPUT_SQUARE = "q", "next_q", "policy_q", "output_square"
_FIRST_POLICY_GAIN = 0.1
"""How much smaller the last layer of a policy starts than others, so that no action is at its bound at once."""


class Noise(NamedTuple):
    """Draws of one gradient step, [S, N, A] each: of Gumbel's distribution for choices, normal ones for numbers."""

    policy: Tensor
    """For the policies' own actions; numbers need none."""
    target: Tensor
    """For the target policies' actions."""


class DeterministicPolicies(nn.Module):
    """Observations of every agent, [N, R, F], to logits or to numbers before they are squashed, [N, R, A]."""

    def __init__(self, spaces: Sequence[gym.Space], width: int, settings: MADDPGSettings) -> None:
        super().__init__()
        self.encoder = make_encoder(spaces, settings, hidden=settings.hidden)
        self.head = TeamLinear(len(spaces), self.encoder.out_features, width, is_shared=settings.use_shared_networks)
        with torch.no_grad():
            self.head.weight.mul_(_FIRST_POLICY_GAIN)
            self.head.bias.zero_()

    def forward(self, obs: Tensor, memory: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What is done in one step, [N, R, A], and the features that it comes from, which a GRU remembers."""
        features = self.encoder(obs, memory)
        return self.head(features), features

    def of_batch(self, joint: TeamBatch, *, with_next: bool) -> Tensor:
        """What is done on the observations of a batch, or on what they led to.

        A GRU begins each sequence with an empty memory.

        Args:
            joint: Steps or sequences.
            with_next: Whether what followed is wanted.

        Returns:
            [L * S, N, A].
        """
        seen = (joint.next_obs if with_next else joint.obs).movedim(2, 0)  # [N, L, S, F]
        if not isinstance(self.encoder, TeamEncoder) or not self.encoder.is_recurrent:
            return self.head(self.encoder(seen.flatten(1, 2))).transpose(0, 1)
        obs = joint.obs.movedim(2, 0)
        blank = obs.new_zeros(len(obs), obs.shape[2], self.encoder.memory)
        features = self.encoder.unroll(obs, blank, joint.ended).flatten(1, 2)
        if with_next:  # what was remembered after each step, also where an episode ended in it
            features = self.encoder(seen.flatten(1, 2), features)
        return self.head(features).transpose(0, 1)


class JointCritic(nn.Module):
    """Value of what all agents observe and do (Lowe et al. 2017, eq. 6): one for each agent, or for the team.

    Beside policies that have a memory it has one too: what hangs on earlier bars could not be judged without it, nor
    policies be taught to remember (Wang et al. 2020, R-MADDPG).

    Args:
        num_agents: N.
        width: Width of all observations and actions together, N (F + A).
        settings: Of the algorithm.
    """

    def __init__(self, num_agents: int, width: int, settings: MADDPGSettings) -> None:
        super().__init__()
        self.num_agents, count = num_agents, num_agents if settings.reward == "own" else 1
        is_shared = settings.use_shared_networks or count == 1
        is_recurrent = settings.network == "gru"
        self.encoder = TeamEncoder(count, width, settings.hidden, is_recurrent=is_recurrent, is_shared=is_shared)
        self.head = TeamLinear(count, self.encoder.out_features, 1, is_shared=is_shared)
        self.num_values = count

    def forward(self, obs: Tensor, actions: Tensor, memory: Tensor | None = None) -> Tensor:
        """Values of joint actions.

        Args:
            obs: [R, N, F] float32.
            actions: One-hot choices or numbers, [R, N, A] float32; or [N, R, N, A], of which the values that the N
                agents have for their own row are asked for.
            memory: What is remembered of the steps before, [C, R, H] float32; None without a GRU.

        Returns:
            [R, C] float32, C being N or, for a team's reward, 1; or [R, N].
        """
        seen = obs.flatten(1).expand(*actions.shape[:-2], -1)
        rows = torch.cat([seen, actions.flatten(-2)], -1)
        if self.num_values == 1:
            flat = rows.reshape(1, -1, rows.shape[-1])
            if memory is not None and actions.dim() == 4:
                memory = memory.expand(len(rows), -1, -1).reshape(1, flat.shape[1], -1)
            values = self.head(self.encoder(flat, memory)).reshape(rows.shape[:-1])
            return values.T if actions.dim() == 4 else values.unsqueeze(-1)
        per_agent = rows if actions.dim() == 4 else rows.expand(self.num_agents, -1, -1)
        out: Tensor = self.head(self.encoder(per_agent, memory))
        return out.squeeze(-1).T

    def remember(self, obs: Tensor, actions: Tensor, ended: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """What a GRU remembers before and after each step of sequences, which it begins with an empty memory.

        Args:
            obs: [L, S, N, F] float32.
            actions: Those that were taken, [L, S, N, A] float32.
            ended: Whether an episode ended in a step, [L, S] bool.

        Returns:
            [C, L * S, H] each; None without a GRU.
        """
        if not self.encoder.is_recurrent:
            return None, None
        rows = torch.cat([obs.flatten(2), actions.flatten(2)], -1).expand(self.num_values, -1, -1, -1)
        blank = obs.new_zeros(self.num_values, obs.shape[1], self.encoder.memory)
        after = self.encoder.unroll(rows, blank, ended)
        kept = after[:, :-1].masked_fill(ended[:-1].unsqueeze(-1), 0.0)
        return torch.cat([blank.unsqueeze(1), kept], 1).flatten(1, 2), after.flatten(1, 2)


class AttentionCritic(nn.Module):
    """Value of what all agents observe and do, for each agent, by attention to the others (Iqbal and Sha 2019).

    For a team's reward too each agent has an estimate of its own. It has no memory.

    Args:
        num_agents: N.
        width: Width of one agent's observation and action, F + A.
        settings: Of the algorithm.
    """

    def __init__(self, num_agents: int, width: int, settings: MADDPGSettings) -> None:
        super().__init__()
        self.num_agents, is_shared = num_agents, settings.use_shared_networks
        self.encoder = TeamEncoder(
            num_agents, width, settings.hidden, is_recurrent=False, is_shared=is_shared, has_id=settings.has_agent_id
        )
        self.attention = AgentAttention(num_agents, settings.hidden[-1], settings.num_heads, is_shared=is_shared)

    def remember(self, obs: Tensor, actions: Tensor, ended: Tensor) -> tuple[None, None]:
        """Nothing: as ``JointCritic`` without a GRU."""
        return None, None

    def forward(self, obs: Tensor, actions: Tensor, memory: Tensor | None = None) -> Tensor:
        """Values of joint actions, given as to ``JointCritic``; [R, N] float32."""
        seen = torch.cat([obs.expand(*actions.shape[:-1], -1), actions], -1)
        seen = seen if actions.dim() == 4 else seen.unsqueeze(0)
        tokens = self.encoder(seen.movedim(2, 0).flatten(1, 2)).unflatten(1, seen.shape[:2]).movedim(0, 2)
        own = tokens.expand(self.num_agents, -1, -1, -1).diagonal(dim1=0, dim2=2).movedim(-1, 0)
        values: Tensor = self.attention(own, tokens)
        return values


class TeamDDPGModule(TeamModule):
    """One RLModule for the whole team.

    Observation space: ``Dict(obs=Dict(agent: Box), state=Box)``; action space: ``Dict(agent: Discrete)`` or
    ``Dict(agent: Box)``. The model config holds ``settings`` (a MADDPGSettings as a dict).

    Numbers are in units of half the width of the Box, between -1 and 1.

    Raises:
        IncompatibleError: if some agents choose and others set numbers, or noise on numbers is set for choices.
    """

    def setup(self) -> None:
        """Build the networks; a runner's copy has the policies alone."""
        spaces = cast(gym.spaces.Dict, self.observation_space)
        obs_spaces = cast(gym.spaces.Dict, spaces["obs"]).spaces
        self.agent_spaces = list(cast(gym.spaces.Dict, self.action_space).spaces.values())
        self.is_discrete, widths = is_team_of_choices(self.agent_spaces)
        self.settings = MADDPGSettings(**self.model_config["settings"])
        if self.is_discrete and (self.settings.target_noise or self.settings.noise == "ou"):
            raise IncompatibleError(
                "maddpg.target_noise and maddpg.noise=ou are noise on numbers, but these agents choose: leave them out"
            )
        self.num_agents, self.width = len(obs_spaces), max(widths)
        obs_dim = max(map(width_of, obs_spaces.values()))
        self.num_outputs = sum(widths)
        used = torch.arange(self.width) < torch.tensor(widths).unsqueeze(-1)
        self.register_buffer("used", used, persistent=False)
        own = torch.eye(self.num_agents, dtype=torch.bool).view(self.num_agents, 1, -1, 1)
        self.register_buffer("own", own, persistent=False)
        self.agents = DeterministicPolicies([*obs_spaces.values()], self.width, self.settings)
        if self.inference_only:
            return
        self.critic = nn.ModuleList(
            AttentionCritic(self.num_agents, obs_dim + self.width, self.settings)
            if self.settings.critic == "attention"
            else JointCritic(self.num_agents, self.num_agents * (obs_dim + self.width), self.settings)
            for _ in range(2 if self.settings.twin_critics else 1)
        )
        self.target_agents = copy.deepcopy(self.agents).requires_grad_(False)
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)

    def get_non_inference_attributes(self) -> list[str]:
        """What a runner does without."""
        return ["critic", "target_agents", "target_critic"]

    # -- acting --------------------------------------------------------------------------------------------------------

    def initial_carry(self, num_replicas: int) -> Tensor | None:
        """What is carried from step to step, at rest; None where that is nothing.

        Returns:
            Memory of a GRU, [B, N, H], and behind it the Ornstein-Uhlenbeck process, [B, N, D], in units of its
            deviation.
        """
        return self.blank_carry(num_replicas, self.agents.encoder.memory + (self.width if self._has_process else 0))

    @property
    def _has_process(self) -> bool:
        return not self.is_discrete and self.settings.noise == "ou"

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
        """Take each agent's action, with noise on it where it explores.

        Args:
            obs: [B, N, F] float32.
            action_mask: [B, N, K] bool or None.
            carry: As ``initial_carry`` has it.
            explore: Whether to add noise, or to draw choices.
            generator: Source of the draws.
            timestep: Environment steps sampled so far; sets the deviation of the noise.
        """
        size = self.agents.encoder.memory
        memory = carry[..., :size].transpose(0, 1) if carry is not None and size else None
        process = carry[..., size:] if carry is not None and self._has_process else None
        out, features = self.agents(obs.transpose(0, 1), memory)
        new_memory = features if size else None
        out = out.transpose(0, 1)
        if self.is_discrete:
            drawn, _ = draw_choice(self._allowed_logits(out, action_mask), explore, generator)
            return Acted(drawn, drawn, None, None, _carried(new_memory, None))
        drawn = torch.tanh(out)
        if explore:
            s, noise = self.settings, torch.randn(out.shape, generator=generator, device=out.device)
            if process is not None:
                noise = process = (1.0 - s.ou_theta) * process + math.sqrt(1.0 - (1.0 - s.ou_theta) ** 2) * noise
            deviation = straight_line(s.noise_start, s.noise_end, s.noise_decay_steps, timestep)
            drawn = (drawn + deviation * noise).clamp(-1.0, 1.0)
        drawn = drawn * cast(Tensor, self.used)
        actions = unsquash_team(drawn, self.agent_spaces)
        return Acted(actions, drawn, None, None, _carried(new_memory, process))

    def _allowed_logits(self, logits: Tensor, action_mask: Tensor | None) -> Tensor:
        allowed = cast(Tensor, self.used) if action_mask is None else action_mask
        return logits.masked_fill(~allowed, MASKED_LOGIT)

    # -- learning ------------------------------------------------------------------------------------------------------

    def draw_noise(self, num_samples: int, generator: torch.Generator) -> Noise:
        """Draws of one gradient step on S samples."""
        shape, device = (2, num_samples, self.num_agents, self.width), cast(Tensor, self.used).device
        if self.is_discrete:
            return Noise(*gumbel_noise(shape, generator, device))
        return Noise(*torch.randn(shape, generator=generator, device=device))

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Tensor]:
        """What the losses are made of.

        Each policy's action is judged beside the actions that the others took (Lowe et al. 2017, eq. 5), or would take
        now (Peng et al. 2021), by critics that this does not change.

        Args:
            batch: ``joint``, a TeamBatch of R = L S steps, and ``noise`` for as many.
            kwargs: Nothing that is used.

        Returns:
            ``q`` [critics, R, C] of the joint actions that were taken, ``next_q`` [R, C] of what follows by the
            targets, ``policy_q`` [R, N] of each policy's action, and ``output_square``, the mean square of what the
            policies give out.
        """
        joint: TeamBatch = batch["joint"]
        noise: Noise = batch["noise"]
        rows = joint.map(lambda v: v.flatten(0, 1))
        obs, taken = rows.obs, self._as_input(rows.actions)
        sequences = (joint.obs, taken.unflatten(0, joint.ended.shape), joint.ended)
        with torch.no_grad():
            following = self._target_actions(joint, rows.next_mask, noise.target)
            after = [cast(Any, c).remember(*sequences)[1] for c in self.target_critic]
            following_q = [c(rows.next_obs, following, m) for c, m in zip(self.target_critic, after, strict=True)]
            next_q = torch.minimum(*following_q) if self.settings.twin_critics else following_q[0]
        out = self.agents.of_batch(joint, with_next=False)
        chosen = self._differentiable(out, rows.mask, noise.policy)
        others = chosen.detach() if self.settings.use_centralised_gradient else taken
        each = torch.where(cast(Tensor, self.own), chosen, others)  # [N, R, N, A]
        fixed = {name: p.detach() for name, p in self.critic[0].named_parameters()}
        before = [cast(Any, c).remember(*sequences)[0] for c in self.critic]
        first = None if before[0] is None else before[0].detach()
        return {
            Q: torch.stack([c(obs, taken, m) for c, m in zip(self.critic, before, strict=True)]),
            NEXT_Q: next_q,
            POLICY_Q: torch.func.functional_call(self.critic[0], fixed, (obs, each, first)),
            OUTPUT_SQUARE: (out.square() * cast(Tensor, self.used)).sum() / (len(obs) * self.num_outputs),
        }

    def _as_input(self, actions: Tensor) -> Tensor:
        """Actions as critics see them, [R, N, A]: choices as one-hot rows."""
        if not self.is_discrete:
            return actions
        return nn.functional.one_hot(actions, self.width).to(torch.float32)

    def _differentiable(self, out: Tensor, action_mask: Tensor | None, noise: Tensor) -> Tensor:
        """The policies' actions as critics see them, with a gradient; [R, N, A]."""
        if self.is_discrete:
            return straight_through(self._allowed_logits(out, action_mask), noise, self.settings.temperature)
        return torch.tanh(out) * cast(Tensor, self.used)

    def _target_actions(self, joint: TeamBatch, action_mask: Tensor | None, noise: Tensor) -> Tensor:
        """What the target policies do next, smoothed by noise where that is set (Fujimoto et al. 2018, eq. 14)."""
        out = self.target_agents.of_batch(joint, with_next=True)
        if self.is_discrete:
            return straight_through(self._allowed_logits(out, action_mask), noise, self.settings.temperature)
        limit = self.settings.target_noise_clip
        smoothed = torch.tanh(out) + (self.settings.target_noise * noise).clamp(-limit, limit)
        return smoothed.clamp(-1.0, 1.0) * cast(Tensor, self.used)

    def update_targets(self, tau: float) -> None:
        """Move the target networks toward the online ones by ``tau``; 1 copies."""
        follow([self.target_agents, self.target_critic], [self.agents, self.critic], tau)


def _carried(memory: Tensor | None, process: Tensor | None) -> Tensor | None:
    """A GRU's memory, [N, B, H], and the process of the noise, [B, N, D], as one array; runners carry no more."""
    parts = [part for part in (None if memory is None else memory.transpose(0, 1), process) if part is not None]
    return torch.cat(parts, -1) if parts else None

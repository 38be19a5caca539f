"""TeamQModule: agents' Q-networks and the mixer that may make one team value of them, with their target copies."""

import copy
from collections.abc import Mapping
from typing import Any, cast

import gymnasium as gym
import torch
from torch import Tensor, nn

from algos.acting import Acted
from algos.masks import MASKED_LOGIT
from algos.nets import follow
from algos.q_networks import AgentNetworks
from algos.q_settings import TeamQSettings
from algos.replay import TeamBatch
from algos.schedules import epsilon_at
from algos.team_module import TeamModule
from common.errors import IncompatibleError

Q_TOT = "q_tot"
TARGET_Q_TOT = "target_q_tot"
_OF_ONE_ALGORITHM = ("mixing_embed_dim", "hypernet_hidden", "num_quantiles", "huber_kappa", "reward")
"""Settings of a module's description that not all algorithms share; older checkpoints have them all."""


class NoMixer(nn.Module):
    """Independent Q-learning: there is no team value, each agent has its own (Tan 1993)."""

    def forward(self, agent_qs: Tensor, state: Tensor | None) -> Tensor:
        """Leave [R, N], or [R, N, Q], as it is."""
        return agent_qs


class SumMixer(nn.Module):
    """VDN: the team value is the sum of the agents' (Sunehag et al. 2018, eq. 3)."""

    def forward(self, agent_qs: Tensor, state: Tensor | None) -> Tensor:
        """Map [R, N] (and any state) to [R]."""
        return agent_qs.sum(-1)


class MonotonicMixer(nn.Module):
    """QMIX: a mixing network whose weights the state makes, monotonic in every agent's value.

    Rashid et al. 2018, section 4.1 and figure 2: hypernetworks produce non-negative weights by absolute value, the
    first bias is linear in the state, the last one a two-layer network of it.

    Args:
        num_agents: N.
        state_dim: G.
        embed: Width of the mixing network's hidden layer.
        hidden: Width of the hypernetworks' hidden layers.
    """

    def __init__(self, num_agents: int, state_dim: int, *, embed: int, hidden: int) -> None:
        super().__init__()
        self.num_agents, self.embed = num_agents, embed
        self.weights_1 = nn.Sequential(nn.Linear(state_dim, hidden), nn.ReLU(), nn.Linear(hidden, num_agents * embed))
        self.bias_1 = nn.Linear(state_dim, embed)
        self.weights_2 = nn.Sequential(nn.Linear(state_dim, hidden), nn.ReLU(), nn.Linear(hidden, embed))
        self.bias_2 = nn.Sequential(nn.Linear(state_dim, embed), nn.ReLU(), nn.Linear(embed, 1))

    def forward(self, agent_qs: Tensor, state: Tensor | None) -> Tensor:
        """Map agents' values [R, N] and the state [R, G] to team values [R]."""
        state = cast(Tensor, state)
        weights_1 = self.weights_1(state).abs().view(-1, self.num_agents, self.embed)
        hidden = nn.functional.elu(torch.baddbmm(self.bias_1(state).unsqueeze(1), agent_qs.unsqueeze(1), weights_1))
        weights_2 = self.weights_2(state).abs().unsqueeze(-1)
        return (torch.bmm(hidden, weights_2).squeeze(-1) + self.bias_2(state)).squeeze(-1)


class TeamQModule(TeamModule):
    """One RLModule for the whole team.

    Observation space: ``Dict(obs=Dict(agent: Box), state=Box)``; action space: ``Dict(agent: Discrete)``. The model
    config holds ``settings`` (a TeamQSettings as a dict, with what the algorithm adds) and ``mixer`` ("qmix", "vdn" or
    "none").

    Attributes:
        num_quantiles: Quantiles that each action's value has, where there is no mixer; 0: the mean alone.

    Raises:
        IncompatibleError: if an agent does not choose among discrete actions.
    """

    def setup(self) -> None:
        """Build the networks; a runner's copy has the agents' alone."""
        spaces = cast(gym.spaces.Dict, self.observation_space)
        actions = cast(gym.spaces.Dict, self.action_space).spaces
        wrong = [a for a, s in actions.items() if not isinstance(s, gym.spaces.Discrete)]
        if wrong:
            raise IncompatibleError(
                f"QMIX, VDN and INDQ need discrete actions; these agents have others: {', '.join(wrong)}"
            )
        settings = dict(self.model_config["settings"])
        own = {name: settings.pop(name) for name in _OF_ONE_ALGORITHM if name in settings}
        self.settings, self.num_quantiles = TeamQSettings(**settings), own.get("num_quantiles", 0)
        obs_spaces = cast(gym.spaces.Dict, spaces["obs"]).spaces
        self.num_agents = len(obs_spaces)
        counts = [int(cast(gym.spaces.Discrete, s).n) for s in actions.values()]
        self.num_actions = max(counts)
        allowed = torch.arange(self.num_actions) < torch.tensor(counts).unsqueeze(-1)
        self.register_buffer("allowed", allowed, persistent=False)
        self.agents = AgentNetworks([*obs_spaces.values()], counts, self.settings, self.num_quantiles)
        if self.inference_only:
            return
        state_dim = int(cast(Any, spaces["state"].shape)[0])
        self.mixer = self._make_mixer(state_dim, own)
        self.target_agents = copy.deepcopy(self.agents).requires_grad_(False)
        self.target_mixer = copy.deepcopy(self.mixer).requires_grad_(False)

    def _make_mixer(self, state_dim: int, own: Mapping[str, Any]) -> nn.Module:
        kind = self.model_config["mixer"]
        if kind == "qmix":
            embed, hidden = own["mixing_embed_dim"], own["hypernet_hidden"]
            return MonotonicMixer(self.num_agents, state_dim, embed=embed, hidden=hidden)
        return SumMixer() if kind == "vdn" else NoMixer()

    def get_non_inference_attributes(self) -> list[str]:
        """What a runner does without."""
        return ["mixer", "target_agents", "target_mixer"]

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
        """Choose each agent's best allowed action, or with chance epsilon a random allowed one.

        Args:
            obs: [B, N, F] float32.
            action_mask: [B, N, K] bool or None.
            carry: Memory of a GRU, [B, N, H].
            explore: Whether to act at random at times.
            generator: Source of the draws.
            timestep: Environment steps sampled so far; sets epsilon.
        """
        memory = None if carry is None else carry.transpose(0, 1)
        values, new_memory = self.agents(obs.transpose(0, 1), memory)
        allowed = cast(Tensor, self.allowed) if action_mask is None else action_mask
        values = self._expected(values).transpose(0, 1).masked_fill(~allowed, MASKED_LOGIT)
        actions = values.argmax(-1)
        if explore:
            draws = torch.rand(values.shape, generator=generator, device=values.device)
            chosen = draws.masked_fill(~allowed, -1.0).argmax(-1)
            chance = epsilon_at(self.settings, timestep)
            is_random = torch.rand(actions.shape, generator=generator, device=values.device) < chance
            actions = torch.where(is_random, chosen, actions)
        return Acted(actions, actions, None, None, None if new_memory is None else new_memory.transpose(0, 1))

    # -- learning ------------------------------------------------------------------------------------------------------

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Tensor]:
        """Team values of the actions taken, and of what follows by the target networks; without a mixer, agents' own.

        Args:
            batch: ``{"joint": TeamBatch}``.
            kwargs: Nothing that is used.

        Returns:
            ``q_tot`` [L, S] with gradient and ``target_q_tot`` [L, S] without; without a mixer [L, S, N], and where
            quantiles are learned [L, S, N, Q].
        """
        joint: TeamBatch = batch["joint"]
        steps = joint.discounts.shape
        following = None
        if self.agents.encoder.is_recurrent:  # walks through what was seen and what followed at once
            values, following = self._unroll(self.agents, joint)
        else:
            values = self._values(self.agents, joint.obs)
        with torch.no_grad():
            target_following = self._following(self.target_agents, joint)
            chooser = target_following
            if self.settings.double_q:
                chooser = self._following(self.agents, joint) if following is None else following.detach()
            allowed = cast(Tensor, self.allowed) if joint.next_mask is None else joint.next_mask
            best = self._expected(chooser).masked_fill(~allowed, MASKED_LOGIT).argmax(-1)
            next_qs = self._of_action(target_following, best)
            next_state = None if joint.next_state is None else joint.next_state.flatten(0, 1)
            target = self.target_mixer(next_qs.flatten(0, 1), next_state).unflatten(0, steps)
        qs = self._of_action(values, joint.actions)
        state = None if joint.state is None else joint.state.flatten(0, 1)
        return {Q_TOT: self.mixer(qs.flatten(0, 1), state).unflatten(0, steps), TARGET_Q_TOT: target}

    def _expected(self, values: Tensor) -> Tensor:
        """Means of the quantiles of each action, where there are any: [..., K * Q] to [..., K]."""
        return values.unflatten(-1, (-1, self.num_quantiles)).mean(-1) if self.num_quantiles else values

    def _of_action(self, values: Tensor, actions: Tensor) -> Tensor:
        """What the networks say of one action each: [..., K] (or [..., K * Q]) to [...] (or [..., Q])."""
        if not self.num_quantiles:
            return values.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
        index = actions[..., None, None].expand(*actions.shape, 1, self.num_quantiles)
        return values.unflatten(-1, (-1, self.num_quantiles)).gather(-2, index).squeeze(-2)

    def _values(self, agents: AgentNetworks, obs: Tensor) -> Tensor:
        """Q-values of observations [L, S, N, F] by networks without a memory, [L, S, N, K] (with quantiles, K * Q)."""
        return agents(obs.flatten(0, 1).transpose(0, 1))[0].transpose(0, 1).unflatten(0, obs.shape[:2])

    def _following(self, agents: AgentNetworks, joint: TeamBatch) -> Tensor:
        """Q-values of what the observations led to, [L, S, N, K] (with quantiles, K * Q)."""
        is_recurrent = agents.encoder.is_recurrent
        return self._unroll(agents, joint)[1] if is_recurrent else self._values(agents, joint.next_obs)

    def _unroll(self, agents: AgentNetworks, joint: TeamBatch) -> tuple[Tensor, Tensor]:
        """Q-values by a GRU of the observations and of what they led to, [L, S, N, K] (with quantiles, K * Q) each."""
        length, samples = joint.discounts.shape
        blank = torch.zeros(self.num_agents, samples, agents.encoder.memory, device=joint.obs.device)
        q, memory = agents(joint.obs[0].transpose(0, 1), blank)
        values, following = [q], []
        for t in range(length):
            q_next, memory_next = agents(joint.next_obs[t].transpose(0, 1), memory)
            following.append(q_next)
            if t + 1 < length:
                over = joint.ended[t].view(1, -1, 1)
                q_new, memory_new = agents(joint.obs[t + 1].transpose(0, 1), blank)
                values.append(torch.where(over, q_new, q_next))
                memory = torch.where(over, cast(Tensor, memory_new), cast(Tensor, memory_next))
        return torch.stack(values).transpose(1, 2), torch.stack(following).transpose(1, 2)

    def update_targets(self, tau: float) -> None:
        """Move the target networks toward the online ones by ``tau``; 1 copies."""
        follow([self.target_agents, self.target_mixer], [self.agents, self.mixer], tau)

"""The bare torch floor: one gradient step of QMIX or MADDPG on arrays that are there, by nothing but torch.

The weights are copies of a module's and the loss is the learner's, to rounding; no RLlib, no replay, no metrics.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import elu, linear, one_hot

from algos.distributions import straight_through
from algos.losses import squared_td_loss, td_targets
from algos.maddpg.config import MADDPGSettings
from algos.maddpg.module import Noise, TeamDDPGModule
from algos.masks import MASKED_LOGIT
from algos.q_settings import TeamQSettings
from algos.qmix.module import TeamQModule
from algos.replay import TeamBatch

Weights = dict[str, Tensor]


def bare_update(module: Any, joint: TeamBatch, noise: Noise | None = None) -> tuple[Callable[[], Tensor], Weights]:
    """Return what takes one gradient step, targets included, and returns the loss; and the weights that it moves.

    Args:
        module: A TeamQModule that mixes by QMIX, or a TeamDDPGModule; mlps that all agents share.
        joint: Transitions, [1, S, ...].
        noise: Draws of the step, for a TeamDDPGModule.
    """
    w = {name: p.detach().clone().requires_grad_(p.requires_grad) for name, p in module.named_parameters()}
    batch, s = joint.map(lambda v: v.squeeze(0)), module.settings
    if isinstance(module, TeamQModule):
        loss_of = partial(qmix_loss, w, batch, s, cast(Tensor, module.allowed))
        rates: dict[tuple[str, ...], float] = {("agents.", "mixer."): s.lr}
    else:
        assert isinstance(module, TeamDDPGModule)
        loss_of = partial(maddpg_loss, w, batch, s, cast(Noise, noise), cast(Tensor, module.used))
        rates = {("agents.",): s.actor_lr, ("critic.",): s.critic_lr}
    moved = [([p for name, p in w.items() if name.startswith(parts)], lr) for parts, lr in rates.items()]
    optimizers = [torch.optim.Adam(parameters, lr=lr, fused=True) for parameters, lr in moved]
    followers = [name for name in w if name.startswith("target_")]
    old, new = [w[name] for name in followers], [w[name.removeprefix("target_")] for name in followers]
    count = 0

    def step() -> Tensor:
        nonlocal count
        loss: Tensor = loss_of()
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for optimizer, (parameters, _) in zip(optimizers, moved, strict=True):
            torch.nn.utils.clip_grad_norm_(parameters, float("inf") if s.grad_clip is None else s.grad_clip)
            optimizer.step()
        count += 1
        if count % s.target_network_update_freq == 0:
            with torch.no_grad():
                torch._foreach_lerp_(old, new, s.tau)
        return loss.detach()

    return step, w


def qmix_loss(w: Weights, batch: TeamBatch, s: TeamQSettings, allowed: Tensor) -> Tensor:
    """The squared TD error of the team value (Rashid et al. 2018, eq. 6).

    Args:
        w: By the names of the module.
        batch: Transitions, [S, ...].
        s: Of the algorithm.
        allowed: Which actions each agent has, [N, K] bool.
    """
    mask = allowed if batch.next_mask is None else batch.next_mask
    state, next_state = cast(Tensor, batch.state), cast(Tensor, batch.next_state)
    with torch.no_grad():
        following = _mlp(w, "target_agents", batch.next_obs)
        chooser = _mlp(w, "agents", batch.next_obs) if s.double_q else following
        best = chooser.masked_fill(~mask, MASKED_LOGIT).argmax(-1, keepdim=True)
        next_q = _mix(w, "target_mixer", following.gather(-1, best).squeeze(-1), next_state)
    values = _mlp(w, "agents", batch.obs).gather(-1, batch.actions.unsqueeze(-1)).squeeze(-1)
    return squared_td_loss(_mix(w, "mixer", values, state), td_targets(batch.rewards, batch.discounts, next_q))


def maddpg_loss(w: Weights, batch: TeamBatch, s: MADDPGSettings, noise: Noise, used: Tensor) -> Tensor:
    """The critic's squared TD error, minus the value of what the policies choose (Lowe et al. 2017, eq. 5 and 6).

    Args:
        w: By the names of the module.
        batch: Transitions of agents that choose, [S, ...].
        s: Of the algorithm, with the team's reward and one critic.
        noise: Draws of the step.
        used: Which choices each agent has, [N, A] bool.
    """
    taken = one_hot(batch.actions, used.shape[-1]).float()

    def choices(name: str, obs: Tensor, mask: Tensor | None, draws: Tensor) -> tuple[Tensor, Tensor]:
        out = _mlp(w, name, obs)
        logits = out.masked_fill(~(used if mask is None else mask), MASKED_LOGIT)
        return straight_through(logits, draws, s.temperature), out

    def value(name: str, obs: Tensor, actions: Tensor, weights: Weights) -> Tensor:
        return _mlp(weights, name, torch.cat([obs.flatten(1), actions.flatten(1)], -1).unsqueeze(1)).flatten()

    with torch.no_grad():
        following, _ = choices("target_agents", batch.next_obs, batch.next_mask, noise.target)
        next_q = value("target_critic.0", batch.next_obs, following, w)
    q = value("critic.0", batch.obs, taken, w)
    chosen, out = choices("agents", batch.obs, batch.mask, noise.policy)
    num_agents = taken.shape[1]
    own = torch.eye(num_agents, dtype=torch.bool, device=out.device).view(num_agents, 1, -1, 1)
    each = torch.where(own, chosen, taken).flatten(0, 1)
    fixed = {name: p.detach() for name, p in w.items() if name.startswith("critic.")}
    policy_q = value("critic.0", batch.obs.repeat(num_agents, 1, 1), each, fixed)
    output_square = (out.square() * used).sum() / (len(out) * used.sum())
    critic_loss = squared_td_loss(q, td_targets(batch.rewards, batch.discounts, next_q))
    return critic_loss + s.logit_penalty * output_square - policy_q.mean()


def _mlp(w: Weights, name: str, x: Tensor) -> Tensor:
    """Two or more layers that all agents share, told apart by an offset: [S, N, F] to [S, N, K]."""
    rows, i = x.flatten(0, 1), 0
    while f"{name}.encoder.layers.{i}.weight" in w:
        rows = torch.addmm(w[f"{name}.encoder.layers.{i}.bias"][0], rows, w[f"{name}.encoder.layers.{i}.weight"][0])
        if i == 0:
            rows = (rows.view(*x.shape[:2], -1) + w[f"{name}.encoder.agent_offset"][:, 0]).flatten(0, 1)
        rows, i = rows.relu(), i + 1
    return torch.addmm(w[f"{name}.head.bias"][0], rows, w[f"{name}.head.weight"][0]).view(*x.shape[:2], -1)


def _mix(w: Weights, name: str, values: Tensor, state: Tensor) -> Tensor:
    """QMIX's mixing network: [S, N] and [S, G] to [S]."""

    def layer(part: str, x: Tensor) -> Tensor:
        return linear(x, w[f"{name}.{part}.weight"], w[f"{name}.{part}.bias"])

    weights_1 = layer("weights_1.2", layer("weights_1.0", state).relu()).abs().view(*values.shape, -1)
    hidden = elu(torch.baddbmm(layer("bias_1", state).unsqueeze(1), values.unsqueeze(1), weights_1)).squeeze(1)
    weights_2 = layer("weights_2.2", layer("weights_2.0", state).relu()).abs()
    return (hidden * weights_2).sum(-1) + layer("bias_2.2", layer("bias_2.0", state).relu()).squeeze(-1)

"""What MAPPO and IPPO minimise: the clipped surrogate of the policies and the clipped loss of the value function."""

from functools import reduce
from typing import Any, cast

import torch
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from torch import Tensor

from algos.learner import ACTOR, CRITIC, TeamLearner, clip_gradients, require_finite
from algos.losses import clipped_surrogate, clipped_value_loss
from algos.mappo.config import MAPPOSettings
from algos.mappo.module import ENTROPY, LOGP, VALUES, Critic
from algos.minibatches import cyclic_order
from algos.returns import generalised_advantages
from algos.rollout import Rollout
from algos.runner import TEAM_MODULE
from algos.running import merged_rows
from algos.schedules import entropy_coeff_at
from common.counted import counted_seed


class MAPPOLearner(TeamLearner, TorchLearner):
    """PPO for teams (Yu et al. 2022, appendix A).

    Minibatches are drawn from a generator seeded by (seed, update), so that a resumed run shuffles as an unbroken one.
    With several learners, values and advantages are normalised by what all of them have sampled.
    """

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """One Adam for the policies and one for the value function, which share no weight."""
        settings: MAPPOSettings = config.settings
        rates = {ACTOR: settings.lr, CRITIC: settings.critic_lr or settings.lr}
        self.register_adams(module_id, rates, eps=1e-5)

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Any], fwd_out: dict[str, Tensor]
    ) -> Tensor:
        """Minus L(theta), with its entropy bonus, plus L(phi) (Yu et al. 2022, appendix A).

        Args:
            module_id: The team's module.
            config: Holds the settings.
            batch: ``old_logp``, ``advantages``, ``old_values`` and ``returns``, [R, N] each; the last two normalised.
            fwd_out: What the module's training forward returned; gets each term, under RLlib's name, added.
        """
        s: MAPPOSettings = config.settings
        surrogate = clipped_surrogate(fwd_out[LOGP], batch["old_logp"], batch["advantages"], s.clip_param)
        entropy_bonus = fwd_out[ENTROPY].mean()
        value_loss = clipped_value_loss(
            fwd_out[VALUES], batch["old_values"], batch["returns"], s.vf_clip_param, s.huber_delta
        )
        fwd_out["policy_loss"], fwd_out["vf_loss"] = -surrogate, value_loss
        return -(surrogate + entropy_coeff_at(s, self.timestep) * entropy_bonus) + value_loss

    def learn(  # type: ignore[override]
        self, data: Rollout, *, minibatch_size: int, num_minibatches: int, **_: Any
    ) -> None:
        """Take ``num_minibatches`` gradient steps.

        Args:
            data: The sampled rollout.
            minibatch_size: Joint steps in a minibatch; replicas with all their steps, where policies have a memory.
            num_minibatches: Gradient steps, equal on every learner.

        Raises:
            NonFiniteLossError: if a loss, or the last gradient, is NaN or infinite.
        """
        rollout = data.to(self._device)
        wrapped = self.module[TEAM_MODULE]
        module = wrapped.unwrapped()
        rows = self._rows(rollout, module.critic)
        generator = torch.Generator(device=self._device)
        generator.manual_seed(counted_seed(self.config.seed or 0, self._weights_seq_no))
        length = 1 if rollout.memory is None else rollout.num_steps
        order = cyclic_order(len(rows["actions"]) // length, num_minibatches * minibatch_size, generator)
        optimizers = [self.get_optimizer(TEAM_MODULE, name) for name in (ACTOR, CRITIC)]
        parts = [list(part.parameters()) for part in (module.agents, module.critic)]
        all_losses = torch.zeros((), device=self._device)
        for chosen in order.view(num_minibatches, minibatch_size):
            batch = _minibatch(rows, chosen, rollout)
            out = wrapped.forward_train(batch)
            loss = self.compute_loss_for_module(module_id=TEAM_MODULE, config=self.config, batch=batch, fwd_out=out)
            for optimizer in optimizers:
                optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            norms = [clip_gradients(params, self.config.settings.grad_clip) for params in parts]
            for optimizer in optimizers:
                optimizer.step()
            all_losses += loss.detach()
        require_finite(all_losses, TEAM_MODULE, norms)
        self._log(loss, out, batch, norms)
        self.log_trained({TEAM_MODULE: num_minibatches * minibatch_size * length}, rollout.env_steps())

    @torch.no_grad()
    def _rows(self, rollout: Rollout, critic: Critic) -> dict[str, Tensor]:
        """Flatten a rollout to joint steps [T * B, ...] and add advantages and normalised returns."""
        s: MAPPOSettings = self.config.settings
        rewards = rollout.rewards
        if not self.config.pays_own_reward:
            rewards = rewards.mean(-1, keepdim=True).expand_as(rewards)
        raw = _values(critic, rollout.obs, rollout.state)
        final = _values(critic, rollout.final_obs, rollout.final_state)
        values = critic.denormalise(raw)
        advantages = generalised_advantages(
            rewards,
            values[:-1],
            rollout.next_values(values, critic.denormalise(final)),
            rollout.terminated.unsqueeze(-1),
            rollout.ended.unsqueeze(-1),
            gamma=s.gamma,
            lambda_=s.lambda_,
        )
        returns = advantages + values[:-1]
        num_columns = cast(Tensor, critic.statistics).shape[1]
        if s.use_value_normalisation:
            critic.see(moments_of_all(returns.reshape(-1, num_columns)))
        if s.use_advantage_normalisation:
            count, mean, squares = moments_of_all(advantages.reshape(-1, num_columns))
            deviation = (squares / count).sqrt().float()
            advantages = (advantages - mean.float()) / deviation.clamp_min(1e-8)
        assert rollout.logp is not None
        rows = {
            "obs": rollout.obs[:-1],
            "actions": rollout.actions,
            "old_logp": rollout.logp,
            "advantages": advantages,
            "old_values": raw[:-1],
            "returns": critic.normalise(returns),
        }
        if rollout.action_mask is not None:
            rows["action_mask"] = rollout.action_mask[:-1]
        if rollout.state is not None:
            rows["state"] = rollout.state[:-1]
        return {name: value.flatten(0, 1) for name, value in rows.items()}

    @torch.no_grad()
    def _log(self, loss: Tensor, out: dict[str, Tensor], batch: dict[str, Tensor], norms: list[Tensor]) -> None:
        """Log the last minibatch's terms, under RLlib's names where it has them."""
        log_ratio = out[LOGP] - batch["old_logp"]
        unexplained = (batch["returns"] - out[VALUES]).var(unbiased=False)
        self.metrics.log_dict(
            {
                self.TOTAL_LOSS_KEY: loss.detach(),
                "policy_loss": out["policy_loss"].detach(),
                "vf_loss": out["vf_loss"].detach(),
                "entropy": out[ENTROPY].detach().mean(),
                "mean_kl_loss": (log_ratio.exp() - 1.0 - log_ratio).mean(),
                "clip_fraction": ((log_ratio.exp() - 1.0).abs() > self.config.settings.clip_param).float().mean(),
                "vf_explained_var": 1.0 - unexplained / batch["returns"].var(unbiased=False).clamp_min(1e-12),
                "actor_grad_norm": norms[0],
                "critic_grad_norm": norms[1],
            },
            key=TEAM_MODULE,
            window=1,
        )


def _minibatch(rows: dict[str, Tensor], chosen: Tensor, rollout: Rollout) -> dict[str, Tensor]:
    """Some joint steps; or, where policies have a memory, all steps of some replicas and what they began with."""
    if rollout.memory is None:
        return {name: values[chosen] for name, values in rows.items()}
    shape = (rollout.num_steps, rollout.num_replicas)
    batch = {name: values.unflatten(0, shape)[:, chosen].flatten(0, 1) for name, values in rows.items()}
    return {**batch, "memory": rollout.memory[0, chosen], "ended": rollout.ended[:, chosen]}


def _values(critic: Critic, obs: Tensor, state: Tensor | None) -> Tensor:
    """Normalised values of observations [..., N, F] and states [..., S]; [..., N]."""
    rows = obs.flatten(0, -3)
    seen = None if state is None else state.flatten(0, -2)
    values: Tensor = critic(rows, seen)
    return values.view(obs.shape[:-1])


def moments_of_all(values: Tensor) -> Tensor:
    """Count, mean and sum of squared deviations of each column, over all learners of the group; [R, C] to [3, C].

    Returns:
        [3, C] float64, the same in every learner.
    """
    exact = values.double()
    mean = exact.mean(0)
    count = torch.full_like(mean, len(exact))
    own = torch.stack([count, mean, (exact - mean).square().sum(0)])
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return own
    parts = [torch.empty_like(own) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(parts, own)
    return reduce(merged_rows, parts)

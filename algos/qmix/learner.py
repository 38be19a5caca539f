"""What QMIX and VDN minimise: the squared TD error of the team value."""

from typing import Any

import torch
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from torch import Tensor

from algos.learner import NUM_UPDATES, TargetLearner, clip_gradients, require_finite
from algos.losses import optimistic_weights, squared_td_loss, td_targets
from algos.q_settings import TeamQSettings
from algos.qmix.module import Q_TOT, TARGET_Q_TOT
from algos.replay import TeamBatch
from algos.returns import lambda_returns
from algos.runner import TEAM_MODULE

TD_TARGETS = "td_targets"


class QMIXLearner(TargetLearner, TorchLearner):
    """Gradient steps on joint batches (Rashid et al. 2018, eq. 6), and target updates counted in gradient steps.

    Attributes:
        td_errors: Where replay follows priorities: |TD error| of each sample of each batch of the last round, [S] each,
            the mean over steps and agents.
    """

    td_errors: list[Tensor]

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """One optimiser over agents and mixer; the fused Adam is torch's fastest."""
        settings: TeamQSettings = config.settings
        module = self._module[module_id]
        params = [p for p in self.get_parameters(module) if p.requires_grad]
        if settings.optimizer == "adam":
            optimizer: torch.optim.Optimizer = torch.optim.Adam(params, lr=settings.lr, fused=True)
        else:
            optimizer = torch.optim.RMSprop(params, lr=settings.lr, alpha=0.99, eps=1e-5)
        self.register_optimizer(module_id=module_id, optimizer=optimizer, params=params, lr_or_lr_schedule=config.lr)

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Any], fwd_out: dict[str, Tensor]
    ) -> Tensor:
        """The loss of the values taken; leaves their targets in ``fwd_out["td_targets"]``.

        Args:
            module_id: The team's module.
            config: Holds the settings.
            batch: ``{"joint": TeamBatch}``.
            fwd_out: What the module's training forward returned.
        """
        joint: TeamBatch = batch["joint"]
        s: TeamQSettings = config.settings
        values, following = fwd_out[Q_TOT], fwd_out[TARGET_Q_TOT]
        rewards, discounts, ended = (_aligned(x, following) for x in (joint.rewards, joint.discounts, joint.ended))
        if s.td_lambda > 0:
            targets = lambda_returns(rewards, discounts, following, ended, lambda_=s.td_lambda)
        else:
            targets = td_targets(rewards, discounts, following)
        fwd_out[TD_TARGETS] = targets
        return self.td_loss(values, targets, joint.weights)

    def td_loss(self, values: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        """The squared TD error, where agents are optimistic with less weight of what is above its target.

        Args:
            values: [L, S] with gradient; without a mixer [L, S, N].
            targets: The same without.
            weights: Of each sample, [S], where replay follows priorities; None weighs all alike.
        """
        overestimation_weight = self.config.settings.overestimation_weight
        weights = None if weights is None else _aligned(weights.unsqueeze(0), values)
        if overestimation_weight < 1:
            optimism = optimistic_weights(values, targets, overestimation_weight)
            weights = optimism if weights is None else weights * optimism
        return squared_td_loss(values, targets, weights)

    def learn(self, data: list[TeamBatch], **_: Any) -> None:
        """Take one gradient step on each batch.

        Args:
            data: Joint batches.

        Raises:
            NonFiniteLossError: if a loss, or the last gradient, is NaN or infinite.
        """
        settings: TeamQSettings = self.config.settings
        wrapped = self.module[TEAM_MODULE]
        module = wrapped.unwrapped()
        optimizer = self.get_optimizer(TEAM_MODULE)
        params = [p for p in module.parameters() if p.requires_grad]
        all_losses = torch.zeros((), device=self._device)
        self.td_errors = []
        for batch in data:
            joint = self.transfer(batch)
            inputs = {"joint": joint}
            out = wrapped.forward_train(inputs)
            loss = self.compute_loss_for_module(module_id=TEAM_MODULE, config=self.config, batch=inputs, fwd_out=out)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            all_losses += loss.detach()
            if settings.prioritised_replay:
                self.td_errors.append(self.signed_errors(out).abs().transpose(0, 1).flatten(1).mean(1))
            norm = clip_gradients(params, self.config.grad_clip)
            optimizer.step()
            self._num_updates += 1
            if self._num_updates % settings.target_network_update_freq == 0:
                module.update_targets(settings.tau)
        require_finite(all_losses, TEAM_MODULE, [norm])
        self.metrics.log_dict(
            {
                self.TOTAL_LOSS_KEY: loss.detach(),
                "q_tot_mean": out[Q_TOT].detach().mean(),
                "target_mean": out[TD_TARGETS].mean(),
                "td_error_mean": self.signed_errors(out).abs().mean(),
                "grad_norm": norm,
                NUM_UPDATES: float(self._num_updates),
            },
            key=TEAM_MODULE,
            window=1,
        )
        samples = sum(b.discounts.numel() for b in data)
        self.log_trained({TEAM_MODULE: samples}, samples)

    def signed_errors(self, out: dict[str, Tensor]) -> Tensor:
        """TD errors, [L, S]; without a mixer [L, S, N]."""
        return out[TD_TARGETS] - out[Q_TOT].detach()


def _aligned(values: Tensor, wanted: Tensor) -> Tensor:
    """Give values [L, S] or [L, S, N] as many axes as ``wanted`` has."""
    return values.view(*values.shape, *[1] * (wanted.dim() - values.dim()))

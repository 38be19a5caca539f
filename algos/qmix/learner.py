"""What VDN and QMIX minimise: the squared TD error of the team value."""

from typing import Any

import torch
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from torch import Tensor

from algos.learner import NUM_UPDATES, TargetLearner, require_finite
from algos.losses import squared_td_loss, td_targets
from algos.qmix.config import QMIXSettings
from algos.qmix.module import Q_TOT, TARGET_Q_TOT
from algos.replay import TeamBatch
from algos.runner import TEAM_MODULE

TD_TARGETS = "td_targets"


class QMIXLearner(TargetLearner, TorchLearner):
    """Gradient steps on joint batches (Rashid et al. 2018, eq. 6), and target updates counted in gradient steps."""

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """One optimiser over agents and mixer; the fused Adam is torch's fastest."""
        settings: QMIXSettings = config.settings
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
        """The squared TD error of the team value; leaves the targets in ``fwd_out["td_targets"]``.

        Args:
            module_id: The team's module.
            config: Unused; the settings have done their part in the batch.
            batch: ``{"joint": TeamBatch}``.
            fwd_out: What the module's training forward returned.
        """
        joint: TeamBatch = batch["joint"]
        fwd_out[TD_TARGETS] = td_targets(joint.rewards, joint.discounts, fwd_out[TARGET_Q_TOT])
        return squared_td_loss(fwd_out[Q_TOT], fwd_out[TD_TARGETS])

    def learn(self, data: list[TeamBatch], **_: Any) -> None:
        """Take one gradient step on each batch.

        Args:
            data: Joint batches.

        Raises:
            NonFiniteLossError: if the last loss is NaN or infinite.
        """
        settings: QMIXSettings = self.config.settings
        wrapped = self.module[TEAM_MODULE]
        module = wrapped.unwrapped()
        optimizer = self.get_optimizer(TEAM_MODULE)
        params = [p for p in module.parameters() if p.requires_grad]
        all_losses = torch.zeros((), device=self._device)
        for batch in data:
            joint = batch.map(lambda v: v.to(self._device, non_blocking=True))
            inputs = {"joint": joint}
            out = wrapped.forward_train(inputs)
            loss = self.compute_loss_for_module(module_id=TEAM_MODULE, config=self.config, batch=inputs, fwd_out=out)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            all_losses += loss.detach()
            norm = torch.nn.utils.clip_grad_norm_(params, self.config.grad_clip)
            optimizer.step()
            self._num_updates += 1
            if self._num_updates % settings.target_network_update_freq == 0:
                module.update_targets(settings.tau)
        require_finite(all_losses, TEAM_MODULE)
        self.metrics.log_dict(
            {
                self.TOTAL_LOSS_KEY: loss.detach(),
                "q_tot_mean": out[Q_TOT].detach().mean(),
                "target_mean": out[TD_TARGETS].mean(),
                "td_error_mean": (out[Q_TOT].detach() - out[TD_TARGETS]).abs().mean(),
                "grad_norm": norm,
                NUM_UPDATES: float(self._num_updates),
            },
            key=TEAM_MODULE,
            window=1,
        )
        samples = sum(b.rewards.numel() for b in data)
        self.log_trained({TEAM_MODULE: samples}, samples)

"""What independent Q-learning minimises: each agent's own squared TD error, or its quantiles' Huber loss."""

import torch
from torch import Tensor

from algos.indq.config import INDQSettings
from algos.losses import quantile_huber_loss
from algos.qmix.learner import QMIXLearner


class INDQLearner(QMIXLearner):
    """QMIX's gradient steps on values that nothing mixes, which may be distributions (Dabney et al. 2018)."""

    def td_loss(self, values: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        """The squared TD error of each agent, or the loss of its quantiles.

        Args:
            values: [L, S, N] with gradient; [L, S, N, Q] where quantiles are learned.
            targets: The same without.
            weights: Of each sample, [S], where replay follows priorities; None weighs all alike.
        """
        s: INDQSettings = self.config.settings
        if not s.num_quantiles:
            return super().td_loss(values, targets, weights)
        weights = None if weights is None else weights.view(1, -1, 1)
        taus = (torch.arange(s.num_quantiles, device=values.device) + 0.5) / s.num_quantiles
        return quantile_huber_loss(values, targets, taus, kappa=s.huber_kappa, weights=weights)

    def signed_errors(self, out: dict[str, Tensor]) -> Tensor:
        """TD errors of each agent, [L, S, N]; of a distribution that of its mean."""
        errors = super().signed_errors(out)
        return errors.mean(-1) if self.config.settings.num_quantiles else errors

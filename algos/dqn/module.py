"""RLlib's DQN module, which in addition obeys action masks."""

from typing import Any

import torch
from ray.rllib.algorithms.dqn.torch.default_dqn_torch_rl_module import QF_PREDS, DefaultDQNTorchRLModule

from algos.masks import MaskedObservations


class MaskedDQNModule(MaskedObservations, DefaultDQNTorchRLModule):
    """Q-networks; where a batch carries a mask [R, K], the values of forbidden actions are minus infinity.

    That is what RLlib's exploration and loss take for forbidden: neither a greedy nor a random choice falls on such an
    action, and no target is bootstrapped from one.
    """

    def _qf_forward_helper(self, batch: dict[str, Any], encoder: Any, head: Any) -> dict[str, Any]:
        batch, mask = self.split_mask(batch)
        out: dict[str, Any] = super()._qf_forward_helper(batch, encoder, head)
        if mask is not None:
            out[QF_PREDS] = out[QF_PREDS].masked_fill(~mask, -torch.inf)
        return out

"""RLlib's PPO module, which in addition obeys action masks."""

from typing import Any

from ray.rllib.algorithms.ppo.torch.default_ppo_torch_rl_module import DefaultPPOTorchRLModule
from ray.rllib.core.columns import Columns

from algos.acting import MASKED_LOGIT


class MaskedPPOModule(DefaultPPOTorchRLModule):
    """PPO policy and value networks; where the batch carries ``action_mask`` [R, K] bool, forbidden logits are masked.

    The mask reaches sampling and learning alike, so both see the same distribution.
    """

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return _masked(super()._forward(batch, **kwargs), batch)

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return _masked(super()._forward_train(batch, **kwargs), batch)


def _masked(out: dict[str, Any], batch: dict[str, Any]) -> dict[str, Any]:
    mask = batch.get("action_mask")
    if mask is not None:
        out[Columns.ACTION_DIST_INPUTS] = out[Columns.ACTION_DIST_INPUTS].masked_fill(~mask, MASKED_LOGIT)
    return out

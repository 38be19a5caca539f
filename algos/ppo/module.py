"""RLlib's PPO module, which in addition obeys action masks."""

from typing import Any

from ray.rllib.algorithms.ppo.torch.default_ppo_torch_rl_module import DefaultPPOTorchRLModule
from torch import Tensor

from algos.masks import MaskedObservations, masked_logits
from algos.ppo.catalog import WindowCatalog


class MaskedPPOModule(MaskedObservations, DefaultPPOTorchRLModule):
    """PPO policy and value networks; where a batch carries a mask [R, K], the logits of forbidden actions are masked.

    The mask reaches sampling and learning alike, so both see the same distribution.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["catalog_class"] = kwargs.get("catalog_class") or WindowCatalog
        super().__init__(*args, **kwargs)

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        batch, mask = self.split_mask(batch)
        return masked_logits(super()._forward(batch, **kwargs), mask)

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        batch, mask = self.split_mask(batch)
        return masked_logits(super()._forward_train(batch, **kwargs), mask)

    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> Tensor:
        """Value of each row, [R] float32; RLlib's, on observations without their mask."""
        values: Tensor = super().compute_values(self.split_mask(batch)[0], embeddings)
        return values

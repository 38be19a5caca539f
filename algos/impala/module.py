"""RLlib's APPO module, which in addition obeys action masks."""

from typing import Any

from ray.rllib.algorithms.appo.torch.default_appo_torch_rl_module import DefaultAPPOTorchRLModule
from ray.rllib.core.rl_module.apis import TARGET_NETWORK_ACTION_DIST_INPUTS

from algos.masks import masked_logits
from algos.ppo.module import MaskedPPOModule


class MaskedAPPOModule(MaskedPPOModule, DefaultAPPOTorchRLModule):
    """APPO policy, value and target policy networks; where a batch carries a mask [R, K], forbidden logits are masked.

    The target policy forbids the same actions: ratios of the two are of distributions over the allowed ones.
    """

    def forward_target(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Logits of the target policy, [R, K] float32 under ``TARGET_NETWORK_ACTION_DIST_INPUTS``."""
        batch, mask = self.split_mask(batch)
        return masked_logits(super().forward_target(batch), mask, key=TARGET_NETWORK_ACTION_DIST_INPUTS)

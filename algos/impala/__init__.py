"""RLlib's own IMPALA and APPO: settings, masks, and learners that a run can be continued with exactly."""

from algos.impala.config import APPOSettings, IMPALASettings
from algos.registry import RLLIB, Algorithm

_SEARCHED = ("lr", "gamma", "entropy_coeff", "vf_loss_coeff")

ALGORITHMS = (
    Algorithm(
        name="impala",
        settings=IMPALASettings,
        configs={RLLIB: "algos.impala.algorithm:impala"},
        searched=_SEARCHED,
        modules=("algos.ppo.module:MaskedPPOModule",),
    ),
    Algorithm(
        name="appo",
        settings=APPOSettings,
        configs={RLLIB: "algos.impala.algorithm:appo"},
        searched=(*_SEARCHED, "clip_param"),
        modules=("algos.impala.module:MaskedAPPOModule",),
    ),
)

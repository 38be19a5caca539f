"""RLlib's own SAC and TQC: settings only; the algorithms are stock."""

from algos.registry import CONTINUOUS, RLLIB, Algorithm
from algos.sac.config import SACSettings, SoftActorCriticSettings, TQCSettings

_SEARCHED = ("actor_lr", "critic_lr", "gamma", "tau", "n_step")


def _algorithm(
    name: str, settings: type[SoftActorCriticSettings], module: str, *, searched: tuple[str, ...] = ()
) -> Algorithm:
    return Algorithm(
        name=name,
        settings=settings,
        configs={RLLIB: f"algos.sac.algorithm:{name}"},
        actions=frozenset({CONTINUOUS}),
        has_replay=True,
        searched=(*_SEARCHED, *searched),
        modules=(module,),
        optimizers={
            "qf": ("qf_encoder.", "qf.", "qf_encoders.", "qf_heads."),
            "qf_twin": ("qf_twin_encoder.", "qf_twin."),
            "policy": ("pi_encoder.", "pi."),
        },
    )


ALGORITHMS = (
    _algorithm(
        "sac", SACSettings, "ray.rllib.algorithms.sac.torch.default_sac_torch_rl_module:DefaultSACTorchRLModule"
    ),
    _algorithm(
        "tqc",
        TQCSettings,
        "ray.rllib.algorithms.tqc.torch.default_tqc_torch_rl_module:DefaultTQCTorchRLModule",
        searched=("top_quantiles_to_drop_per_net",),
    ),
)

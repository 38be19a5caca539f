"""QMIX and VDN (Rashid et al. 2018, Sunehag et al. 2018), which factorise a team's value, and IQL, which does not."""

from algos.qmix.config import QMIXSettings
from algos.registry import DISCRETE, TEAM, Algorithm

_SEARCHED = ("lr", "gamma", "target_network_update_freq", "n_step", "epsilon_decay_steps")
_OF_THE_MIXER = ("mixing_embed_dim", "hypernet_hidden")


def _algorithm(name: str, config: str, *, searched: tuple[str, ...] = (), unused: tuple[str, ...] = ()) -> Algorithm:
    return Algorithm(
        name=name,
        group="qmix",
        settings=QMIXSettings,
        configs={TEAM: f"algos.qmix.algorithm:{config}"},
        actions=frozenset({DISCRETE}),
        has_replay=True,
        is_joint=True,
        unused=unused,
        searched=(*_SEARCHED, *searched),
        modules=("algos.qmix.module:TeamQModule",),
    )


ALGORITHMS = (
    _algorithm("qmix", "qmix", searched=("mixing_embed_dim",)),
    _algorithm("vdn", "vdn", unused=_OF_THE_MIXER),
    _algorithm("iql", "iql", searched=("dueling",), unused=_OF_THE_MIXER),
)

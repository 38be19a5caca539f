"""QMIX and VDN (Rashid et al. 2018, Sunehag et al. 2018), which factorise a team's value."""

from algos.q_settings import SEARCHED
from algos.qmix.config import QMIXSettings
from algos.registry import DISCRETE, TEAM, Algorithm


def _algorithm(name: str, *, searched: tuple[str, ...] = (), unused: tuple[str, ...] = ()) -> Algorithm:
    return Algorithm(
        name=name,
        group="qmix",
        settings=QMIXSettings,
        configs={TEAM: f"algos.qmix.algorithm:{name}"},
        actions=frozenset({DISCRETE}),
        has_replay=True,
        is_joint=True,
        unused=unused,
        searched=(*SEARCHED, *searched),
        modules=("algos.qmix.module:TeamQModule",),
    )


ALGORITHMS = (
    _algorithm("qmix", searched=("mixing_embed_dim",)),
    _algorithm("vdn", unused=("mixing_embed_dim", "hypernet_hidden")),
)

"""Independent Q-learning (Tan 1993): every agent of a team learns as if the others were part of the market."""

from algos.indq.config import INDQSettings
from algos.q_settings import SEARCHED
from algos.registry import DISCRETE, TEAM, Algorithm

ALGORITHMS = (
    Algorithm(
        name="indq",
        settings=INDQSettings,
        configs={TEAM: "algos.indq.algorithm:indq"},
        actions=frozenset({DISCRETE}),
        has_replay=True,
        is_joint=True,
        searched=(*SEARCHED, "dueling"),
        modules=("algos.qmix.module:TeamQModule",),
    ),
)

"""Copies of an environment under RLlib trade episodes of their own; one that is made by hand is seeded as told."""

from __future__ import annotations

import pytest
from floors import spec_of
from ray.rllib.env.env_context import EnvContext

from envs.benchmarks.rllib import BenchmarkEnv
from envs.market import spec_to_json
from envs.optima.rllib import KnownMarketEnv
from envs.rllib import TradingEnv

SPEC = {"spec": spec_to_json(spec_of(floor={"horizon_bars": 5}))}
RUNNERS, COPIES = (1, 2, 3), (0, 1)


def starts(env: TradingEnv, seed: int | None = None) -> tuple[int, ...]:
    """The bars at which the first episodes begin."""
    found = []
    for i in range(4):
        env.reset(seed=seed if i == 0 else None)
        found.append(int(env.floor._clock.bar[0]))
    return tuple(found)


def copies(config) -> list[tuple[int, int, TradingEnv]]:
    """As RLlib makes them: one context for all copies of a runner."""
    contexts = {runner: EnvContext(config, worker_index=runner, num_workers=3) for runner in RUNNERS}
    return [(runner, copy, TradingEnv(context)) for runner, context in contexts.items() for copy in COPIES]


@pytest.mark.parametrize("config", [SPEC, SPEC | {"seed": 7}], ids=["no seed", "a seed"])
def test_no_two_copies_begin_alike_when_rllib_has_no_seed(config) -> None:
    assert len({starts(env) for *_, env in copies(config)}) == len(RUNNERS) * len(COPIES)


def test_no_two_copies_begin_alike_by_rllibs_seeds_and_the_same_seeds_repeat() -> None:
    one, two = ({(r, c): starts(env, 7 + r + c) for r, c, env in copies(SPEC)} for _ in range(2))
    assert one == two
    assert len(set(one.values())) == len(one)


def test_indices_of_contexts_are_told_apart_too() -> None:
    envs = [TradingEnv(EnvContext(SPEC, worker_index=r, vector_index=c)) for r in RUNNERS for c in COPIES]
    assert len({starts(env, 7) for env in envs}) == len(envs)


def test_one_that_is_made_by_hand_is_seeded_as_it_is_told() -> None:
    assert starts(TradingEnv(SPEC)) == starts(TradingEnv(SPEC), 0)
    assert starts(TradingEnv(SPEC | {"seed": 7})) == starts(TradingEnv(SPEC), 7) != starts(TradingEnv(SPEC))


@pytest.mark.parametrize(
    ("cls", "market"), [(KnownMarketEnv, "garleanu-pedersen"), (BenchmarkEnv, "mpe:simple_spread")]
)
def test_other_environments_tell_copies_apart_too(cls, market) -> None:
    def first(env, seed):
        return [row.tolist() for row in env.reset(seed=seed)[0].values()]

    context = EnvContext({"market": market}, worker_index=1, num_workers=1)
    one, two, alone = cls(context), cls(context), cls({"market": market})
    assert first(one, 7) != first(two, 7) != first(alone, 7) != first(one, 7)
    assert first(cls(context), None) != first(cls(context), None)

"""All tests of cross-validation in one pass, in which the models change and the books go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from algos.policy import load_policy
from envs.backtest import OnBar, Policy, Turn, run_turns
from envs.bars import Split
from envs.baseline_traders import run_baselines
from envs.market import Market
from experiments.backtesting.compare import trader_of
from experiments.evaluation.results import Course, course_of
from experiments.runs.models import find_sound_model


def walk_path(
    folders: Sequence[Path],
    starts: Sequence[str],
    market: Market,
    *,
    load: Callable[[Path], Policy] = load_policy,
    name: str = "strategy",
    on_bar: OnBar | None = None,
) -> Course:
    """Trade all tests in a row, each by the model that was trained for it; it takes over the positions of the last one.

    Args:
        folders: A finished run for each test.
        starts: Date of the first bar of each test, in the order of time.
        market: The whole history.
        load: Makes a greedy policy of a checkpoint folder.
        name: What ``on_bar`` is told, as in ``run_backtest``.
        on_bar: As there.

    Raises:
        InputError: if a run has no model that is whole, or it does not fit the market.
    """
    turns = []
    for folder, start in zip(folders, starts, strict=True):
        trader, scaler = trader_of(find_sound_model(folder), market, load=load)
        turns.append(Turn(_bar(market, start), trader, scaler))
    return course_of(run_turns(turns, _tested(market, starts), name=name, on_bar=on_bar))


def walk_baselines(
    starts: Sequence[str], market: Market, *, seed: int, on_bar: OnBar | None = None
) -> dict[str, Course]:
    """Trade all tests in a row by every baseline; ``seed`` is of the one that acts at random."""
    results = run_baselines(_tested(market, starts), split="test", seed=seed, on_bar=on_bar)
    return {found.name: course_of(found) for found in results}


def _tested(market: Market, starts: Sequence[str]) -> Market:
    """The whole history with all tests as its one test split."""
    test = Split("test", _bar(market, starts[0]), market.bars.num_bars)
    return replace(market, splits=replace(market.splits, test=test))


def _bar(market: Market, date: str) -> int:
    return int(np.searchsorted(market.bars.dates, np.datetime64(date)))

"""All tests of a walk-forward are one pass through the floor: no bar is lost, and nothing is sold and bought again."""

from dataclasses import replace

import numpy as np
import pytest
from real_prices import real_prices
from sample_runs import SMALL, ScriptedPolicy, make_run

from common.errors import InputError
from envs.backtest import policy_trader, run_backtest
from envs.baseline_names import DEFAULT_BASELINES
from envs.baseline_traders import baseline_market
from envs.folds import walk_forward
from envs.market import build_market
from envs.settings import DataConfig, FloorSpec
from experiments.evaluation.walking import walk_baselines, walk_path
from experiments.runs.models import find_model
from experiments.settings.run_config import config_from_json, floor_spec

SYNTHETIC = {"synthetic": {"num_assets": 4, "num_bars": 600}}


def parts_of(market, num_folds=3):
    splits = market.splits
    return walk_forward(
        market.bars,
        num_folds=num_folds,
        first_test=0.5,
        validation=0.3,
        lookback_bars=splits.train.start,
        embargo_bars=splits.embargo_bars,
    )


@pytest.fixture
def walked(tmp_path):
    """A market, the first days of its tests, and a run for each."""
    market = build_market(floor_spec(config_from_json(SMALL | {"data": SYNTHETIC})))
    parts = parts_of(market)
    for fold in parts.folds:
        make_run(tmp_path / f"fold-{fold.number}", SMALL | {"data": SYNTHETIC | fold.data})
    return market, parts.starts, [tmp_path / f"fold-{fold.number}" for fold in parts.folds]


def test_one_policy_in_all_folds_is_one_backtest(walked):
    """Each fold's own test begins with cash, and its last bar and the next one's first are not joined."""
    market, starts, folders = walked
    policy = ScriptedPolicy()

    class Same:
        """Goes on where it stood, as no other policy does."""

        reset, act = (lambda self: None), policy.act

    found = walk_path(folders, starts, market, load=lambda checkpoint: Same())
    start = int(np.searchsorted(market.bars.dates, np.datetime64(starts[0])))
    whole = replace(market.splits.test, start=start, stop=market.bars.num_bars)
    whole = replace(market, splits=replace(market.splits, test=whole))
    expected = run_backtest(policy_trader(ScriptedPolicy()), whole, name="one")
    np.testing.assert_array_equal(found.dates, market.bars.dates[start + 1 :])
    np.testing.assert_allclose(found.equity * expected.equity[0], expected.equity, rtol=1e-12)


def test_each_test_is_traded_by_its_own_model_and_scaled_as_in_its_training(walked):
    market, starts, folders = walked
    seen = {}

    class Looks(ScriptedPolicy):
        def __init__(self, checkpoint):
            super().__init__()
            self.seen = seen.setdefault(checkpoint.parent.name, [])

        def act(self, obs, action_mask=None):
            self.seen.append(obs.numpy().copy())
            return super().act(obs, action_mask)

    walk_path(folders, starts, market, load=Looks)
    edges = [int(np.searchsorted(market.bars.dates, np.datetime64(start))) for start in starts]
    assert [len(rows) for rows in seen.values()] == list(np.diff([*edges, market.bars.num_bars - 1]))
    for folder in folders:
        own = Looks(folder / "checkpoint_000002")
        alone = build_market(floor_spec(find_model(folder).config))
        rows, own.seen = seen[folder.name], []
        run_backtest(policy_trader(own), alone, name="own")
        features = slice(9, None)  # what is before is of the agent's own books
        np.testing.assert_array_equal(rows[0][..., features], own.seen[0][..., features])


def test_baselines_are_run_once_over_all_tests(walked):
    market, starts, _ = walked
    found = walk_baselines(starts, market, seed=0)
    assert list(found) == list(DEFAULT_BASELINES)
    start = int(np.searchsorted(market.bars.dates, np.datetime64(starts[0])))
    assert {len(course.returns) for course in found.values()} == {market.bars.num_bars - 1 - start}


def test_a_run_without_a_model_is_refused(walked, tmp_path):
    market, starts, folders = walked
    with pytest.raises(InputError, match="fold-9 does not exist"):
        walk_path([*folders[:-1], tmp_path / "fold-9"], starts, market, load=ScriptedPolicy)


def test_buy_and_hold_of_the_dow_through_four_folds_is_buy_and_hold():
    market = build_market(FloorSpec(data=DataConfig(path=real_prices("djia29_daily_2013_2018.csv"))))
    held = walk_baselines(parts_of(market, 4).starts, baseline_market(market), seed=0)["buy_and_hold"]
    assert len(held.returns) == 628
    first = int(np.searchsorted(market.bars.dates, held.dates[0]))
    earned = (market.bars.close[-1] / market.bars.open[first]).mean() - 1
    assert earned == pytest.approx(0.384, abs=5e-4)
    assert held.equity[-1] - 1 == pytest.approx(earned, abs=0.005)
    assert np.mean(held.returns) / np.std(held.returns, ddof=1) * np.sqrt(252) == pytest.approx(1.13, abs=0.01)

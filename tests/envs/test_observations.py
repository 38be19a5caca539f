from __future__ import annotations

import numpy as np
import pytest
from floors import floor_of, market_of
from real_prices import real_prices

from envs.audit_draws import random_actions
from envs.floor import build_floor
from envs.market import build_market
from envs.observations import observation_names, private_names
from envs.settings import DataConfig, DeskConfig, FloorSpec

DESKS = (
    {"num_agents": 3},
    {"preset": "roles", "feature_groups": None},
    {"preset": "rivals", "num_agents": 2, "observe": "each"},
    {"num_agents": 3, "observe": "each", "action": "continuous"},
)


@pytest.mark.parametrize("desk", DESKS)
@pytest.mark.parametrize(("window", "observe_episode"), [(1, False), (4, False), (4, True)])
def test_observations_are_the_features_of_the_window_and_the_books(desk, window, observe_episode) -> None:
    market = market_of(desk=desk, floor={"window": window, "observe_episode": observe_episode})
    floor = build_floor(market, num_replicas=3, with_state=True, record=True)
    scaled = market.scaler.transform(market.features)
    floor.reset()
    rng = np.random.default_rng(0)
    lead = len(private_names(observe_episode))
    for _ in range(5):
        step = floor.step(random_actions(floor, rng))
        after, layout = floor.detail.after, floor.layout
        for b in range(3):
            bar = int(floor.detail.bar[b]) + 1
            for n, mandate in enumerate(market.mandates):
                row = step.obs[b, n].numpy()
                names = observation_names(mandate, market.features, window, observe_episode=observe_episode)
                assert len(names) == floor.obs_dims[n] == floor.observation_spaces[mandate.name].shape[0]
                assert (row[len(names) :] == 0).all()
                before, num_bars, width = floor.windows[n]
                bars = names[before : before + num_bars * width]
                lags = [lag for lag in range(window - 1, -1, -1) for _ in range(width)]
                assert num_bars == window
                assert [name.partition("[-")[2].rstrip("]") or "0" for name in bars] == list(map(str, lags))
                assert not any("[-" in name for name in (*names[:before], *names[before + len(bars) :]))
                book = [market.bars.assets.index(a) for a in mandate.assets]
                columns = market.features.columns(mandate.feature_groups)
                seen = scaled[bar - window + 1 : bar + 1][:, book][:, :, columns]
                flat = seen.mean(1).reshape(-1) if mandate.observe == "book" else seen.reshape(-1)
                assert row[lead : lead + len(flat)] == pytest.approx(flat, abs=1e-6)
                k = layout.agent_account[n]
                slots = [p for p, owner in enumerate(layout.slot_agent) if owner == n]
                mark = floor.detail.mark_after[[layout.slot_asset[p] for p in slots], b].numpy()
                exposure = after.holdings[slots, b].numpy() * mark / float(after.equity[k, b])
                assert row[0] == pytest.approx(exposure.sum() / mandate.limit, abs=1e-6)
                assert row[1] == pytest.approx(np.abs(exposure).sum() / mandate.limit, abs=1e-6)
                cash = float(after.cash[k, b] / after.equity[k, b])
                assert [row[2], row[4]] == pytest.approx([1 - cash, cash], abs=1e-6)
                if observe_episode:
                    equity, peak = float(after.equity[k, b]), float(after.peak[k, b])
                    left = 1 - (bar - floor.split.start) / floor.episode_bars
                    assert row[5:7] == pytest.approx([equity / 1e6 - 1, 1 - equity / peak], abs=1e-6)
                    assert 0 <= row[7] < 1 if floor.episode_bars < floor.split.num_decisions else row[7] == left
                if mandate.observe == "each":
                    assert row[lead + len(flat) : len(names)] == pytest.approx(exposure / mandate.limit, abs=1e-6)
        assert step.state.shape == (3, floor.state_dim)
        assert step.state.isfinite().all()


def test_price_offset_of_the_book_is_seen() -> None:
    floor = floor_of(floor={"costs": {"permanent_impact": 0.5}, "capital": 1e8}, record=True)
    step = floor.step(np.array([[4, 2, 2, 0]]))
    offset = floor.detail.after.offset[:, 0].tolist()
    assert offset[0] > 0 > offset[3]
    assert step.obs[0, :, 5].tolist() == pytest.approx([100 * x for x in offset], rel=1e-6)


def test_agents_with_books_of_different_size_see_equally_much() -> None:
    floor = floor_of(desk={"num_agents": 3})
    assert len(set(floor.obs_dims)) == 1


@pytest.mark.parametrize("observe_episode", [False, True])
def test_books_are_seen_in_one_range_in_training_and_in_a_backtest(observe_episode) -> None:
    """A backtest is an episode as long as its split: figures since the start of an episode leave the range."""
    floor = {"costs": {"half_spread_bps": 30}, "observe_episode": observe_episode}
    train, test = books_seen(market_of(num_bars=1_500, desk={"preset": "roles"}, floor=floor))
    slack = 0.5 * (train.max(0) - train.min(0)) + 1e-6
    is_inside = (test.min(0) >= train.min(0) - slack) & (test.max(0) <= train.max(0) + slack)
    assert is_inside.all() == (not observe_episode)


def test_books_on_hourly_bitcoin_are_seen_in_the_range_of_training() -> None:
    """Where 71 % of test bars showed a profit, and 55 % a drawdown, that training had not."""
    data = DataConfig(path=real_prices("btcusd_1h_2018_2022.csv"))
    train, test = books_seen(build_market(FloorSpec(data=data, desk=DeskConfig(feature_groups=("momentum",)))))
    assert ((test < train.min(0)) | (test > train.max(0))).mean(0).max() < 0.01


def books_seen(market) -> list[np.ndarray]:
    """What random agents see of their books in training and in a backtest, one row for each agent and bar."""
    lead, seen = len(private_names(market.spec.floor.observe_episode)), []
    for split, start, replicas in (("train", "random", 32), ("test", "first", 1)):
        floor = build_floor(market, split=split, start=start, num_replicas=replicas, seed=1)
        rng = np.random.default_rng(0)
        steps = 4 * floor.episode_bars if start == "random" else floor.episode_bars - 1
        shown = [floor.step(random_actions(floor, rng)).obs[..., :lead].reshape(-1, lead) for _ in range(steps)]
        seen.append(np.concatenate(shown))
    return seen

from __future__ import annotations

import numpy as np
import pytest
from floors import floor_of, market_of

from envs.audit import random_actions
from envs.floor import build_floor
from envs.observations import PRIVATE_NAMES, observation_names

DESKS = (
    {"num_agents": 3},
    {"preset": "roles", "feature_groups": None},
    {"preset": "rivals", "num_agents": 2, "observe": "each"},
    {"num_agents": 3, "observe": "each", "action": "continuous"},
)


@pytest.mark.parametrize("desk", DESKS)
@pytest.mark.parametrize("window", [1, 4])
def test_observations_are_the_features_of_the_window_and_the_books(desk, window) -> None:
    market = market_of(desk=desk, floor={"window": window})
    floor = build_floor(market, num_replicas=3, with_state=True, record=True)
    scaled = market.scaler.transform(market.features)
    floor.reset()
    rng = np.random.default_rng(0)
    lead = len(PRIVATE_NAMES)
    for _ in range(5):
        step = floor.step(random_actions(floor, rng))
        after, layout = floor.detail.after, floor.layout
        for b in range(3):
            bar = int(floor.detail.bar[b]) + 1
            for n, mandate in enumerate(market.mandates):
                row = step.obs[b, n].numpy()
                names = observation_names(mandate, market.features, window)
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
                assert row[2:7:2] == pytest.approx(
                    [1 - cash, cash, 1 - float(after.equity[k, b] / after.peak[k, b])], abs=1e-6
                )
                assert row[5] == pytest.approx(float(after.equity[k, b]) / 1e6 - 1, abs=1e-6)
                if mandate.observe == "each":
                    assert row[lead + len(flat) : len(names)] == pytest.approx(exposure / mandate.limit, abs=1e-6)
        assert step.state.shape == (3, floor.state_dim)
        assert step.state.isfinite().all()


def test_price_offset_of_the_book_is_seen() -> None:
    floor = floor_of(floor={"costs": {"permanent_impact": 0.5}, "capital": 1e8}, record=True)
    step = floor.step(np.array([[4, 2, 2, 0]]))
    offset = floor.detail.after.offset[:, 0].tolist()
    assert offset[0] > 0 > offset[3]
    assert step.obs[0, :, 8].tolist() == pytest.approx([100 * x for x in offset], rel=1e-6)


def test_agents_with_books_of_different_size_see_equally_much() -> None:
    floor = floor_of(desk={"num_agents": 3})
    assert len(set(floor.obs_dims)) == 1

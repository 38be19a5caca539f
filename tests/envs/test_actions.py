from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from floors import floor_of, market_of

from envs.floor import build_floor


def targets(floor, actions) -> list[float]:
    floor.step(np.array([actions]))
    return floor.detail.target[:, 0].tolist()


def test_a_rung_spreads_over_the_book() -> None:
    floor = floor_of(desk={"num_agents": 2, "ladder": (-0.5, 0.0, 1.0)}, market={"num_assets": 3}, record=True)
    assert targets(floor, [2, 0]) == pytest.approx([0.25, 0.25, -0.25])  # limit 0.5 over books of 2 and 1


def test_weights_are_cut_to_their_range_and_the_book_to_its_limit() -> None:
    desk = {"action": "continuous", "num_agents": 2}
    floor = floor_of(desk=desk, market={"num_assets": 4}, record=True)
    assert targets(floor, [[0.2, -0.4], [5.0, -1.0]]) == pytest.approx([0.1, -0.2, 0.25, -0.25])
    long_only = floor_of(desk={**desk, "allow_short": False}, market={"num_assets": 4}, record=True)
    assert targets(long_only, [[0.2, -0.4], [1.0, 0.0]]) == pytest.approx([0.1, 0.0, 0.5, 0.0])
    assert long_only.action_spaces["trader_0"].low.min() == 0


def test_targets_beyond_the_leverage_are_scaled_down_together() -> None:
    floor = floor_of(desk={"limit": 0.8}, record=True)
    assert targets(floor, [4, 4, 4, 0]) == pytest.approx([0.25, 0.25, 0.25, -0.25])
    pooled = floor_of(desk={"preset": "roles", "num_agents": 2, "limit": 0.8}, market={"num_assets": 1}, record=True)
    assert targets(pooled, [4, 0]) == pytest.approx([0.8, -0.8])  # they cancel: the account holds nothing
    assert targets(pooled, [4, 4]) == pytest.approx([0.5, 0.5])


def test_a_mixed_team_takes_rungs_in_column_zero() -> None:
    market = market_of(desk={"num_agents": 2})
    mixed = dataclasses.replace(
        market, mandates=(market.mandates[0], dataclasses.replace(market.mandates[1], action="continuous"))
    )
    floor = build_floor(mixed, record=True)
    assert targets(floor, [[4.0, 0.0], [0.5, -0.5]]) == pytest.approx([0.25, 0.25, 0.25, -0.25])
    with pytest.raises(ValueError, match="'trader_0'"):
        floor.step(np.array([[[7.0, 0.0], [0.5, -0.5]]]))
    with pytest.raises(ValueError, match="'trader_0'"):
        floor.step(np.array([[[1.5, 0.0], [0.5, -0.5]]]))
    floor.step(np.array([[[1.0, 0.0], [0.5, -0.5]]]))


def test_masks_are_left_out_where_nothing_is_forbidden() -> None:
    assert floor_of().reset().action_mask is None
    mask = floor_of(desk={"allow_short": False}, num_replicas=2).reset().action_mask
    assert mask.tolist() == [[[False, False, True, True, True]] * 4] * 2


def test_rungs_move_no_further_than_allowed_and_the_mask_says_so() -> None:
    floor = floor_of(desk={"max_rung_change": 1}, record=True)
    step = floor.reset()
    assert step.action_mask[0, 0].tolist() == [False, True, True, True, False]
    step = floor.step(np.array([[4, 3, 2, 0]]))
    assert floor.detail.target[:, 0].tolist() == pytest.approx([0.125, 0.125, 0.0, -0.125])
    assert step.action_mask[0].tolist() == [
        [False, False, True, True, True],
        [False, False, True, True, True],
        [False, True, True, True, False],
        [True, True, True, False, False],
    ]
    assert torch.equal(floor.observe().action_mask, step.action_mask)

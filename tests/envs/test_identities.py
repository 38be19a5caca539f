"""The identities of the whole floor hold for whatever costs, desks, fills and actions are drawn."""

import dataclasses
from collections import Counter

import numpy as np
from floors import market_of, with_own_costs
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.audit_draws import random_actions
from envs.floor import build_floor
from envs.identities import TOLERANCE, check_step
from envs.market import build_market
from envs.settings import CostConfig, RewardConfig

NUM_STEPS = 10


def off_or(largest):
    return st.just(0.0) | st.floats(0.0, largest)


COSTS = st.builds(
    CostConfig,
    commission_bps=off_or(100.0),
    commission_min_usd=off_or(50.0),
    commission_fixed_usd=off_or(20.0),
    half_spread_bps=off_or(100.0),
    temporary_impact=off_or(3.0),
    impact_law=st.sampled_from(["square_root", "linear"]),
    permanent_impact=off_or(3.0),
    max_participation=st.sampled_from([None, 1.0, 0.1, 1e-4]),
    delisting_haircut=off_or(1.0),
    borrow_rate_annual=off_or(0.5),
    loan_rate_annual=off_or(0.5),
    cash_rate_annual=off_or(0.2),
    lot_size=st.sampled_from([0.0, 0.0, 1.0, 7.5, 100.0]),
)
DESKS = st.fixed_dictionaries(
    {
        "preset": st.sampled_from(["desk", "roles", "rivals"]),
        "num_agents": st.integers(1, 4),
        "action": st.sampled_from(["discrete", "continuous"]),
        "allow_short": st.booleans(),
        "max_rung_change": st.sampled_from([None, 1]),
        "book_rule": st.sampled_from(["equal", "inverse_volatility"]),
    }
)
FLOORS = st.fixed_dictionaries(
    {
        "costs": COSTS,
        "capital": st.sampled_from([1e4, 1e6, 1e9]),
        "max_leverage": st.sampled_from([1.0, 1.0, 1.5, 4.0]),
        "fill": st.sampled_from(["next_open", "next_vwap", "next_close", "same_close_unsafe"]),
        "horizon_bars": st.integers(2, 12),
        "ruin_fraction": st.sampled_from([0.1, 0.1, 0.99]),
        "reward": st.builds(RewardConfig, mark=st.sampled_from(["close", "liquidation"])),
    }
)
MARKETS = st.fixed_dictionaries({"seed": st.integers(0, 5), "num_assets": st.sampled_from([4, 5])})


def with_gaps(bars, end):
    """Every third bar of the second asset does not trade, and the first trades no more from a bar on."""
    volume = bars.volume.copy()
    volume[end:, 0] = volume[::3, 1] = 0.0
    return dataclasses.replace(bars, volume=volume, lives=None)


@settings(deadline=None, max_examples=300)
@given(
    rules=FLOORS,
    desk=DESKS,
    prices=MARKETS,
    has_gaps=st.booleans(),
    own=st.none() | st.lists(COSTS, min_size=5, max_size=5),
    changes=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_identity_holds_at_every_step(rules, desk, prices, has_gaps, own, changes, seed):
    market = market_of(desk=desk, floor=rules, **prices)
    if has_gaps:
        market = build_market(market.spec, bars=with_gaps(market.bars, market.splits.train.stop - 20))
    if own is not None:
        drawn = iter(own)
        scale = np.random.default_rng(seed).uniform(0.5, 2.0, (market.bars.num_bars, 1)) if changes else None
        market = build_market(market.spec, bars=with_own_costs(market.bars, lambda: next(drawn), scale))
    floor = build_floor(market, num_replicas=3, seed=seed, record=True)
    rng, paid, tried = np.random.default_rng(seed), np.zeros((3, floor.num_agents)), Counter()
    layout, capital, account = floor.layout, floor.config.capital, list(floor.layout.agent_account)
    bought = np.zeros((layout.num_lines, 3))

    def check(name, error, tolerance=TOLERANCE * capital):
        errors = np.asarray(error)
        tried[name] += errors.size
        assert (np.abs(errors) <= tolerance).all(), f"{name}: off by {np.abs(errors).max()}"

    for _ in range(NUM_STEPS):
        step = floor.step(random_actions(floor, rng))
        check_step(check, floor, market, floor.detail)
        paid += step.reward.numpy()
        held = np.zeros_like(bought)
        np.add.at(held, np.array(layout.slot_line), floor.detail.after.holdings.numpy())
        bought += floor.detail.line_fills.numpy()
        np.add.at(bought, np.array(layout.slot_line), -floor.detail.closed.numpy())
        mark = floor.detail.mark_after.numpy()[np.array(layout.line_asset)]
        check("agents hold what their account bought", (held - bought) * mark)
        worth = floor.detail.after.equity.numpy()[account].T
        check("rewards sum to the change of account value", paid * capital - (worth - capital))
        ended = (step.terminated | step.truncated).numpy()
        paid[ended], bought[:, ended] = 0.0, 0.0
    asked = {"cash + positions = equity", "commission once per side", "half spread once per side"}
    asked |= {"agents' holdings sum to the account's positions", "rewards sum to the change of account value"}
    asked |= {"nothing is bought on credit without leverage"} if floor.config.max_leverage <= 1 else set()
    if floor.config.max_leverage <= 1 and not has_gaps and "funding" not in market.bars.costs:
        asked |= {"cash is never negative where nobody can owe"}
    assert min(tried[name] for name in asked) > 0

from __future__ import annotations

import dataclasses

import pytest
from floors import flat_bars, spec_of
from pydantic import ValidationError

from common.errors import InputError
from envs.floor import build_floor
from envs.mandates import ROLES, build_mandates
from envs.market import build_market
from envs.settings import AgentConfig, DeskConfig, SyntheticConfig
from envs.synthetic import generate_bars


def bars_of(num_assets: int):
    return generate_bars(SyntheticConfig(num_assets=num_assets, num_bars=200))


@pytest.mark.parametrize(
    ("num_assets", "sizes"), [(2, [1, 1]), (5, [1] * 5), (8, [2, 2, 2, 1, 1]), (12, [3, 3, 2, 2, 2])]
)
def test_desk_deals_assets_in_contiguous_groups(num_assets, sizes) -> None:
    bars = bars_of(num_assets)
    mandates = build_mandates(DeskConfig(), bars)
    assert [len(m.assets) for m in mandates] == sizes
    assert sum((m.assets for m in mandates), ()) == bars.assets
    assert {m.account for m in mandates} == {0}


def test_agents_of_an_account_share_its_leverage() -> None:
    bars = bars_of(4)
    assert {m.limit for m in build_mandates(DeskConfig(), bars, max_leverage=2.0)} == {0.5}
    assert {m.limit for m in build_mandates(DeskConfig(preset="rivals"), bars, max_leverage=2.0)} == {2.0}
    assert {m.limit for m in build_mandates(DeskConfig(limit=0.3), bars)} == {0.3}


def test_roles_see_their_own_features_and_share_one_book() -> None:
    mandates = build_mandates(DeskConfig(preset="roles"), bars_of(3))
    assert [m.name for m in mandates] == list(ROLES)
    assert len({m.feature_groups for m in mandates}) == 5
    assert {(m.account, m.assets) for m in mandates} == {(0, bars_of(3).assets)}
    many = build_mandates(DeskConfig(preset="roles", num_agents=7), bars_of(3))
    assert [m.name for m in many][5:] == ["momentum_2", "trend_2"]
    assert many[5].role == "momentum"


def test_rivals_have_an_account_each() -> None:
    mandates = build_mandates(DeskConfig(preset="rivals", num_agents=3), bars_of(2))
    assert [m.account for m in mandates] == [0, 1, 2]


def test_a_desk_that_is_asked_for_refuses_one_asset_and_names_presets_that_accept_it() -> None:
    with pytest.raises(InputError, match=r"roles.*rivals"):
        build_mandates(DeskConfig(preset="desk"), bars_of(1))
    assert build_mandates(DeskConfig(), bars_of(1)) == build_mandates(DeskConfig(preset="roles"), bars_of(1))
    assert build_mandates(DeskConfig(), bars_of(2)) == build_mandates(DeskConfig(preset="desk"), bars_of(2))
    for preset in ("roles", "rivals"):
        assert build_mandates(DeskConfig(preset=preset), bars_of(1))


def test_features_that_prices_cannot_feed_are_left_out() -> None:
    bars = flat_bars([[1.0, 2.0]] * 3, volume=None)
    for preset in ("desk", "roles", "rivals"):
        assert not any("volume" in m.feature_groups for m in build_mandates(DeskConfig(preset=preset), bars))
    planted = generate_bars(SyntheticConfig(num_bars=200, signal_strength=1.0))
    assert all("signal" in m.feature_groups for m in build_mandates(DeskConfig(preset="roles"), planted))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"ladder": (0.0,)}, "at least two"),
        ({"ladder": (0.5, 0.0, 1.0)}, "rising"),
        ({"ladder": (-2.0, 0.0, 1.0)}, "within -1 and 1"),
        ({"ladder": (-1.0, 1.0)}, "hold 0"),
        ({"num_agents": 9}, "9.*8 assets"),
        ({"feature_groups": ("momentun",)}, "'momentum'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(setting, message) -> None:
    with pytest.raises(InputError, match=message):
        build_mandates(DeskConfig(**setting), bars_of(8))


def test_every_setting_of_agents_reaches_their_mandates() -> None:
    other = {
        "action": "continuous",
        "ladder": (-0.5, 0.0, 0.5),
        "limit": 0.3,
        "book_rule": "inverse_volatility",
        "observe": "each",
        "feature_groups": ("trend", "risk"),
        "observe_tradable": False,
        "max_rung_change": 1,
        "allow_short": False,
        "team_share": 0.25,
        "own_share": 0.75,
    }
    assert set(other) == {item.name for item in dataclasses.fields(AgentConfig)}
    for mandate in build_mandates(DeskConfig(**other), bars_of(3)):
        assert {name: getattr(mandate, name) for name in other} == other


def test_unknown_setting_is_refused() -> None:
    with pytest.raises(ValidationError, match="rungs"):
        DeskConfig(rungs=3)


@pytest.mark.parametrize("asked", [{"temporary_impact": 0.5}, {"permanent_impact": 0.003}])
def test_impact_that_is_asked_for_without_volumes_is_refused_and_says_how_to_go_on(asked) -> None:
    bars = flat_bars([[1.0 + 0.01 * i, 2.0] for i in range(100)], volume=None)
    market = build_market(spec_of(floor={"costs": asked}), bars=bars)
    with pytest.raises(InputError, match="temporary-impact 0"):
        build_floor(market)

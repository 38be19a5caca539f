"""Assets are members as of each date: hidden and not traded outside of that, and paid out when they go out."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from floors import AUDITED, FREE, failures, market_of
from price_samples import long_table, write

import envs.features
from common.errors import FaultsError, InputError
from envs.audit_books import audit_books
from envs.audit_lookahead import audit_lookahead
from envs.backtest import run_backtest
from envs.bars import build_bars, load_bars
from envs.baseline_traders import baseline_market, rule_trader
from envs.baselines import BASELINES
from envs.floor import build_floor
from envs.market import Market, build_market
from envs.settings import DataConfig, SyntheticConfig
from envs.universe import keep_members, read_spells

ROWS = [
    ("2020-01-08", "AAA", "in"), ("2020-01-14", "AAA", "out"), ("2020-01-20", "AAA", "IN"),
    ("2019-05-01", "BBB", "in"), ("2020-01-11", "BBB", "out"),
    ("2010-01-01", "CCC", "in"),
]  # fmt: skip


def universe(tmp_path, rows, name="universe.csv") -> str:
    frame = pd.DataFrame(rows, columns=["date", "tic", "in/out"])
    frame.to_csv(tmp_path / name, index=False)
    return str(tmp_path / name)


def refusal(path: str) -> str:
    with pytest.raises(InputError) as caught:
        read_spells(path)
    assert path in str(caught.value)
    return str(caught.value)


def prices(tmp_path, assets=("AAA", "BBB", "CCC"), num_bars=15) -> str:
    return write(tmp_path, long_table(assets=assets, num_bars=num_bars))


def test_assets_are_alive_from_the_bar_of_their_in_up_to_that_of_their_out(tmp_path):
    for rows in (ROWS, ROWS[::-1]):
        config = DataConfig(path=prices(tmp_path), universe=universe(tmp_path, rows))
        bars = build_bars(config)
        alive = {name: bars.dates[bars.alive[:, a]].astype("datetime64[D]") for a, name in enumerate(bars.assets)}
        days = bars.dates.astype("datetime64[D]")
        is_in = (days >= np.datetime64("2020-01-08")) & (days < np.datetime64("2020-01-14"))
        assert (alive["AAA"] == days[is_in | (days >= np.datetime64("2020-01-20"))]).all()
        assert (alive["BBB"] == days[days <= np.datetime64("2020-01-10")]).all(), "out on a Saturday"
        assert (alive["CCC"] == days).all()
        ends = {name: bars.dates[bars.ends[:, a]].astype("datetime64[D]") for a, name in enumerate(bars.assets)}
        assert [ends[name].astype(str).tolist() for name in ends] == [["2020-01-13"], ["2020-01-10"], []]
        assert bars.notes[-1] == "universe: 3 assets are members at some time, 1 to 3 at once"
        assert bars.tradable.all(), "prices are those of the file"


def test_what_is_known_at_a_date_does_not_depend_on_later_rows(tmp_path):
    path = prices(tmp_path)
    whole = build_bars(DataConfig(path=path, universe=universe(tmp_path, ROWS)))
    for date in ("2020-01-08", "2020-01-12", "2020-01-14", "2020-01-19"):
        known = universe(tmp_path, [row for row in ROWS if row[0] <= date], "known.csv")
        early = build_bars(DataConfig(path=path, universe=known))
        rows = whole.dates <= np.datetime64(date)
        assert (whole.alive[rows] == early.alive[rows]).all()


def test_never_members_are_left_out_and_members_without_prices_are_named(tmp_path):
    rows = [row for row in ROWS if row[1] != "CCC"] + [("2020-01-08", "GONE", "in"), ("2025-01-01", "LATER", "in")]
    config = DataConfig(path=prices(tmp_path), universe=universe(tmp_path, rows))
    bars = build_bars(config)
    assert bars.assets == ("AAA", "BBB")
    _, left, missing = bars.notes[-3:]
    assert left == "never members of the universe while they have bars, and left out: CCC"
    assert missing.startswith("no prices of 1 of 3 members of the universe: what became of them is missing")
    assert missing.endswith("(survivorship): GONE")
    chosen = build_bars(dataclasses.replace(config, assets=("AAA",)))
    assert not any("no prices of" in note for note in chosen.notes)
    with pytest.raises(InputError, match="is a member while it has bars: are they named alike"):
        build_bars(dataclasses.replace(config, assets=("CCC",)))


def test_members_stay_members_where_bars_are_cut_and_assets_chosen(tmp_path):
    bars = build_bars(DataConfig(path=prices(tmp_path), universe=universe(tmp_path, ROWS)))
    assert (bars.between(3, 9).alive == bars.alive[3:9]).all()
    assert (bars.select(["CCC", "AAA"]).alive == bars.alive[:, [2, 0]]).all()
    everywhere = dataclasses.replace(bars, members=None)
    assert everywhere.alive.all()
    assert everywhere.fingerprint != bars.fingerprint
    with pytest.raises(ValueError, match="members has shape"):
        dataclasses.replace(bars, members=np.ones((3, 3), dtype=bool))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (("2020-01-09", "AAA", "in"), "line 8, column 'in/out', asset AAA, 2020-01-09: it is in already since line 2"),
        (("2020-01-15", "AAA", "out"), "line 8, column 'in/out', asset AAA, 2020-01-15: it goes out, but is not in"),
        (("2000-01-01", "CCC", "out"), "line 8, column 'in/out', asset CCC, 2000-01-01: it goes out, but is not in: "),
        (("2020-01-14", "AAA", "in"), "asset AAA, 2020-01-14: the same date stands already in line 3"),
        (("2020-02-30", "AAA", "in"), "line 8, column 'date': '2020-02-30' is not a date"),
        (("9 Smarch", "AAA", "in"), "'9 Smarch' is not a date: write 2013-02-08"),
        (("2020-01-09", "", "in"), "line 8, column 'tic': the asset has no name"),
        (("2020-01-09", "AAA", "maybe"), "line 8, column 'in/out', asset AAA: 'maybe' is neither in nor out"),
    ],
)
def test_bad_row_is_refused_with_line_and_column(tmp_path, row, words):
    assert words in refusal(universe(tmp_path, [*ROWS, row]))


def test_settings_of_the_price_file_are_not_advised_for_the_dates_of_a_universe(tmp_path):
    for rows in ([*ROWS, ("soon", "AAA", "in")], [*ROWS, ("1066-10-14", "AAA", "in")], [("01/02/2020", "AAA", "in")]):
        assert "--data.date-format" not in refusal(universe(tmp_path, rows))


def test_a_universe_that_is_not_there_is_called_one(tmp_path):
    assert refusal(str(tmp_path / "members.csv")) == f"universe {tmp_path / 'members.csv'} does not exist"


def test_number_that_is_no_float_is_no_date(tmp_path):
    said = refusal(universe(tmp_path, [("0", "AAA", "in"), ("9" * 400, "AAA", "out")]))
    assert f"line 3, column 'date': {'9' * 40} is not a date" in said


def test_all_bad_rows_are_told_at_once(tmp_path):
    path = universe(tmp_path, [*ROWS, ("soon", "AAA", "in"), ("2020-01-09", "CCC", "in"), ("2020-01-09", "DDD", "?")])
    with pytest.raises(FaultsError) as caught:
        read_spells(path)
    assert [line.removeprefix(f"{path}: ")[:6] for line in str(caught.value).split("\n")] == [
        "line 8",
        "line 9",
        "line 1",
    ]


def test_rows_after_one_that_is_wrong_are_held_against_those_that_are_right(tmp_path):
    rows = [("2020-01-01", "AAA", "out"), ("2020-01-01", "AAA", "in"), ("2020-01-02", "AAA", "out")]
    said = refusal(universe(tmp_path, rows)).split("\n")
    assert ["goes out, but is not in" in line for line in said] == [True, False, True]


@pytest.mark.parametrize("columns", [["date", "tic"], ["date", "in", "out"], ["date", "tic", "change", "index"]])
def test_other_columns_are_refused(tmp_path, columns):
    pd.DataFrame([["2020-01-01"] * len(columns)], columns=columns).to_csv(tmp_path / "u.csv", index=False)
    assert "a universe has the columns date, tic and one that says in or out" in refusal(str(tmp_path / "u.csv"))


def changing(market: Market, *, seed: int = 0) -> Market:
    """The market with members that come and go, the first asset excepted."""
    rng = np.random.default_rng(seed)
    members = np.ones(market.bars.close.shape, dtype=bool)
    for a in range(1, market.bars.num_assets):
        edges = np.sort(rng.choice(np.arange(10, market.bars.num_bars - 2), 6, replace=False))
        for start, stop in edges.reshape(3, 2):
            members[start:stop, a] = False
    return build_market(market.spec, bars=dataclasses.replace(market.bars, members=members))


def test_who_goes_out_is_paid_the_close_and_trades_no_more_until_it_is_in_again():
    desk = {"preset": "rivals", "num_agents": 1, "action": "continuous"}
    market = market_of(num_assets=2, desk=desk, floor={"costs": FREE, "horizon_bars": 30})
    start = market.splits.test.start
    members = np.ones(market.bars.close.shape, dtype=bool)
    members[start + 6 : start + 12, 1] = members[start + 20 : start + 22, 1] = False
    market = build_market(market.spec, bars=dataclasses.replace(market.bars, members=members))
    bars, floor = market.bars, build_floor(market, split="test", start="first", record=True)
    step, num_paid = floor.reset(), 0
    while not bool(step.truncated[0]):
        step = floor.step(np.full((1, 1, 2), 0.5))
        detail = floor.detail
        bar = int(detail.bar[0])
        closed = float(detail.closed[1, 0])
        held = float(detail.before.holdings[1, 0])
        assert closed == (held if bars.ends[bar, 1] else 0.0)
        if closed:
            num_paid += 1
            assert float(detail.after.holdings[1, 0]) == 0.0
            opened, first, second = bars.open[bar + 1, 0], *(bars.close[bar + 1] - bars.close[bar])
            gain = float((detail.before.holdings[:, 0].numpy() * np.array([first, second])).sum())
            gain += float(detail.fills[0, 0]) * (bars.close[bar + 1, 0] - opened)
            gained = float(detail.after.equity[0, 0] - detail.before.equity[0, 0])
            assert gained == pytest.approx(gain, abs=1e-3), "the second was paid the close of the bar it is out"
        if not bars.alive[bar + 1, 1]:
            assert float(detail.fills[1, 0]) == float(detail.after.holdings[1, 0]) == 0.0
    assert num_paid == 2


def test_features_of_others_are_hidden_and_the_market_is_that_of_the_members():
    market = changing(market_of(desk={"feature_groups": ("market", "momentum")}))
    values, alive = market.features.values, market.bars.alive
    lookback = market.features.lookback_bars
    assert np.isnan(values[lookback:][~alive[lookback:]]).all()
    assert np.isfinite(values[lookback:][alive[lookback:]]).all()
    returns = np.log(market.bars.close[1:] / market.bars.close[:-1])
    wanted = np.where(alive[1:], returns, 0.0).sum(axis=1) / alive[1:].sum(axis=1)
    column = market.features.names.index("market_return_1")
    np.testing.assert_allclose(values[lookback:, 0, column], wanted[lookback - 1 :], atol=1e-12)


def test_equal_weight_holds_members_alone():
    market = changing(market_of(floor={"costs": FREE}))
    result = run_backtest(rule_trader(BASELINES["equal_weight"]), baseline_market(market), name="equal_weight")
    trades = result.trades[result.trades["shares"] != 0]
    rows = np.searchsorted(market.bars.dates, trades["date"].to_numpy(dtype="datetime64[us]"))
    columns = [market.bars.assets.index(asset) for asset in trades["asset"]]
    assert len(trades) > 100
    alive, ends = market.bars.alive[rows, columns], market.bars.ends[rows - 1, columns]
    assert ends.sum() >= 1
    assert (alive ^ ends).all(), "what is paid out stands under the bar after"


def test_audits_pass_where_members_come_and_go():
    market = changing(market_of(num_assets=3, desk=AUDITED[2]))
    assert not failures(audit_lookahead(market, num_bars_checked=3))
    assert not failures(audit_books(market, num_settings=2))


def test_audit_finds_a_feature_that_knows_who_comes_in(monkeypatch):
    def peek(bars):
        later = np.concatenate([bars.alive[1:], bars.alive[-1:]])
        return {"next": later.astype(float)}

    groups = dict(envs.features.FEATURE_GROUPS)
    groups["momentum"] = dataclasses.replace(groups["momentum"], compute=peek)
    monkeypatch.setattr(envs.features, "FEATURE_GROUPS", groups)
    assert failures(audit_lookahead(changing(market_of(num_assets=3)), num_bars_checked=3))


def test_market_is_made_anew_where_the_universe_has_changed(tmp_path):
    spec = market_of().spec
    names = build_bars(DataConfig(synthetic=SyntheticConfig(num_assets=3))).assets
    path = universe(tmp_path, [("2014-01-01", name, "in") for name in names])
    data = dataclasses.replace(spec.data, synthetic=SyntheticConfig(num_assets=3), universe=path)
    spec = dataclasses.replace(spec, data=data)
    assert build_market(spec).bars.num_assets == 3
    universe(tmp_path, [("2014-01-01", name, "in") for name in names[:2]])
    assert build_market(spec).bars.assets == names[:2]


def test_universe_of_bars_that_begin_late_is_within_their_lives(tmp_path):
    frame = long_table(num_bars=40)
    frame = frame[(frame["tic"] != "BBB") | (frame.groupby("tic").cumcount() >= 20)]
    bars = load_bars(write(tmp_path, frame))
    path = universe(tmp_path, [("2010-01-01", "AAA", "in"), ("2020-01-10", "BBB", "in")])
    assert (keep_members(bars, path).alive == bars.alive).all()
    assert bars.alive[:, 1].sum() == 20

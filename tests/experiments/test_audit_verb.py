import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from sample_runs import config_of

from common.errors import InputError
from envs.audit_books import audit_books, audit_round_trips
from envs.audit_lookahead import audit_lookahead
from envs.audit_rows import WORDS
from envs.market import build_market
from experiments import audit
from experiments.settings.run_config import floor_spec

SMALL = ["--data.synthetic.num-bars", "400", "--data.synthetic.num-assets", "3", "--floor.horizon-bars", "20"]
MARKET = build_market(floor_spec(config_of("qmix")))
QUICK = [*SMALL, "--num-bars-checked", "1", "--num-settings", "2"]


def test_sound_floor_passes_and_says_so(capsys, tmp_path):
    assert audit.run([*QUICK, "--json", str(tmp_path / "audit.json")]) == 0
    out = capsys.readouterr().out
    assert "every check passed" in out
    assert "cash + positions = equity" in out
    content = json.loads((tmp_path / "audit.json").read_text())
    assert content["passed"] is True
    assert [item["name"] for item in content["audits"]] == ["lookahead", "books", "round trips"]
    assert all(row["tried"] > 0 for item in content["audits"] for row in item["rows"])


def test_fills_at_the_seen_price_fail(capsys):
    assert audit.run([*QUICK, "--floor.fill", "same_close_unsafe"]) == 1
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "FAILED  " in line)
    assert "orders fill at prices not seen when deciding" in line
    assert "fill prices, some of them known when deciding; first at" in line


def test_each_check_says_what_it_found_in_words_of_its_own(capsys):
    assert audit.run(QUICK) == 0
    lines = {line.partition("passed")[0].strip(): line for line in capsys.readouterr().out.splitlines()}
    assert "equal to the last bit" in lines["observations do not see the future"]
    for check, (looked, held, _) in WORDS.items():
        if check in lines:
            assert f"{looked}, {held}" in lines[check]
    inequalities = set(WORDS) & set(lines)
    assert len(inequalities) >= 4
    assert not [check for check in inequalities if "equal" in lines[check] or "difference" in lines[check]]


def test_words_belong_to_checks_that_there_are():
    rows = [*audit_lookahead(MARKET, num_bars_checked=1).rows]
    for shorts in (True, False):
        mandates = tuple(dataclasses.replace(mandate, allow_short=shorts) for mandate in MARKET.mandates)
        rows += audit_books(dataclasses.replace(MARKET, mandates=mandates), num_settings=2, num_steps=4).rows
    rows += audit_round_trips(MARKET, num_paths=2, num_steps=4).rows
    assert set(WORDS) <= {row.check for row in rows}


def test_impact_that_is_asked_for_without_volumes_is_refused_before_anything_is_shown(tmp_path, capsys):
    dates = pd.bdate_range("2015-01-01", periods=500)
    pd.DataFrame(100.0, index=dates, columns=["AAA", "BBB"]).rename_axis("date").to_csv(tmp_path / "p.csv")
    with pytest.raises(InputError, match="price impact needs volumes"):
        audit.run(["--data.path", str(tmp_path / "p.csv"), "--floor.costs.permanent-impact", "0.1", *SMALL[-2:]])
    assert capsys.readouterr().out == ""


def test_prices_of_which_nothing_is_ever_traded_are_refused_or_audited_without_impact(tmp_path, capsys):
    dates = pd.bdate_range("2015-01-01", periods=500)
    path = np.exp(np.random.default_rng(0).normal(0, 0.01, (500, 3)).cumsum(axis=0)) * 100
    rows = [
        {"date": d, "tic": t, "open": p, "high": p, "low": p, "close": p, "volume": v}
        for d, prices in zip(dates, path, strict=True)
        for t, p, v in zip(("AAA", "BBB", "CCC"), prices, (1e6, 0, 0), strict=True)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "p.csv", index=False)
    words = ["--data.path", str(tmp_path / "p.csv"), "--floor.horizon-bars", "20"]
    with pytest.raises(InputError, match=r"p\.csv has only zeros for BBB and 1 more"):
        audit.run(words)
    assert capsys.readouterr().out == ""
    off = ["--floor.costs.temporary-impact", "0", "--floor.costs.permanent-impact", "0"]
    assert audit.run([*words, *off]) == 0
    assert audit.run([*words, "--data.assets", "AAA", "--desk.preset", "roles"]) == 0


def test_planted_leak_fails(monkeypatch, capsys, tmp_path):
    import envs.features as features

    group = features.FEATURE_GROUPS["momentum"]

    def leaking(bars):
        columns = group.compute(bars)
        name = next(iter(columns))
        tomorrow = np.roll(np.log(bars.close), -1, axis=0) - np.log(bars.close)
        return columns | {name: np.where(np.isfinite(columns[name]), tomorrow, columns[name])}

    leaky = dict(features.FEATURE_GROUPS) | {"momentum": dataclasses.replace(group, compute=leaking)}
    monkeypatch.setattr(features, "FEATURE_GROUPS", leaky)
    path = tmp_path / "audit.json"
    assert audit.run([*QUICK, "--data.synthetic.seed", "77", "--json", str(path)]) == 1
    lookahead = json.loads(path.read_text())["audits"][0]
    failed = [row["check"] for row in lookahead["rows"] if not row["passed"]]
    assert "observations do not see the future" in failed


def test_planted_booking_error_fails(monkeypatch, tmp_path):
    import envs.trading as trading

    execute = trading.execute

    def one_sided(*args, **kwargs):
        fills = execute(*args, **kwargs)
        return fills._replace(fees=fills.fees * (fills.shares > 0))

    monkeypatch.setattr(trading, "execute", one_sided)
    path = tmp_path / "audit.json"
    assert audit.run([*QUICK, "--json", str(path)]) == 1
    books = json.loads(path.read_text())["audits"][1]
    failed = [row["check"] for row in books["rows"] if not row["passed"]]
    assert "cash moves by trades, fees, interest, funding and closings alone" in failed
    assert "cash + positions = equity" not in failed


def test_users_own_prices_are_audited(tmp_path, capsys):
    rng = np.random.default_rng(0)
    dates = pd.bdate_range("2015-01-01", periods=500)
    closes = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, (500, 2)), axis=0))
    pd.DataFrame(closes, index=dates, columns=["AAA", "BBB"]).rename_axis("date").to_csv(tmp_path / "p.csv")
    quick = ["--num-bars-checked", "1", "--num-settings", "2", "--floor.horizon-bars", "20"]
    assert audit.run(["--data.path", str(tmp_path / "p.csv"), *quick]) == 0
    printed = capsys.readouterr().out
    assert "p.csv" in printed
    assert "price impact is 0" in printed


def test_preset_and_file_settings_reach_the_audit(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("seed: 5\nfloor: {capital: 3.0}\nqmix: {lr: 1e-3}\n")
    config = audit.parse_audit(["--preset", "roles", "--config", str(path), "--capital", "4"])
    assert config.desk.preset == "roles"
    assert config.floor.capital == 4.0
    assert config.seed == 0  # the seed of a run is not the seed of an audit


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--qmix.lr", "1"], r"unknown flag --qmix\.lr"),
        (["--data.path", "nowhere.csv"], r"nowhere\.csv"),
        (["--num-settings", "0"], r"--num-settings is '0'"),
        (["--preset", "dmo"], r"did you mean 'demo'"),
    ],
)
def test_bad_input_is_named(argv, message):
    with pytest.raises(InputError, match=message):
        audit.run(argv)

import json

import pytest

from envs.errors import InputError
from experiments.tuning import ending
from experiments.tuning.ending import repeat_backtest

FIGURES = {"total_return": 0.1, "sharpe": 1.25, "max_drawdown": -0.05, "num_trades": 40}
FOUND = {
    "period": {"split": "test", "start": "2020-01-01T00:00", "end": "2020-06-01T00:00"},
    "strategy": FIGURES,
    "baselines": {"buy_and_hold": FIGURES | {"total_return": 0.2}},
}


@pytest.fixture
def out(tmp_path):
    (tmp_path / "backtest").mkdir()
    (tmp_path / "backtest" / "equity.parquet").write_text("mine")
    return tmp_path / "backtest"


def test_backtest_of_before_is_told_in_a_line(out, capsys):
    (out / "backtest.json").write_text(json.dumps(FOUND))
    assert repeat_backtest(out) == FOUND | {"folder": str(out)}
    shown = capsys.readouterr().out
    assert shown.startswith("test split, 2020-01-01 to 2020-06-01: return 10.0%, Sharpe 1.25")
    assert shown.endswith(f"(buy and hold 20.0%); files in {out}\n")


def test_without_a_backtest_there_is_nothing_to_repeat(out, capsys):
    assert repeat_backtest(out) is None
    assert out.is_dir()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "3", "null", "{}"),
        json.dumps(FOUND | {"period": []}),
        json.dumps(FOUND | {"strategy": FIGURES | {"sharpe": "high"}}),
        json.dumps(FOUND | {"baselines": {}}),
    ],
)
def test_damaged_results_are_set_aside_to_be_made_again(out, tmp_path, capsys, text):
    (out / "backtest.json").write_text(text)
    assert repeat_backtest(out) is None
    assert not out.exists()
    assert {p.name for p in (tmp_path / "damaged-backtest").iterdir()} == {"backtest.json", "equity.parquet"}
    assert (tmp_path / "damaged-backtest" / "backtest.json").read_text() == text
    shown = capsys.readouterr().out
    assert shown.count("\n") == 1
    assert "backtest.json is damaged" in shown
    assert "set aside as damaged-backtest" in shown


def test_damaged_results_that_cannot_be_set_aside_are_named(out, monkeypatch):
    def refuse(path):
        raise OSError(30, "Read-only file system")

    (out / "backtest.json").write_text("[]")
    monkeypatch.setattr(ending, "rename_aside", refuse)
    with pytest.raises(InputError, match=r"backtest.json is damaged.*Read-only file system\): move .* away"):
        repeat_backtest(out)

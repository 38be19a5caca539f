"""Backtests that differ do not write over each other."""

import errno
import json
import os

import pytest
from sample_runs import SMALL, ScriptedPolicy, make_run

import algos.policy
from experiments.backtest import run
from experiments.backtesting.results_folders import results_folder
from experiments.command_line import exit_code
from experiments.runs.models import find_models


@pytest.fixture
def model(tmp_path):
    make_run(tmp_path / "dow")
    return tmp_path / "dow"


def place(*paths, **asked):
    return results_folder(find_models(paths), **asked).name


def test_own_test_of_a_run_goes_into_backtest(model):
    assert place(model) == "backtest"
    assert place(model, capital=1e6, data={"train": 0.6, "assets": None}, split="test") == "backtest"


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ({"capital": 2e7}, "backtest-capital-20000000"),
        ({"capital": 1234567.25}, "backtest-capital-1234567.25"),
        ({"split": "validation"}, "backtest-validation"),
        ({"data": {"assets": ("A/B", "C D")}}, "backtest-assets-A-B-C-D"),
        ({"data": {"synthetic": {"seed": 9}}}, "backtest-seed-9"),
        ({"capital": 2e6, "split": "train"}, "backtest-train-capital-2000000"),
        ({"benchmark": "/prices/spy.csv"}, "backtest-benchmark-prices-spy.csv"),
        ({"baselines": ("cash", "my_rules:mine")}, "backtest-against-cash-my_rules-mine"),
    ],
)
def test_another_test_goes_beside_it_and_says_what_differs(model, asked, name):
    assert place(model, **asked) == name


def test_price_files_of_one_name_have_folders_of_their_own(model):
    one, two = (place(model, data={"path": f"/prices/{folder}/btc.1h.csv"}) for folder in ("a", "b"))
    assert one.startswith("backtest-prices-btc-")
    assert one != two
    assert place(model, data={"universe": "/lists/sp500.csv"}).startswith("backtest-universe-sp500-")


def test_named_checkpoint_has_a_folder_of_its_own(model, tmp_path):
    assert place(model / "checkpoint_000001") == "backtest-checkpoint_000001"
    assert results_folder(find_models([model / "checkpoint_000001"])).parent == model


def test_comparison_names_what_is_compared(model, tmp_path):
    make_run(tmp_path / "dow2")
    assert place(model, tmp_path / "dow2") == "comparison-with-dow2"
    assert place(model, tmp_path / "dow2", split="train") == "comparison-with-dow2-train"


def test_long_names_are_cut_and_stay_different(model):
    names = [place(model, data={"assets": tuple(f"ASSET{i}" for i in range(30 + more))}) for more in (0, 1)]
    assert names[0] != names[1]
    assert max(map(len, names)) <= 80


@pytest.fixture
def tested(model, tmp_path, monkeypatch, capsys):
    """Runs the verb with a policy that follows a script; returns its JSON and what it printed."""
    monkeypatch.setattr(algos.policy, "load_policy", lambda path: ScriptedPolicy())

    def test(*words):
        assert exit_code(run, ["--model", str(model), "--json", str(tmp_path / "out.json"), *words]) == 0
        return json.loads((tmp_path / "out.json").read_text()), capsys.readouterr().out

    return test


def test_other_capital_leaves_the_result_of_the_run_alone(model, tested):
    _, shown = tested()
    assert f"files in {model / 'backtest'}:" in shown
    before = (model / "backtest" / "backtest.json").read_bytes()
    found, shown = tested("--capital", "2e6")
    assert f"files in {model / 'backtest-capital-2000000'}:" in shown
    assert found["folder"] == str(model / "backtest-capital-2000000")
    assert (model / "backtest" / "backtest.json").read_bytes() == before


def test_benchmark_and_baselines_that_are_asked_for_are_in_the_json_and_the_name_of_the_folder(model, tested):
    found, shown = tested("--benchmark", "sixty_forty", "--baselines", "cash")
    assert found["folder"] == str(model / "backtest-against-cash-benchmark-sixty_forty")
    assert (
        list(found["benchmark"]["series"]) == ["strategy", *found["baselines"]] == ["strategy", "cash", "sixty_forty"]
    )
    assert "Against sixty_forty" in shown


def test_disk_that_is_full_when_results_are_written_is_one_line_and_leaves_no_half_of_a_file(
    model, tested, monkeypatch, capsys
):
    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    tested()
    before = {path: path.read_bytes() for path in (model / "backtest").iterdir()}
    (model / "backtest" / "backtest.json").unlink()  # what a kill has kept from being written
    monkeypatch.setattr(os, "fsync", full)
    assert exit_code(run, ["--model", str(model)]) == 1
    err = capsys.readouterr().err
    assert err == f"error: cannot write {model / 'backtest' / 'equity.parquet'}: No space left on device\n"
    after = {path: path.read_bytes() for path in (model / "backtest").iterdir()}
    assert after == {path: content for path, content in before.items() if path.name != "backtest.json"}


def test_folder_that_is_asked_for_wins(model, tmp_path, tested):
    found, _ = tested("--split", "train", "--out", str(tmp_path / "mine"))
    assert found["folder"] == str(tmp_path / "mine")
    assert not list(model.glob("backtest*"))


def test_json_holds_notes_files_and_what_the_checkpoint_is_worth(model, tested):
    found, shown = tested("--split", "validation")
    assert {path.name for path in model.glob("backtest-validation/*")} == set(found["files"])
    assert all(note[:60] in shown for note in found["notes"])
    assert found["notes"][0].startswith("NOT OUT OF SAMPLE")
    assert found["models"][0]["episode"] == 2
    assert "best checkpoint of episode 2," in shown
    assert found["ruined_series"] == []


def test_json_names_every_series_that_was_ruined(tmp_path, monkeypatch, capsys):
    costs = {"costs": {"commission_fixed_usd": 2e4}}
    make_run(tmp_path / "dear", SMALL | {"floor": SMALL["floor"] | costs})
    monkeypatch.setattr(algos.policy, "load_policy", lambda path: ScriptedPolicy())
    assert exit_code(run, ["--model", str(tmp_path / "dear"), "--json", str(tmp_path / "out.json")]) == 0
    found = json.loads((tmp_path / "out.json").read_text())
    shown = capsys.readouterr().out
    assert "random" in found["ruined_series"]
    assert [line.split()[0] for line in shown.splitlines() if "lost its capital" in line] == found["ruined_series"]

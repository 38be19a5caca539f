import json

import pytest
from trials import folder_of

from common.errors import InputError
from common.files import WriteError
from experiments.remote.lease import LostLeaseError
from experiments.runs.summary import write_summary
from experiments.tuning import ending
from experiments.tuning.ending import ended_in_store, repeat_backtest

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
    assert repeat_backtest(out.parent, capital=1e6) == FOUND | {"folder": str(out)}
    shown = capsys.readouterr().out
    assert shown.startswith("test split, 2020-01-01 to 2020-06-01: return 10.0%, Sharpe 1.25")
    assert shown.endswith(f"(buy and hold 20.0%); files in {out}\n")


@pytest.mark.parametrize(
    ("tested", "is_repeated"),
    [
        ({"weights_sha256": "new", "capital": 1e6}, True),
        ({"weights_sha256": "old", "capital": 1e6}, False),
        ({"weights_sha256": "new", "capital": 2e6}, False),
        ({"weights_sha256": None}, True),  # nobody knows
        ({}, True),
    ],
)
def test_backtest_of_what_the_run_was_before_is_not_repeated(out, tmp_path, capsys, tested, is_repeated):
    folder_of(tmp_path / "trial_0" / "best_checkpoint", **{"checkpoint_meta.json": '{"weights_sha256": "new"}'})
    write_summary(tmp_path, {"status": "complete", "best_checkpoint": "trial_0/best_checkpoint"})
    (out / "backtest.json").write_text(json.dumps(FOUND | {"models": [tested]}))
    assert (repeat_backtest(tmp_path, capital=1e6) is not None) == is_repeated
    shown = capsys.readouterr().out
    assert shown.count("\n") == 1
    assert ("before it trained on: backtested again" in shown) != is_repeated
    assert out.is_dir(), "the next one is written over it"


def test_without_a_backtest_there_is_nothing_to_repeat(out, capsys):
    assert repeat_backtest(out.parent, capital=1e6) is None
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
    assert repeat_backtest(out.parent, capital=1e6) is None
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
        repeat_backtest(out.parent, capital=1e6)


# --- what is brought to the store at the end --------------------------------------------------------------------------


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """The mirror of a run that has begun; its store answers what is set."""

    class Mirror:
        folder, pushed, answer = tmp_path, 0, None

        def push_all(self):
            self.pushed += 1
            if self.answer is not None:
                raise self.answer

    (tmp_path / "config.json").write_text("{}")
    return Mirror()


def fail():
    raise RuntimeError("a worker has died")


@pytest.mark.parametrize("code", [0, 1, 130])
def test_all_is_brought_to_the_store_whichever_way_a_run_ends(mirror, code):
    assert ended_in_store(mirror, lambda: code) == code
    assert mirror.pushed == 1


def test_all_is_brought_to_the_store_after_an_error(mirror):
    with pytest.raises(RuntimeError, match="a worker has died"):
        ended_in_store(mirror, fail)
    assert mirror.pushed == 1


def test_a_store_that_does_not_answer_does_not_hide_what_has_failed(mirror, capsys):
    mirror.answer = OSError("no answer\nand more")
    with pytest.raises(RuntimeError, match="a worker has died"):
        ended_in_store(mirror, fail)
    assert ended_in_store(mirror, lambda: 1) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert all("the store did not take the last files (no answer)" in line for line in said)


@pytest.mark.parametrize("code", [0, 130])
def test_a_store_that_does_not_answer_is_the_failure_where_nothing_else_has_failed(mirror, code):
    mirror.answer = OSError("no answer")
    with pytest.raises(WriteError, match=r"did not take the last files \(no answer\).* the same command brings them"):
        ended_in_store(mirror, lambda: code)


def test_a_run_that_another_machine_has_taken_over_says_so_at_the_end(mirror):
    mirror.answer = LostLeaseError("s3://b/dow has been taken over by process 7 on elsewhere")
    with pytest.raises(WriteError, match="taken over by process 7 on elsewhere; the last files are in") as caught:
        ended_in_store(mirror, lambda: 130)
    assert "the same command" not in str(caught.value)


def test_of_a_run_that_was_refused_before_it_began_nothing_is_brought_to_the_store(mirror):
    (mirror.folder / "config.json").unlink()
    with pytest.raises(RuntimeError):
        ended_in_store(mirror, fail)
    assert mirror.pushed == 0

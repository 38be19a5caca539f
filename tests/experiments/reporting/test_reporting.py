import dataclasses
import json
import os

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console

from common.errors import InputError
from common.files import (
    WriteError,
    check_folder_writable,
    plain,
    read_json,
    read_text,
    write_json,
    write_parquet,
    write_text,
)
from envs.backtest import COST_COLUMNS, FINANCING_COLUMNS, TRADE_COLUMNS, BacktestResult
from envs.metrics import METRIC_NAMES
from experiments.reporting.plots import plot_backtest
from experiments.reporting.tables import (
    METRIC_COLUMNS,
    checks_table,
    format_metric,
    markdown_table,
    metrics_table,
    money,
    rows_table,
    show,
)


def result(name, *, num_assets=12, num_bars=60, seed=0):
    rng = np.random.default_rng(seed)
    dates = pd.bdate_range("2017-01-03", periods=num_bars + 1).to_numpy().astype("datetime64[us]")
    equity = 1e7 * np.exp(np.r_[0.0, np.cumsum(rng.normal(0, 0.01, num_bars))])
    assets, agents = [f"A{i}" for i in range(num_assets)], [f"trader_{i}" for i in range(3)]
    index = pd.Index(dates[1:], name="date")
    columns = [*COST_COLUMNS, *FINANCING_COLUMNS]
    return BacktestResult(
        name=name,
        dates=dates,
        equity=equity,
        trades=pd.DataFrame(columns=list(TRADE_COLUMNS)),
        weights=pd.DataFrame(rng.normal(0, 0.05, (num_bars, num_assets)), index=index, columns=assets),
        agent_profit=pd.DataFrame(rng.normal(0, 1e4, (num_bars, 3)), index=index, columns=agents),
        costs=pd.DataFrame(rng.exponential(10, (num_bars, len(columns))), index=index, columns=columns),
        metrics=dict.fromkeys(METRIC_NAMES, 0.1),
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "$0"),
        (0.5, "$0.50"),
        (12, "$12"),
        (999.9, "$1K"),
        (10_200_000, "$10.2M"),
        (-350_000, "-$350K"),
        (999_999, "$1M"),
        (2.5e9, "$2.5B"),
        (1e10, "$10B"),
    ],
)
def test_money(value, text):
    assert money(value) == text


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("total_return", 0.1234, "12.3%"),
        ("sharpe", 1.005, "1.00"),
        ("final_equity", 10_688_541.2, "$10,688,541"),
        ("num_trades", 6235, "6,235"),
        ("sharpe", float("nan"), "-"),
        ("calmar", None, "-"),
    ],
)
def test_metrics_are_written_in_their_units(name, value, text):
    assert format_metric(name, value) == text


def test_every_metric_has_a_column():
    assert set(METRIC_COLUMNS) == set(METRIC_NAMES)


def test_table_shows_every_series_and_folds_nothing_in_a_pipe(capsys):
    rows = {name: dict.fromkeys(METRIC_NAMES, 0.5) for name in ("strategy", "buy_and_hold")}
    show(metrics_table(rows, title="Backtest", strategies=["strategy"]))
    lines = capsys.readouterr().out.splitlines()
    assert any("strategy" in line and "buy and hold" in line for line in lines)
    for head in METRIC_COLUMNS.values():
        assert any(line.strip().startswith(head) for line in lines)
    assert any(line.split() == ["return", "50.0%", "50.0%"] for line in lines)


def shown_at(width, table):
    console = Console(width=width, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(table)
    return console.export_text()


SERIES = ("strategy", "cash", "buy_and_hold", "equal_weight", "minimum_variance", "momentum", "random")


def test_markdown_table_has_a_cell_for_every_column_of_its_first_row():
    rows = [{"series": "a", "return": "1%"}, {"series": "b|c"}]
    assert markdown_table(rows) == "| series | return |\n| --- | --- |\n| a | 1% |\n| b\\|c |  |"


@pytest.mark.parametrize(("width", "num_tables"), [(40, 4), (60, 2), (80, 1), (160, 1)])
def test_table_of_metrics_breaks_no_word_and_no_number(width, num_tables):
    values = dict.fromkeys(METRIC_NAMES, -0.5) | {"final_equity": 1_234_567.0, "total_costs": 98_765.4}
    text = shown_at(width, metrics_table(dict.fromkeys(SERIES, values), title="Backtest", strategies=["strategy"]))
    assert max(map(len, text.splitlines())) <= width
    assert text.split().count("return") == num_tables
    for word in " ".join(SERIES).replace("_", " ").split():
        assert word in text.split()
    amounts = ("$1.23M", "$98.8K") if width < 160 else ("$1,234,567", "$98,765")
    assert [text.split().count(amount) for amount in amounts] == [7, 7]


def test_table_of_records_comes_in_parts_where_there_is_little_room():
    row = {"trial": "trial_ab12", "score": 1.25, "qmix.target_network_update_freq": 200, "env_steps_per_s": 1234567.0}
    wide, narrow = (shown_at(width, rows_table([row], title="Trials")) for width in (120, 36))
    assert "qmix.target_network_update_freq" in wide
    assert "env steps per s" in wide
    assert narrow.split().count("trial_ab12") > 1
    assert {"qmix.", "target_", "update_", "1,234,567", "200"} <= set(narrow.split())


def test_long_words_of_a_record_are_broken_between_words():
    row = {"checkpoint": "checkpoint_000001", "state": "learner_group: has 100 bytes instead of 2,345, and more beside"}
    lines = shown_at(50, rows_table([row, row | {"state": "whole"}], title="")).splitlines()
    assert max(map(len, lines)) <= 50
    assert any(line.split()[:1] == ["checkpoint_000001"] for line in lines)
    assert set(row["state"].split()) <= set(" ".join(lines).split())


@pytest.mark.parametrize("width", [60, 80])
def test_table_of_checks_breaks_no_word(width):
    check, detail = "agents' holdings sum to the account's positions", "12,345 numbers compared, equal to the last bit"
    text = shown_at(width, checks_table([(check, True, detail)], title="Books"))
    assert {*check.split(), *detail.split(), "passed"} <= set(text.split())


def test_failed_check_stands_out():
    text = shown_at(120, checks_table([("books", False, "step 3"), ("time", True, "")], title="Audit"))
    assert "FAILED" in text
    assert "passed" in text


@pytest.mark.parametrize("num_models", [1, 3])
@pytest.mark.parametrize("num_assets", [1, 40])
def test_picture_is_drawn_without_a_display(tmp_path, num_models, num_assets, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    before = dict(mpl.rcParams)
    models = [result(f"model {i}", num_assets=num_assets, seed=i) for i in range(num_models)]
    path = tmp_path / "out" / "backtest_results.png"
    plot_backtest(path, models, [result("cash"), result("buy_and_hold", seed=9)], title="title", subtitle="costs")
    with Image.open(path) as picture:
        assert picture.width >= 1200
        assert len(set(picture.convert("RGB").resize((60, 60)).get_flattened_data())) > 50
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert dict(mpl.rcParams) == before


def test_picture_draws_every_series(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr("experiments.reporting.plots.save_figure", lambda figure, path: figures.append(figure) or path)
    plot_backtest(tmp_path / "x.png", [result("mine")], [result("cash"), result("momentum")], title="t")
    axes = figures[0].axes
    assert [axis.get_title(loc="left").split(" ")[0] for axis in axes] == [
        "Equity",
        "Drawdown",
        "Weights",
        "Profit",
        "Cumulative",
    ]
    labels = {text.get_text().rsplit(" ", 1)[0] for text in axes[0].get_legend().get_texts()}
    assert labels == {"mine", "cash", "momentum"}
    assert len(axes[2].get_legend().get_texts()) <= 10


def test_closed_hours_take_no_room_in_a_picture_of_intraday_prices(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr("experiments.reporting.plots.save_figure", lambda figure, path: figures.append(figure) or path)
    days = np.busday_offset("2024-03-04", np.arange(10)).astype("datetime64[us]")
    hours = (days[:, None] + np.arange(15, 21) * np.timedelta64(1, "h")).ravel()
    for dates in (
        hours,
        hours[0] + np.arange(60) * np.timedelta64(1, "h"),
        np.datetime64("2024-03-04") + np.arange(60),
    ):
        one = result("mine", num_bars=59)
        index = pd.Index(dates[1:], name="date")
        tables = {name: getattr(one, name).set_axis(index) for name in ("weights", "agent_profit", "costs")}
        plot_backtest(tmp_path / "x.png", [dataclasses.replace(one, dates=dates, **tables)], [], title="t")
    for figure in figures:
        figure.draw_without_rendering()
        axis = figure.axes[0]
        places = axis.get_lines()[0].get_transform().transform(axis.get_lines()[0].get_xydata())[:, 0]
        np.testing.assert_allclose(np.diff(places), np.diff(places)[0], rtol=1e-6)
        shown = [text.get_text() for text in axis.get_xticklabels()]
        assert any("2024" in text for text in shown)
        assert len(shown) < 14


@pytest.mark.parametrize("num_models", [1, 2])
def test_long_titles_of_a_picture_are_broken_and_cover_nothing(tmp_path, monkeypatch, num_models):
    figures = []
    monkeypatch.setattr("experiments.reporting.plots.save_figure", lambda figure, path: figures.append(figure) or path)
    models = [result(f"model {i}", seed=i) for i in range(num_models)]
    words = {"title": "a run with a long name and " * 5, "subtitle": "commission 1 bps, half spread 2 bps, " * 8}
    plot_backtest(tmp_path / "x.png", models, [result("cash")], **words)
    (figure,) = figures
    figure.draw_without_rendering()
    axes = figure.axes[0]
    (subtitle,) = axes.texts
    legend = axes.get_legend()
    heading = next(child for child in axes.get_children() if getattr(child, "get_text", str)() == "Equity")
    boxes = [part.get_window_extent() for part in (figure._suptitle, subtitle, heading, axes, legend)]
    tables = [table for one in figure.axes for table in one.tables]
    boxes += [
        table[0, column].get_text().get_window_extent() for table in tables for column in range(len(METRIC_COLUMNS))
    ]
    for i, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_plain_values_survive_json():
    value = {"a": np.float64(1.5), "b": np.int64(2), "c": (1, np.nan), 3: {"x": np.array([1.0, np.inf])}}
    assert json.loads(json.dumps(plain(value), allow_nan=False)) == {
        "a": 1.5,
        "b": 2,
        "c": [1, None],
        "3": {"x": [1.0, None]},
    }


def test_file_is_replaced_whole_and_a_failure_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "summary.json"
    write_json(path, {"step": 1})

    def fail(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(WriteError, match=r"^cannot write .*summary\.json: No space left on device$"):
            write_text(path, "half")
        with pytest.raises(WriteError, match="No space left"):
            write_parquet(tmp_path / "t.parquet", pd.DataFrame({"a": [1]}))
    assert read_json(path) == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["summary.json"]


@pytest.mark.parametrize("name", ["\0", "\ud800", "binary"])
def test_what_is_no_text_cannot_be_read(tmp_path, name):
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="cannot read"):
        read_text(tmp_path / name)


def test_file_in_a_folder_that_cannot_be_made_is_a_failed_write(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(WriteError, match="cannot write"):
        write_text(tmp_path / "file" / "summary.json", "{}")
    assert (tmp_path / "file").read_text() == "mine"


def test_file_is_on_the_disk_before_it_takes_the_place_of_the_old_one(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, real=real, name=name: (calls.append(name), real(*args))[1])
    write_text(tmp_path / "summary.json", "{}")
    assert calls == ["fsync", "replace"]


def test_damaged_json_is_named_with_its_line(tmp_path):
    path = tmp_path / "summary.json"
    path.write_text('{\n"a": ')
    with pytest.raises(InputError, match=r"summary\.json is damaged: not JSON at line 2"):
        read_json(path)


def test_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "results").write_text("")
    with pytest.raises(InputError, match=r"--storage is .*results"):
        check_folder_writable(tmp_path / "results", setting="--storage")
    with pytest.raises(InputError, match=r"--storage is .*results"):
        check_folder_writable(tmp_path / "results" / "dow", setting="--storage")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot be written to"):
        check_folder_writable(tmp_path / "results", setting="--storage")

"""Several price files, and folders of them, are one market."""

from __future__ import annotations

import gzip
import os

import numpy as np
import pandas as pd
import pytest
from price_samples import long_table, write

from common.errors import InputError
from envs.bars import build_bars, load_bars
from envs.market import build_market
from envs.price_sources import changes_of
from envs.settings import DataConfig, FloorSpec

ALL = long_table(assets=("AAA", "BBB", "CCC"), num_bars=8)


def file_of_each(tmp_path, frame=ALL) -> list[str]:
    return [write(tmp_path, rows.drop(columns="tic"), f"{tic}.csv") for tic, rows in frame.groupby("tic")]


def refused(paths, **settings) -> str:
    with pytest.raises(InputError) as caught:
        load_bars(paths, **settings)
    return str(caught.value)


@pytest.fixture
def whole(tmp_path_factory):
    return load_bars(write(tmp_path_factory.mktemp("whole"), ALL))


def test_files_of_one_asset_each_are_the_market_of_all(tmp_path, whole):
    files = file_of_each(tmp_path)
    bars = load_bars(files)
    assert bars.assets == ("AAA", "BBB", "CCC")
    assert bars.fingerprint == whole.fingerprint
    assert bars.source == f"{files[0]} and 2 more"
    assert build_bars(DataConfig(path=tuple(files))).fingerprint == whole.fingerprint
    assert load_bars(files, assets=("CCC", "AAA")).fingerprint == whole.select(("CCC", "AAA")).fingerprint


def test_a_folder_stands_for_its_price_files_packed_or_not(tmp_path, whole):
    _, second, third = file_of_each(tmp_path)
    (tmp_path / "BBB.csv.gz").write_bytes(gzip.compress((tmp_path / "BBB.csv").read_bytes()))
    os.remove(second)
    ALL[ALL.tic == "CCC"].drop(columns="tic").to_parquet(tmp_path / "CCC.parquet")
    os.remove(third)
    for name in ("README.txt", "notes.md", ".hidden.csv"):
        (tmp_path / name).write_text("no prices")
    (tmp_path / "older").mkdir()
    bars = load_bars(tmp_path)
    assert bars.fingerprint == whole.fingerprint
    assert f"not read in {tmp_path}: README.txt, notes.md, older" in bars.notes


def test_files_with_an_asset_column_are_joined_in_time_and_across_assets(tmp_path, whole):
    days = ALL["date"].unique()
    early = write(tmp_path, ALL[ALL["date"] < days[3]], "early.csv")
    late = write(tmp_path, ALL[(ALL["date"] >= days[3]) & (ALL["tic"] != "CCC")], "late.csv")
    third = write(tmp_path, ALL[(ALL["date"] >= days[3]) & (ALL["tic"] == "CCC")], "third.csv")
    assert load_bars([late, third, early]).select(("AAA", "BBB", "CCC")).fingerprint == whole.fingerprint
    assert load_bars([early, late, third], start=days[4]).num_bars == 4


def test_wide_tables_are_joined_too(tmp_path):
    wide = ALL.pivot_table(index="date", columns="tic", values="close").reset_index()
    parts = [write(tmp_path, wide[:4], "a.csv"), write(tmp_path, wide[4:], "b.csv")]
    assert load_bars(parts).fingerprint == load_bars(write(tmp_path, wide, "all.csv")).fingerprint


def test_years_of_one_asset_in_folders_are_one_asset(tmp_path):
    frame = ALL[ALL.tic == "AAA"].drop(columns="tic")
    (tmp_path / "2019").mkdir()
    (tmp_path / "2020").mkdir()
    files = [write(tmp_path / "2019", frame[:5], "AAA.csv"), write(tmp_path / "2020", frame[5:], "AAA.csv")]
    assert load_bars(files).fingerprint == load_bars(write(tmp_path, frame, "AAA.csv")).fingerprint
    renamed = [write(tmp_path, frame[:5], "AAA-01.csv"), write(tmp_path, frame[5:], "AAA-02.csv")]
    assert "have no date in common: assets are named after their files" in refused(renamed)


def test_bars_that_stand_in_two_files_are_refused_naming_both(tmp_path):
    days = ALL["date"].unique()
    early = write(tmp_path, ALL[ALL["date"] <= days[4]], "early.csv")
    late = write(tmp_path, ALL[ALL["date"] >= days[3]], "late.csv")
    assert refused([early, late]) == (
        f"{late} and {early} both have a bar of AAA at 2020-01-09 (and 5 more bars): leave one out"
    )
    assert "twice: name it once" in refused([early, early])


def test_volumes_in_some_files_alone_are_refused_naming_both(tmp_path):
    a = write(tmp_path, ALL[ALL.tic == "AAA"], "a.csv")
    b = write(tmp_path, ALL[ALL.tic == "BBB"].drop(columns="volume"), "b.csv")
    assert f"{a} has volumes and {b} has none" in refused([b, a])


def test_faults_and_notes_name_their_file(tmp_path):
    a, b, _ = file_of_each(tmp_path)
    closes = write(tmp_path, ALL[ALL.tic == "CCC"][["date", "close", "volume"]], "CCC.csv")
    assert any(note.startswith("CCC.csv: only closes given") for note in load_bars([a, b, closes]).notes)
    bad = ALL[ALL.tic == "BBB"].drop(columns="tic").assign(close=-1.0)
    assert refused([a, write(tmp_path, bad, "BBB.csv")]).startswith(f"{b}: line 2, column 'close', asset BBB")
    assert "did you mean 'BBB'?" in refused([a, closes, write(tmp_path, bad, "BBB.csv")], assets=("BBC",))


def test_a_folder_without_prices_and_no_file_at_all_are_refused(tmp_path):
    assert refused([]) == "data.path is empty: name a price file, several, or a folder of them"
    (tmp_path / "notes.md").write_text("no prices")
    assert "is a folder without a price file" in refused(tmp_path)


def test_a_market_is_made_anew_when_a_file_of_its_folder_changes(tmp_path):
    for tic, rows in long_table(num_bars=300).groupby("tic"):
        write(tmp_path, rows.drop(columns="tic"), f"{tic}.csv")
    spec = FloorSpec(data=DataConfig(path=str(tmp_path)), floor={"horizon_bars": 5})
    market = build_market(spec)
    assert build_market(spec) is market
    changes = changes_of(str(tmp_path))
    os.utime(tmp_path / "BBB.csv", (1.0, 1.0))
    assert changes_of(str(tmp_path)) != changes
    assert build_market(spec) is not market
    np.testing.assert_array_equal(build_market(spec).bars.close, market.bars.close)


def test_pieces_of_one_history_with_dividends_between_them_are_refused(tmp_path):
    """Each piece would be adjusted by itself, and the return from one to the next would be none of the market's."""
    days = pd.bdate_range("2020-01-06", periods=80).strftime("%Y-%m-%d")
    rng = np.random.default_rng(0)
    close = 100 * np.exp((rng.standard_normal(80) * 0.002).cumsum()) * np.where(np.arange(80) < 40, 2.0, 1.0)
    table = pd.DataFrame({"date": days, "tic": "AA", "open": close, "high": close, "low": close, "close": close})
    table = table.assign(volume=1e6, splits=np.where(np.arange(80) == 40, 2.0, 0.0))
    whole = tmp_path / "whole.csv"
    table.to_csv(whole, index=False)
    assert np.abs(np.diff(np.log(load_bars(whole).close[:, 0]))).max() < 0.02
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    table[:30].to_csv(first, index=False)
    table[30:].to_csv(second, index=False)
    with pytest.raises(InputError, match=r"second\.csv has dividends or splits of AA, of which .*first\.csv has other"):
        load_bars([first, second])

"""Excel workbooks are read as the same table in text is."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
from price_samples import long_table, refusal, write

from envs.bars import load_bars

ALL = long_table()


def test_workbook_without_openpyxl_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    (tmp_path / "prices.xlsx").write_bytes(b"PK")
    assert "pip install 'trading-floor[excel]', or save it as CSV" in refusal(str(tmp_path / "prices.xlsx"))


@pytest.fixture
def openpyxl():
    return pytest.importorskip("openpyxl", reason="the extra excel is not installed")


def book(path, sheets) -> str:
    with pd.ExcelWriter(path, engine="openpyxl") as writer:
        for name, (frame, row) in sheets.items():
            frame.to_excel(writer, sheet_name=name, index=False, startrow=row)
    return str(path)


@pytest.mark.parametrize("as_dates", [True, False], ids=["dates", "text"])
def test_workbook_is_the_market_of_the_same_table_in_text(tmp_path, openpyxl, as_dates):
    frame = ALL.assign(date=pd.to_datetime(ALL["date"])) if as_dates else ALL
    bars = load_bars(book(tmp_path / "prices.xlsx", {"Prices": (frame, 0)}))
    assert bars.fingerprint == load_bars(write(tmp_path, ALL)).fingerprint
    assert not any("sheet" in note for note in bars.notes)
    wide = ALL.pivot_table(index="date", columns="tic", values="close").reset_index()
    bars = load_bars(book(tmp_path / "wide.xlsx", {"Prices": (wide, 0)}))
    assert bars.fingerprint == load_bars(write(tmp_path, wide)).fingerprint


def test_title_and_other_sheets_are_passed_over_and_told(tmp_path, openpyxl):
    path = book(tmp_path / "prices.xlsx", {"Prices": (ALL, 2), "Notes": (ALL, 0)})
    made = openpyxl.load_workbook(path)
    made["Prices"]["A1"] = "Prices of two assets"
    made.save(path)
    bars = load_bars(path)
    assert bars.fingerprint == load_bars(write(tmp_path, ALL)).fingerprint
    assert "sheet 'Prices' read; sheets not used: Notes" in bars.notes
    assert "lines not used above the header: 1" in bars.notes


def test_faults_are_told_with_the_rows_of_the_sheet(tmp_path, openpyxl):
    frame = ALL.astype({"close": object})
    frame.loc[4, "close"], frame.loc[7, "low"] = "n/d", np.nan
    first, second = refusal(book(tmp_path / "prices.xlsx", {"Prices": (frame, 0)})).split("\n")
    assert "prices.xlsx: row 6, column 'close', asset AAA, 2020-01-08: 'n/d' is not a number" in first
    assert "prices.xlsx: row 9, column 'low', asset BBB, 2020-01-09: the price is missing" in second


@pytest.mark.parametrize("content", [b"", b"PK", bytes(range(256)) * 8], ids=["empty", "cut", "random"])
def test_damaged_workbook_is_refused(tmp_path, openpyxl, content):
    (tmp_path / "prices.xlsx").write_bytes(content)
    refusal(str(tmp_path / "prices.xlsx"))

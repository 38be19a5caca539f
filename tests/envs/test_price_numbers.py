"""Numbers of price files as people write them: the decimal sign is what the file shows, or what the user says."""

from __future__ import annotations

import numpy as np
import pytest
from price_samples import long_table, refusal

from envs.bars import build_bars, load_bars
from envs.settings import DataConfig

ONE = long_table(assets=("X",)).drop(columns="tic")


def put(tmp_path, rows, separator=";"):
    path = tmp_path / "X.csv"
    header = separator.join(["date", "open", "high", "low", "close", "volume"][: len(rows[0]) + 1])
    lines = [separator.join([f"2020-01-0{6 + i}", *row]) for i, row in enumerate(rows)]
    path.write_text("\n".join([header, *lines]), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("cells", "close"),
    [
        (("100,0", "100,65", "99,7", "100,35", "7160"), 100.35),
        (("1.234,5", "1.235", "1.230", "1.234", "7.160"), 1234.0),
        (("1,234.5", "1,235", "1,230", "1,234", "7,160"), 1234.0),
        (("1 234,5", "1 235,0", "1 230,0", "1 234,0", "7160"), 1234.0),
        (("1'234.5", "1'235.0", "1'230.0", "1'234.0", "7160"), 1234.0),
        (("1,234.5", "1,235.0", "1,230.0", "1,234.0", "10,07,160"), 1234.0),
        (("$1234.5", "$1235", "$1230", "$1,234", "7,160"), 1234.0),
        (("1234,5 €", "1235,0 €", "1230,0 €", "1234,0 €", "7160"), 1234.0),
        (("1,234", "1,235", "1,230", "1,234", "1,007,160"), 1234.0),
    ],
)
def test_decimal_sign_is_what_the_table_shows(tmp_path, cells, close):
    bars = load_bars(put(tmp_path, [cells] * 3))
    np.testing.assert_array_equal(bars.close, [[close]] * 3)
    np.testing.assert_array_equal(bars.volume, [[1007160.0 if len(cells[4]) > 5 else 7160.0]] * 3)
    assert bars.notes[0].startswith("numbers read with a decimal")


@pytest.mark.parametrize("name", ["t", "Zeitpunkt"])
def test_dates_with_points_are_no_numbers_with_a_decimal_comma_whatever_their_column_is_called(tmp_path, name):
    days = [f"{13 + i}.01.2020;100,0;101,0;99,0;100,5;7" for i in range(3)]
    (tmp_path / "X.csv").write_text("\n".join([f"{name};open;high;low;close;volume", *days]))
    bars = load_bars(tmp_path / "X.csv", columns=[f"date={name}"])
    assert str(bars.dates[0])[:10] == "2020-01-13"
    np.testing.assert_array_equal(bars.close, [[100.5]] * 3)


def test_plain_numbers_are_read_without_a_word(tmp_path):
    assert len(load_bars(put(tmp_path, [("100", "101.5", "99.125", "100.25", "7")] * 3)).notes) == 1


def test_thousands_that_could_be_decimals_are_refused_and_the_setting_decides(tmp_path):
    path = put(tmp_path, [("1,234", "1,235", "1,230", "1,234")] * 3)
    said = refusal(path)
    assert "line 2, column 'open': '1,234' could be a thousand, or have decimals: set --data.decimal . or ," in said
    assert build_bars(DataConfig(path=path, decimal=".")).close[0, 0] == 1234.0
    assert build_bars(DataConfig(path=path, decimal=",")).close[0, 0] == 1.234


def test_a_set_decimal_comma_counts_for_points_too(tmp_path):
    path = put(tmp_path, [("1.234", "1.235", "1.230", "1.234", "7")] * 3)
    assert load_bars(path).close[0, 0] == 1.234
    assert load_bars(path, decimal=",").close[0, 0] == 1234.0
    rows = [("100", "101", "99", "100", "7")] * 2
    said = refusal(put(tmp_path, [*rows, ("100", "101.5", "99", "100", "7")]), decimal=",")
    assert "line 4, column 'high': '101.5' is not a number with a decimal comma" in said


@pytest.mark.parametrize("cell", ["1,5", "1.2.3", "12,34,5", "100x", "7.16K"])
def test_price_that_is_no_number_among_others_is_refused(tmp_path, cell):
    rows = [("100.5", "101.5", "99.5", "100.5", "7")] * 2
    assert f"line 4, column 'high', asset X, 2020-01-08: {cell!r} is not a number" in refusal(
        put(tmp_path, [*rows, ("100.5", cell, "99.5", "100.5", "7")])
    )


def test_an_export_of_investing_com_is_read(tmp_path):
    path = tmp_path / "X.csv"
    rows = [
        "01/04/2021,100.35,100.0,100.65,99.7,7.16K,0.1%",
        "01/13/2021,1,1,1,1,1.5M,-0.1%",
        "01/14/2021,1,1,1,1,2B,0%",
    ]
    text = "\n".join(["Date,Price,Open,High,Low,Vol.,Change %", *rows])
    path.write_text("\n".join(",".join(f'"{cell}"' for cell in row.split(",")) for row in text.split("\n")))
    bars = load_bars(path, periods_per_year=252)
    np.testing.assert_allclose(bars.volume[:, 0], [7160.0, 1.5e6, 2e9])
    assert bars.close[0, 0] == 100.35
    assert any("K, M and B" in note for note in bars.notes)


@pytest.mark.parametrize("digits", ["٠١٢٣٤٥٦٧٨٩", "۰۱۲۳۴۵۶۷۸۹", "०१२३४५६७८९", "０１２３４５６７８９"])
@pytest.mark.parametrize("point", [".", "\u066b", "\uff0e"])
def test_digits_of_other_scripts_are_digits(tmp_path, digits, point):
    table = str.maketrans("0123456789.", digits + point)
    row = (*(cell.translate(table) for cell in ("100.01", "101.12", "99.76", "100.35")), "23106")
    bars = load_bars(put(tmp_path, [row] * 3))
    assert (bars.open[0, 0], bars.low[1, 0], bars.close[0, 0], bars.volume[0, 0]) == (100.01, 99.76, 100.35, 23106.0)


def test_thousands_with_dots_throughout_could_be_decimals_and_are_refused_alike(tmp_path):
    path = put(tmp_path, [("10.001", "10.112", "9.976", "10.035", "23.106")] * 3)
    message = refusal(path)
    assert "line 2, column 'volume': '23.106' could be a thousand, or have decimals: set --data.decimal" in message
    assert load_bars(path, decimal=",").volume[0, 0] == 23106.0
    assert load_bars(path, decimal=",").close[0, 0] == 10035.0
    assert load_bars(path, decimal=".").volume[0, 0] == 23.106


@pytest.mark.parametrize("volume", ["23106", "23.1", "0.106", "23106.000", "1200.500"])
def test_prices_with_three_decimals_are_no_thousands(tmp_path, volume):
    bars = load_bars(put(tmp_path, [("110.123", "110.250", "110.001", "110.200", volume)] * 3))
    assert (bars.close[0, 0], bars.volume[0, 0]) == (110.2, float(volume))
    closes = load_bars(put(tmp_path, [("110.123", "110.250", "110.001", "110.200")] * 3))
    assert closes.close[0, 0] == 110.2


def test_volumes_with_three_decimals_beside_whole_prices_are_read_and_told(tmp_path):
    bars = load_bars(put(tmp_path, [("100", "101", "100", "100", "23.106")] * 3))
    assert bars.volume[0, 0] == 23.106
    assert "numbers read with a decimal point; data.decimal sets it" in bars.notes

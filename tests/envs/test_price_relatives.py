import pickle
import re

import numpy as np
import pytest
from price_samples import long_table, refusal
from real_prices import real_prices

from envs.bars import load_bars

RELATIVES = np.random.default_rng(0).uniform(0.9, 1.1, size=(30, 3))
DAYS = np.datetime64("2020-01-06") + np.arange(31) // 5 * 7 + np.arange(31) % 5


def saved(folder, **arrays):
    np.savez_compressed(folder / "relatives.npz", **arrays)
    return folder / "relatives.npz"


def test_relatives_become_closes_from_one_on_made_days_with_made_names(tmp_path):
    bars = load_bars(saved(tmp_path, x=RELATIVES))
    np.testing.assert_allclose(bars.close[1:] / bars.close[:-1], RELATIVES, rtol=1e-15)
    np.testing.assert_array_equal(bars.close[0], np.ones(3))
    assert bars.assets == ("asset_1", "asset_2", "asset_3")
    assert (bars.frequency, bars.has_only_closes, bars.volume) == ("1d", True, None)
    assert any("called asset_1 to asset_3" in note for note in bars.notes)
    assert any("business days are made" in note for note in bars.notes)


def test_centuries_of_made_days_are_read_and_no_more(tmp_path):
    assert load_bars(saved(tmp_path, x=np.ones((30_000, 1)))).num_bars == 30_001
    assert "dates must lie from 1900" in refusal(str(saved(tmp_path, x=np.ones((40_000, 1)))))


@pytest.mark.parametrize("as_text", [False, True])
def test_names_and_dates_are_those_of_the_file(tmp_path, as_text):
    days = DAYS.astype(str) if as_text else DAYS
    bars = load_bars(saved(tmp_path, dates=days, relatives=RELATIVES, tickers=np.array(["IBM", "KO", "open"])))
    assert bars.assets == ("IBM", "KO", "open")
    assert (bars.dates.astype("datetime64[D]") == DAYS).all()
    assert not any("made" in note for note in bars.notes)
    chosen = load_bars(tmp_path / "relatives.npz", assets=("KO",))
    np.testing.assert_array_equal(chosen.close[:, 0], bars.close[:, 1])


def test_as_many_dates_as_relatives_are_those_of_the_closes_that_they_led_to(tmp_path):
    bars = load_bars(saved(tmp_path, dates=DAYS[1:], x=RELATIVES))
    assert bars.num_bars == 30
    np.testing.assert_array_equal(bars.close[0], RELATIVES[0])
    np.testing.assert_allclose(bars.close[1:] / bars.close[:-1], RELATIVES[1:], rtol=1e-15)


def test_arrays_that_are_not_used_are_told(tmp_path):
    bars = load_bars(saved(tmp_path, data=RELATIVES, seed=np.array(3), close=np.ones(3), dates=DAYS, time=DAYS))
    assert "arrays not used: close, seed, time" in bars.notes


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": RELATIVES * 100}, "array 'x', asset 0 .* has a median of .*: relatives are .* write prices into a .csv"),
        ({"x": RELATIVES - 1}, "of returns, give 1 . the return"),
        ({"x": np.where(RELATIVES < 0.905, np.nan, RELATIVES)}, r"bar \d+, asset \d .* is nan"),
        ({"x": RELATIVES, "y": RELATIVES}, r"needs one array .* but there is x \(30, 3\), y \(30, 3\)"),
        ({"x": RELATIVES[:, 0]}, r"needs one array .* but there is x \(30,\)"),
        ({"x": np.ones((5, 2), dtype=int)}, "10 values of type int64: relatives are float64"),
        ({"x": np.ones((0, 2))}, "0 values of type float64"),
        ({"x": RELATIVES, "assets": np.array(["A", "B"])}, r"needs 3 assets, but there are \(2,\)"),
        ({"x": RELATIVES, "dates": DAYS[:9]}, r"needs 30 or 31 dates, but there are \(9,\)"),
        ({"x": RELATIVES, "assets": np.array(["A", "B", "B"])}, "column 'b' stands twice"),
        ({"x": RELATIVES, "dates": DAYS[::-1]}, "dates that go back in time"),
        ({"x": RELATIVES, "dates": np.append(DAYS[:30], DAYS[29])}, "or stand twice: sort them and the relatives"),
        ({"x": RELATIVES, "dates": np.arange(30)}, "dates such as .*0.*: write datetime64, or text such as 2020-01-31"),
        ({"x": RELATIVES, "dates": np.full(30, "31/01/2020")}, "dates such as .*31/01/2020"),
        ({}, "needs one array .* but there is none"),
    ],
)
def test_what_are_no_relatives_is_one_line(tmp_path, arrays, message):
    said = refusal(str(saved(tmp_path, **arrays)))
    assert re.search(message, said), said


def test_objects_are_not_unpickled(tmp_path):
    class Harm:
        def __reduce__(self):
            return (tmp_path.joinpath("harmed").write_text, ("yes",))

    harm = np.empty((2, 2), dtype=object)
    harm[:] = Harm()
    path = saved(tmp_path, x=harm)
    assert "holds Python objects, which are not read" in refusal(str(path))
    path.write_bytes(pickle.dumps(Harm()))
    assert "is no archive of arrays" in refusal(str(path))
    assert not (tmp_path / "harmed").exists()
    harm.dumps()  # the harm is real: what reads it, writes
    pickle.loads(pickle.dumps(Harm()))
    assert (tmp_path / "harmed").exists()


@pytest.mark.parametrize("content", [b"no archive", b"PK\x03\x04 and no more"])
def test_damaged_archive_is_one_line(tmp_path, content):
    (tmp_path / "x.npz").write_bytes(content)
    message = refusal(str(tmp_path / "x.npz"))
    assert re.search(r"x\.npz (cannot be read as an npz table|is no archive of arrays: write it by numpy)", message)
    assert "pickle" not in message


def test_plain_array_under_the_name_of_an_archive_is_refused(tmp_path):
    with (tmp_path / "x.npz").open("wb") as file:
        np.save(file, RELATIVES)
    assert "is no archive of arrays: write it by numpy.savez" in refusal(str(tmp_path / "x.npz"))


@pytest.mark.parametrize(("name", "shape"), [("olps_nyse_o.npz", (5652, 36)), ("olps_msci.npz", (1044, 24))])
def test_published_relatives_load_whole(name, shape):
    bars = load_bars(real_prices(name))
    assert bars.close.shape == shape
    if "nyse" in name:
        assert bars.close[-1].max() == pytest.approx(54.14, abs=5e-3)  # best stock
        assert bars.close[-1].mean() == pytest.approx(14.50, abs=5e-3)  # buy and hold


def test_relatives_in_a_folder_of_prices_are_not_joined_with_them(tmp_path):
    saved(tmp_path, x=RELATIVES)
    long_table(assets=("X",)).to_csv(tmp_path / "x.csv", index=False)
    bars = load_bars(tmp_path)
    assert bars.assets == ("X",)
    assert any(note.endswith("relatives.npz") for note in bars.notes)

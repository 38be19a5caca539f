from pathlib import Path

from common.paths import home_path
from common.store import absolute


def test_a_tilde_is_a_home_where_there_is_one(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert home_path("~/runs") == home_path(Path("~/runs")) == tmp_path / "runs"
    assert home_path("~nobody-of-this-name/runs") == Path("~nobody-of-this-name/runs")
    assert absolute(("~0", "~/p.csv", "s3://b/~")) == (str(tmp_path / "~0"), str(tmp_path / "p.csv"), "s3://b/~")

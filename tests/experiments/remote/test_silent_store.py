import time
from types import SimpleNamespace

import pytest

from common import store
from common.store import Store
from experiments.command_line import exit_code
from experiments.remote.addresses import check_storage


@pytest.fixture
def silent(monkeypatch, tmp_path):
    """A store that never answers, as gs:// without a network does."""
    from pyarrow import fs

    monkeypatch.setattr(store, "_SAID_S", 0.1)
    monkeypatch.setattr(store, "_FIRST_S", 0.4)
    monkeypatch.setattr(fs, "FileSystem", SimpleNamespace(from_uri=lambda address: (Silent(), "bucket")))
    return "gs://bucket/results"


class Silent:
    type_name = "gcs"

    def __getattr__(self, name):
        return lambda *args, **kwargs: time.sleep(3)


def test_store_that_never_answers_is_told_and_given_up(silent, capsys):
    start = time.monotonic()
    with pytest.raises(OSError, match="no answer within 0 seconds"):
        Store(silent).size("config.json")
    assert time.monotonic() - start < 2
    assert capsys.readouterr().out == f"{silent} does not answer yet: trying for 0 seconds\n"


def test_storage_that_never_answers_is_bad_input(silent, capsys):
    assert exit_code(lambda words: check_storage(silent), []) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith(f"error: --storage {silent} cannot be written to: no answer within")

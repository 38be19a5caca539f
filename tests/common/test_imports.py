import gc
import sys

import pytest

from common.imports import quick_imports


@pytest.fixture(autouse=True)
def _collector():
    """The garbage collector as it was."""
    was_on = gc.isenabled()
    gc.unfreeze()
    yield
    gc.unfreeze()
    (gc.enable if was_on else gc.disable)()


@pytest.fixture
def unknown(tmp_path, monkeypatch):
    """The name of a module that has not been imported."""
    (tmp_path / "not_known_before.py").write_text("made = [[] for _ in range(1_000)]")
    monkeypatch.syspath_prepend(tmp_path)
    yield "not_known_before"
    sys.modules.pop("not_known_before", None)


@pytest.mark.parametrize("is_on", [True, False])
def test_garbage_collector_rests_in_the_block_and_is_as_before_after_it(unknown, is_on):
    (gc.enable if is_on else gc.disable)()
    with quick_imports():
        assert not gc.isenabled()
        __import__(unknown)
    assert gc.isenabled() == is_on
    assert gc.get_freeze_count() >= 1_000, "what was made is passed over from now on"


def test_nothing_is_passed_over_where_all_had_been_imported():
    with quick_imports():
        import json  # noqa: F401
    assert gc.get_freeze_count() == 0


def test_garbage_collector_is_as_before_where_an_import_fails():
    with pytest.raises(ImportError), quick_imports():
        raise ImportError
    assert gc.isenabled()

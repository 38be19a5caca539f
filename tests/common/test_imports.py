import gc

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


@pytest.mark.parametrize("is_on", [True, False])
def test_garbage_collector_rests_in_the_block_and_is_as_before_after_it(is_on):
    (gc.enable if is_on else gc.disable)()
    with quick_imports():
        assert not gc.isenabled()
        made = [[] for _ in range(1_000)]
    assert gc.isenabled() == is_on
    assert gc.get_freeze_count() >= len(made), "what was made is passed over from now on"


def test_what_is_passed_over_is_chosen_once():
    with quick_imports():
        pass
    gc.collect()
    frozen, later = gc.get_freeze_count(), [[] for _ in range(1_000)]
    with quick_imports():
        later += [[] for _ in range(1_000)]
    assert gc.get_freeze_count() <= frozen


def test_garbage_collector_is_as_before_where_an_import_fails():
    with pytest.raises(ImportError), quick_imports():
        raise ImportError
    assert gc.isenabled()

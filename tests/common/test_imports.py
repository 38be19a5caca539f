import gc

import pytest

from common.imports import quick_imports


@pytest.mark.parametrize("is_on", [True, False])
def test_garbage_collector_rests_in_the_block_and_is_as_before_after_it(is_on):
    was_on, frozen = gc.isenabled(), gc.get_freeze_count()
    try:
        (gc.enable if is_on else gc.disable)()
        with quick_imports():
            assert not gc.isenabled()
            made = [[] for _ in range(1_000)]
        assert gc.isenabled() == is_on
        assert gc.get_freeze_count() >= frozen + len(made), "what was made is passed over from now on"
    finally:
        gc.unfreeze()
        (gc.enable if was_on else gc.disable)()


def test_garbage_collector_is_as_before_where_an_import_fails():
    with pytest.raises(ImportError), quick_imports():
        raise ImportError
    assert gc.isenabled()
    gc.unfreeze()

import numpy as np
import pytest

from common.arrays import as_count, as_numbers


@pytest.mark.parametrize("value", [1, 2.5, True, [1, 2], np.zeros((2, 0)), [[True], [False]]])
def test_numbers_and_truth_values_are_arrays(value):
    assert np.array_equal(as_numbers(value), np.asarray(value))


@pytest.mark.parametrize("value", [None, "1", [1, [2]], {"a": 1}, [None], 1j, 10**400, np.datetime64("2020-01-01")])
def test_all_else_is_none(value):
    assert as_numbers(value) is None


def test_whole_numbers_of_things_are_counts():
    assert [as_count(value, most=9) for value in (0, 9)] == [0, 9]


@pytest.mark.parametrize("value", [None, True, 1.0, "1", -1, 10, np.int64(1)])
def test_what_counts_nothing_is_refused(value):
    with pytest.raises(ValueError, match="counts nothing"):
        as_count(value, most=9)

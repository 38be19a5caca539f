import numpy as np
import pytest

from common.arrays import as_numbers


@pytest.mark.parametrize("value", [1, 2.5, True, [1, 2], np.zeros((2, 0)), [[True], [False]]])
def test_numbers_and_truth_values_are_arrays(value):
    assert np.array_equal(as_numbers(value), np.asarray(value))


@pytest.mark.parametrize("value", [None, "1", [1, [2]], {"a": 1}, [None], 1j, 10**400, np.datetime64("2020-01-01")])
def test_all_else_is_none(value):
    assert as_numbers(value) is None

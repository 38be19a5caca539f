import math

import numpy as np
import pytest
from scipy import stats

from common.intervals import interval, percentile_interval


def test_interval_is_students():
    values = [0.1, 0.5, 0.2, 0.9, 0.4]
    found = interval(values)
    wanted = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    assert (found.mean, found.low, found.high) == pytest.approx((np.mean(values), *wanted))
    assert math.isnan(interval([1.0]).low)


def test_percentiles_are_the_middle_of_the_resamples():
    found = percentile_interval(0.3, np.arange(1001) / 1000)
    assert (found.mean, found.low, found.high) == pytest.approx((0.3, 0.025, 0.975))

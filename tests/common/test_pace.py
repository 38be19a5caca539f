from __future__ import annotations

import pytest

from common import pace
from common.pace import Pace


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    return now


def test_pace_is_told_every_so_often_with_the_time_that_is_left(clock):
    own = Pace("backtest of cash", 200_000)
    told = []
    for done in range(1, 31):
        clock[0] += 1
        told.append(own.words(done * 1_000))
    assert [i + 1 for i, words in enumerate(told) if words] == [10, 20, 30]
    assert told[9] == "backtest of cash: 10,000 of 200,000 bars, about 3 min left"
    assert own.left_s(30_000) == pytest.approx(170.0)


@pytest.mark.parametrize(("left_s", "words"), [(89, "89 s"), (600, "10 min"), (9000, "2.5 h")])
def test_time_is_told_in_the_unit_of_its_size(clock, left_s, words):
    own = Pace("x", 2)
    clock[0] += left_s
    assert own.words(1).endswith(f"about {words} left")


def test_a_pass_that_ends_soon_is_not_spoken_of(clock):
    own = Pace("x", 100)
    assert not any(own.words(done) for done in range(1, 101))

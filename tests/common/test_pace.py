from __future__ import annotations

import pytest

from common import pace
from common.pace import Pace


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    return now


def test_pace_is_foretold_and_then_told_every_so_often_with_the_time_that_is_left(clock):
    own = Pace("backtest of cash", 200_000)
    told = []
    for done in range(1, 31):
        clock[0] += 1
        told.append(own.words(done * 1_000))
    assert [i + 1 for i, words in enumerate(told) if words] == [2, 12, 22]
    assert told[1] == "backtest of cash: 200,000 bars, about 3 min"
    assert told[11] == "backtest of cash: 12,000 of 200,000 bars, about 3 min left"
    assert own.left_s(30_000) == pytest.approx(170.0)


def test_a_pass_that_slows_down_is_told_though_it_was_not_foretold(clock):
    own = Pace("evaluation", 32, "episodes")
    assert own.left_s(0) == float("inf")
    for done, now in ((16, 2), (17, 9), (18, 11)):
        clock[0] = 100.0 + now
        words = own.words(done)
    assert words == "evaluation: 18 of 32 episodes, about 9 s left"


@pytest.mark.parametrize(("left_s", "words"), [(89, "89 s"), (600, "10 min"), (9000, "2.5 h")])
def test_time_is_told_in_the_unit_of_its_size(clock, left_s, words):
    own = Pace("x", 2)
    clock[0] += left_s
    assert own.words(1).endswith(f"about {words}")


def test_a_pass_that_ends_soon_is_not_spoken_of(clock):
    own = Pace("x", 100)
    assert not any(own.words(done) for done in range(1, 101))

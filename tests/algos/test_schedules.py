import pytest
from ray.rllib.utils.schedules.scheduler import Scheduler

from algos.dqn.config import DQNSettings
from algos.mappo.config import MAPPOSettings
from algos.qmix.config import QMIXSettings
from algos.schedules import entropy_coeff_at, epsilon_at


@pytest.mark.parametrize("cls", [QMIXSettings, DQNSettings])
def test_epsilon_falls_in_a_straight_line_and_stays(cls):
    settings = cls(epsilon_start=0.8, epsilon_end=0.2, epsilon_decay_steps=100)
    assert [epsilon_at(settings, t) for t in (0, 50, 100, 10_000)] == pytest.approx([0.8, 0.5, 0.2, 0.2])


def test_epsilon_that_is_shown_is_the_one_that_dqn_acts_by():
    s = DQNSettings(epsilon_start=0.9, epsilon_end=0.1, epsilon_decay_steps=77)
    theirs = Scheduler(fixed_value_or_schedule=[(0, s.epsilon_start), (s.epsilon_decay_steps, s.epsilon_end)])
    for t in (0, 1, 30, 76, 77, 500):
        assert epsilon_at(s, t) == pytest.approx(theirs.update(t), abs=1e-6)


def test_entropy_bonus_falls_to_nothing_or_stays():
    falling = MAPPOSettings(entropy_coeff=0.02, entropy_decay_steps=100)
    assert [entropy_coeff_at(falling, t) for t in (0, 25, 100, 10_000)] == pytest.approx([0.02, 0.015, 0.0, 0.0])
    assert entropy_coeff_at(MAPPOSettings(entropy_coeff=0.02), 10_000) == 0.02

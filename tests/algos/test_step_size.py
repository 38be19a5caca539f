import pytest
import torch
from ray.rllib.utils.schedules.scheduler import Scheduler

from algos.ray_internals import use_scheduled_lr
from algos.step_size import StepSizeSettings, step_size_schedule


class Learner:
    """The part of RLlib's learner that holds schedules."""

    def __init__(self, schedules):
        weight = torch.nn.Parameter(torch.zeros(1))
        self._optimizer_lr_schedules = {torch.optim.Adam([weight]): Scheduler(s) for s in schedules}

    def _set_optimizer_lr(self, optimizer, lr):
        optimizer.param_groups[0]["lr"] = lr

    def rates_at(self, timestep):
        use_scheduled_lr(self, timestep)
        return [optimizer.param_groups[0]["lr"] for optimizer in self._optimizer_lr_schedules]


def test_step_sizes_fall_in_a_straight_line_to_a_hundredth_and_stay_there():
    settings = StepSizeSettings(lr_decay_steps=1_000)
    learner = Learner([step_size_schedule(lr, settings) for lr in (0.1, 0.02)])
    assert learner.rates_at(0) == pytest.approx([0.1, 0.02])
    assert learner.rates_at(500) == pytest.approx([0.0505, 0.0101])
    assert learner.rates_at(1_000) == pytest.approx([0.001, 0.0002])
    assert learner.rates_at(9_999) == pytest.approx([0.001, 0.0002])


def test_a_step_size_stays_where_nothing_is_said():
    assert step_size_schedule(0.1, StepSizeSettings()) == 0.1

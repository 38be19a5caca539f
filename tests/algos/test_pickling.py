import pickle

import numpy as np
import pytest
import torch
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger

from algos.pickling import metrics_state, to_pickle


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.bool, torch.uint8, torch.bfloat16])
def test_tensors_come_back_as_they_were(dtype):
    values = torch.arange(24).reshape(2, 3, 4).to(dtype)
    taken = {"whole": values, "turned": values.transpose(0, 2), "one": values[1, 2, 3], "none": values[:0]}
    found = pickle.loads(to_pickle(taken))
    for name, value in taken.items():
        assert found[name].dtype == dtype
        assert torch.equal(found[name], value)
    found["whole"].zero_()  # it can be changed, and is nobody else's
    assert values.any()


def test_conjugate_views_come_back():
    values = torch.complex(torch.arange(3.0), torch.ones(3)).conj()
    assert torch.equal(pickle.loads(to_pickle(values)), values)


def test_what_learns_goes_on_learning():
    weight = torch.nn.Parameter(torch.ones(2))
    found = pickle.loads(to_pickle([weight, torch.ones(2, requires_grad=True)]))
    assert isinstance(found[0], torch.nn.Parameter)
    assert found[1].requires_grad


def test_other_objects_are_pickled_as_ray_does():
    found = pickle.loads(to_pickle({"call": lambda x: x + 1, "array": np.arange(3)}))
    assert found["call"](1) == 2
    assert found["array"].tolist() == [0, 1, 2]


def test_metrics_are_what_rllib_says():
    logger = MetricsLogger(root=True)
    assert metrics_state(logger) == logger.get_state()
    for i in range(5):
        logger.log_value(("learners", "team", "loss"), 0.5 * i, window=3)
        logger.log_value("steps", 16, reduce="lifetime_sum")
        logger.log_value(("learners", "all"), i, reduce="sum")
    assert list(metrics_state(logger)["stats"]) == list(logger.get_state()["stats"])
    other = MetricsLogger(root=True)
    other.set_state(metrics_state(logger))
    assert other.peek(("learners", "team", "loss")) == logger.peek(("learners", "team", "loss")) == pytest.approx(1.5)
    assert other.peek("steps") == 80

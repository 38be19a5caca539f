import pytest
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger

from algos.quick_states import metrics_state


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

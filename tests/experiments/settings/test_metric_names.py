import pytest

from common.errors import InputError
from experiments.runs.run import find_run
from experiments.settings.metric_names import FLAT_METRICS, check_metric_name, read_metric, unknown_metric

RESULTS = {
    "sharpe": 1.5,
    "done": True,
    "env_runners": {"episode_return_mean": 2, "name": "x", "floor": {"profit": 0.1}},
}


def test_metrics_are_found_by_their_path():
    assert read_metric(RESULTS, "sharpe") == 1.5
    assert read_metric(RESULTS, "env_runners/episode_return_mean") == 2.0
    assert read_metric(RESULTS, "env_runners/floor/profit") == 0.1
    for name in ("done", "env_runners", "env_runners/name", "profit"):
        assert read_metric(RESULTS, name) is None


def test_error_lists_the_names_that_are_nearest():
    assert "3 metrics of a result: the nearest are env_runners/episode_return_mean" in str(
        unknown_metric(RESULTS, "env_runners/episode_reward_mean")
    )
    assert "the nearest are env_runners/floor/profit" in str(unknown_metric(RESULTS, "learners/profit"))
    assert str(unknown_metric(RESULTS, "timers/zzz")).endswith("of a result")


def test_names_that_no_result_will_have_are_refused_before_the_start():
    for name in (*FLAT_METRICS, "env_runners/anything", "learners/team/total_loss"):
        check_metric_name(name)
    for name, words in {
        "sharp": r"did you mean 'sharpe'",
        "zzz": r"choose one of profit, sharpe",
        "env_runner/x": r"did you mean 'env_runners'",
    }.items():
        with pytest.raises(InputError, match=words):
            find_run(["--checkpoint-metric", name])

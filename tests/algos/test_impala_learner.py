"""What the learners of IMPALA and APPO do in processes of their own; in the main process, see test_checkpointing."""

import threading
from types import SimpleNamespace

import pytest
from ray.rllib.algorithms.impala.impala_learner import IMPALALearner
from ray.rllib.core.learner.learner import Learner

from algos.impala.learner import WholeAPPOLearner, WholeIMPALALearner, _update_in_thread


@pytest.fixture(params=[WholeIMPALALearner, WholeAPPOLearner])
def learner(request):
    """A learner in a process of its own, before it is built."""
    made = request.param.__new__(request.param)
    made.config = SimpleNamespace(num_learners=1)
    made._model_io_lock, made._agg_event = threading.RLock(), threading.Event()
    made.curr_kl_coeffs_per_module = made._last_update_ts_by_mid = {}
    return made


def test_failed_update_is_raised_where_its_result_is_waited_for(learner, monkeypatch):
    def fail(self, **kwargs):
        raise ValueError("a bad batch")

    def waits(self, *args, **kwargs):
        assert self._agg_event.wait(5), "the thread that waits is woken"
        return {}

    monkeypatch.setattr(Learner, "update", fail)
    monkeypatch.setattr(IMPALALearner, "update", waits)
    with pytest.raises(ValueError, match="a bad batch"):
        _update_in_thread(self=learner, training_data=None)
    with pytest.raises(RuntimeError, match="an update has failed: a bad batch"):
        learner.update(None, timesteps={})


def test_state_is_read_between_two_updates(learner, monkeypatch):
    weights, under_way, go_on = {"w": [0, 0]}, threading.Event(), threading.Event()

    def update(self, **kwargs):
        weights["w"][0] = 1
        under_way.set()
        go_on.wait(5)
        weights["w"][1] = 1

    monkeypatch.setattr(Learner, "update", update)
    monkeypatch.setattr(Learner, "get_state", lambda self, *args, **kwargs: dict(weights))
    thread = threading.Thread(target=_update_in_thread, kwargs={"self": learner})
    thread.start()
    assert under_way.wait(5)
    threading.Timer(0.2, go_on.set).start()
    state = learner.get_state()
    thread.join()
    weights["w"][0] = 2
    assert state["w"] == [1, 1], "whole, and a copy"

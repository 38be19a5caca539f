"""What RLlib leaves out of a learner's state is in it, wherever the learner runs."""

import pytest
import torch
from ray.rllib.core.learner.learner import Learner

from algos.learner_state import WholeSACLearner, WholeTQCLearner


@pytest.mark.parametrize("cls", [WholeSACLearner, WholeTQCLearner])
def test_temperature_is_in_the_state_of_a_learner_and_comes_back_in_place(cls, monkeypatch):
    def learner(temperature):
        made = cls.__new__(cls)  # before it is built: no network matters here
        made.curr_log_alpha = {"team": torch.nn.Parameter(torch.tensor([temperature]))}
        made.last_update_ts_by_mid = {"team": int(100 * temperature)}
        return made

    def get_state(self, components=None, **kwargs):
        return {"of": "RLlib"}

    monkeypatch.setattr(Learner, "get_state", get_state)
    monkeypatch.setattr(Learner, "set_state", lambda self, state: None)
    saved, other = learner(0.25), learner(0.5)
    state, kept = saved.get_state(), other.curr_log_alpha["team"]
    assert state["of"] == "RLlib"
    other.set_state(state)
    assert other.curr_log_alpha["team"] is kept, "its optimizer goes on with it"
    assert kept.item() == 0.25
    assert other.last_update_ts_by_mid == {"team": 25}

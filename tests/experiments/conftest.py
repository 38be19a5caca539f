import pytest
from clocked import Clocked
from ray.rllib.algorithms.algorithm import Algorithm
from runs import config_of

from experiments.tuning import trainables


@pytest.fixture
def clocked(monkeypatch):
    def step(self):
        self.ended += 4
        return {}

    monkeypatch.setattr(Algorithm, "step", step)
    monkeypatch.setattr(trainables, "flat_weights", lambda algorithm: {})

    def steps(scores, **settings):
        trainable, results = Clocked(config_of("qmix", **settings), scores), []
        while not results or not results[-1]["done"]:
            results.append(trainable.step())
        return results

    return steps

"""What Tune trains: a stand-in for each algorithm, which makes it in the process that trains.

So the process that Tune runs in need not import torch and RLlib. What a new run is refused for is told by its first
result.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import ray

from common.errors import IncompatibleError, InputError
from common.imports import quick_imports
from common.store import is_remote
from experiments.settings.metric_names import REFUSED
from experiments.settings.run_config import RunConfig
from experiments.tuning.ray_internals import HEAD_NODE
from experiments.tuning.trainable_names import declared_as, is_to_check, is_trainable, name_of, run_of

with quick_imports():
    from ray import tune


class StandIn(tune.Trainable):
    """Hands all that Tune asks for to the algorithm of its name.

    Args:
        config: ``run``: the run's settings, as JSON; ``scaler``; ``overrides``: what a search draws, by dotted name;
            ``is_to_check``: whether the command has left it to this process to refuse settings that do not go together.
        kwargs: Tune's.
    """

    def __init__(self, config: Any = None, **kwargs: Any) -> None:
        self._refusal: Exception | None = None
        try:
            self._algorithm = self.make(config, **kwargs)
        except (InputError, IncompatibleError) as error:
            if not is_to_check(config, kwargs.get("storage")):
                raise
            self._refusal = error

    @classmethod
    def make(cls, config: Any, **kwargs: Any) -> Any:
        """Make the algorithm."""
        with quick_imports():
            from experiments.tuning.run_trainable import algorithm_class

            return algorithm_class(run_of(config))(config, **kwargs)  # RLlib's seeding imports torch's compiler

    @classmethod
    def default_resource_request(cls, config: Any) -> Any:
        """Resources of a run: one bundle where it is one process, and else as RLlib has it."""
        run = run_of(config)
        scaling = run.scaling
        if scaling.num_env_runners or scaling.num_learners:
            from experiments.tuning.run_trainable import algorithm_class

            request = algorithm_class(run).default_resource_request(config)
        else:
            request = tune.PlacementGroupFactory([{"CPU": 1, "GPU": scaling.num_gpus_per_learner or 0}])
        if is_remote(run.storage) and HEAD_NODE in ray.cluster_resources():  # it works in a folder of that machine
            first, *others = request.bundles
            pinned = {name: amount for name, amount in first.items() if name != "CPU"} | {HEAD_NODE: 0.001}
            request = tune.PlacementGroupFactory([pinned, *others], strategy=request.strategy)
        return request

    def train(self) -> dict[str, Any]:
        """Train one iteration, or say why none will be."""
        if self._refusal is not None:
            return {REFUSED: str(self._refusal), "training_iteration": 0, "time_total_s": 0.0, "done": True}
        result: dict[str, Any] = self._algorithm.train()
        return result

    def save(self, checkpoint_dir: str | None = None) -> Any:
        """Take a checkpoint."""
        return self._algorithm.save(checkpoint_dir)

    def restore(self, checkpoint_path: Any) -> None:
        """Go on from a checkpoint."""
        self._algorithm.restore(checkpoint_path)

    def stop(self) -> None:
        """End the algorithm."""
        if self._refusal is None:
            self._algorithm.stop()

    def get_current_ip_pid(self) -> tuple[str, int]:
        """Address and number of this process."""
        return ray.util.get_node_ip_address(), os.getpid()

    def get_auto_filled_metrics(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """What Tune knows of a trial before its first result."""
        return {} if self._refusal is not None else self._algorithm.get_auto_filled_metrics(*args, **kwargs)


def trainable_class(run: RunConfig) -> type[StandIn]:
    """What Tune trains of a run."""
    return _stand_in(name_of(run.algo, run.runner))


def __getattr__(name: str) -> Any:
    """Give a stand-in by its name, by which Ray's workers and ``Tuner.restore`` find it."""
    if is_trainable(name):
        return _stand_in(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def _stand_in(name: str) -> type[StandIn]:
    """Make a stand-in, once."""
    declared, _ = declared_as(name)
    return type(name, (StandIn,), {"__module__": __name__, "__doc__": f"{declared.name} on the trading floor."})

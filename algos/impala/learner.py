"""RLlib's IMPALA and APPO learners, with nothing in flight when their state is read."""

import copy
from typing import Any

import ray
from ray.rllib.algorithms.appo.torch.appo_torch_learner import APPOTorchLearner
from ray.rllib.algorithms.impala.impala_learner import IMPALALearner
from ray.rllib.algorithms.impala.torch.impala_torch_learner import IMPALATorchLearner
from ray.rllib.core import COMPONENT_RL_MODULE
from ray.rllib.core.learner.learner import Learner
from ray.rllib.core.learner.training_data import TrainingData

from algos.learner_state import WholeState

STATE_AFTER_UPDATE = "_rl_module_state_after_update"
"""Where RLlib's IMPALA looks in an update's result for the weights that it sends to runners."""


class SettledUpdates(IMPALALearner):
    """A mixin before an IMPALA learner, whose updates RLlib hands to a thread that works on while others go on.

    A learner in the main process does without that thread: what it was given is learned when ``update`` returns, so
    that a run in one process can be continued bit by bit. A learner in a process of its own keeps the thread; its state
    is then read between two updates, and an error in the thread is raised instead of waited for without end.
    """

    _failure: BaseException | None = None

    def build(self) -> None:
        """RLlib's, with a thread that can be held and that tells of its end."""
        super().build()
        self._learner_thread._update_method = _update_in_thread

    def update(
        self, training_data: TrainingData, *, timesteps: dict[str, Any], return_state: bool = False, **kwargs: Any
    ) -> dict[str, Any]:
        """Learn from one batch, as often as batches are to be learned from.

        Args:
            training_data: References to episodes.
            timesteps: Lifetime counters, for schedules and target updates.
            return_state: Whether the result also holds the weights.
            kwargs: RLlib's: epochs and minibatches.

        Returns:
            RLlib's result of the newest update that has ended.

        Raises:
            RuntimeError: if the thread of a learner in a process of its own has died.
        """
        if self.config.num_learners:
            result: dict[str, Any] = super().update(
                training_data, timesteps=timesteps, return_state=return_state, **kwargs
            )
            if self._failure is not None:
                raise RuntimeError(f"an update has failed: {self._failure}") from self._failure
            return result
        training_data.solve_refs()
        batch = self._make_batch_if_necessary(training_data=training_data)
        for _ in range(getattr(self.config, "circular_buffer_iterations_per_batch", 1)):
            Learner.update(
                self,
                training_data=TrainingData(batch=batch),
                timesteps=timesteps,
                _no_metrics_reduce=True,  # once, below
                **kwargs,
            )
        result = self.metrics.reduce()
        if return_state:
            state = self.get_state(components=COMPONENT_RL_MODULE, inference_only=True)
            result[STATE_AFTER_UPDATE] = state | {COMPONENT_RL_MODULE: ray.put(state[COMPONENT_RL_MODULE])}
        return result

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """RLlib's state, between two updates: a copy, for the thread goes on before it has been sent."""
        if not self.config.num_learners:
            own: dict[str, Any] = super().get_state(*args, **kwargs)
            return own
        with self._model_io_lock:
            return copy.deepcopy(super().get_state(*args, **kwargs))


def _update_in_thread(self: SettledUpdates, **kwargs: Any) -> None:
    """What the thread of a learner calls for each batch, by these names."""
    try:
        with self._model_io_lock:
            Learner.update(self, **kwargs)
    except BaseException as error:
        self._failure = error
        self._agg_event.set()  # on which the learner waits
        raise


class WholeIMPALALearner(SettledUpdates, WholeState, IMPALATorchLearner):
    """RLlib's IMPALA learner, with nothing in flight."""


class WholeAPPOLearner(SettledUpdates, WholeState, APPOTorchLearner):
    """RLlib's APPO learner, with nothing in flight, and the KL coefficients and target update marks in its state."""

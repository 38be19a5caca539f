"""TeamLearner: how every learner of ours takes rollouts and batches as arrays."""

from typing import Any

from ray.rllib.core.learner.learner import Learner
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.utils.metrics import (
    ALL_MODULES,
    NUM_ENV_STEPS_TRAINED,
    NUM_ENV_STEPS_TRAINED_LIFETIME,
    NUM_MODULE_STEPS_TRAINED,
    NUM_MODULE_STEPS_TRAINED_LIFETIME,
)
from torch import Tensor

from algos.errors import IncompatibleError


class NonFiniteLossError(FloatingPointError):
    """A loss became NaN or infinite; the trial stops and its last good checkpoint is kept."""


class TeamLearner(Learner):
    """A mixin before a TorchLearner: ``update`` hands the arrays to ``learn`` and keeps RLlib's frame around it."""

    def update(self, *, training_data: TrainingData, timesteps: dict[str, Any] | None = None, **kwargs: Any) -> Any:
        """Run ``learn`` on the given arrays between RLlib's before and after hooks.

        Args:
            training_data: Carries our arrays as its ``batch``.
            timesteps: Counters for schedules.
            kwargs: Passed to ``learn``; RLlib's own switches are dropped.

        Returns:
            What was logged, reduced.
        """
        self._check_is_built()
        self.before_gradient_based_update(timesteps=timesteps or {})
        return_state = kwargs.pop("return_state", False)
        self._weights_seq_no += 1
        self.learn(training_data.batch, **kwargs)
        self.after_gradient_based_update(timesteps=timesteps or {})
        if return_state:
            raise IncompatibleError(
                "return_state is for asynchronous algorithms; team algorithms sync weights themselves"
            )
        return self.metrics.reduce()

    def learn(self, data: Any, **kwargs: Any) -> None:
        """Minimise the loss on ``data``, by as many gradient steps as the algorithm takes."""
        raise NotImplementedError

    def log_trained(self, module_id: str, module_steps: int, env_steps: int) -> None:
        """Log once per update how much was learned from, under RLlib's names."""
        log = self.metrics.log_value
        log((module_id, NUM_MODULE_STEPS_TRAINED), module_steps, reduce="sum")
        log((module_id, NUM_MODULE_STEPS_TRAINED_LIFETIME), module_steps, reduce="lifetime_sum")
        log((ALL_MODULES, NUM_MODULE_STEPS_TRAINED), module_steps, reduce="sum")
        log((ALL_MODULES, NUM_MODULE_STEPS_TRAINED_LIFETIME), module_steps, reduce="lifetime_sum")
        log((ALL_MODULES, NUM_ENV_STEPS_TRAINED), env_steps, reduce="sum")
        log((ALL_MODULES, NUM_ENV_STEPS_TRAINED_LIFETIME), env_steps, reduce="lifetime_sum", with_throughput=True)


def require_finite(loss: Tensor, module_id: str) -> None:
    """Stop before a bad loss reaches the weights of a checkpoint.

    Raises:
        NonFiniteLossError: naming the module.
    """
    value = float(loss.detach())
    if value != value or value in (float("inf"), float("-inf")):
        raise NonFiniteLossError(f"the loss of module {module_id!r} is {value}; lower lr or clip gradients harder")

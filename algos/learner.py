"""TeamLearner: how every learner of ours takes rollouts and batches as arrays."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from ray.rllib.core.learner.learner import Learner
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.utils.metrics import (
    ALL_MODULES,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_ENV_STEPS_TRAINED,
    NUM_ENV_STEPS_TRAINED_LIFETIME,
    NUM_MODULE_STEPS_TRAINED,
    NUM_MODULE_STEPS_TRAINED_LIFETIME,
)
from torch import Tensor

from algos.ray_internals import use_scheduled_lr
from algos.replay import TeamBatch
from algos.step_size import step_size_schedule
from common.errors import IncompatibleError

NUM_UPDATES = "num_updates_lifetime"
"""Gradient steps so far: in a learner's state and results."""
ACTOR, CRITIC = "actor", "critic"
"""Names of the optimizers of an actor-critic."""


class NonFiniteLossError(FloatingPointError):
    """A loss became NaN or infinite; the trial stops and its last good checkpoint is kept."""


class TeamLearner(Learner):
    """A mixin before a TorchLearner: ``update`` hands the arrays to ``learn`` and keeps RLlib's frame around it.

    Attributes:
        timestep: Environment steps sampled until the update that is under way, for schedules.
    """

    timestep = 0

    def update(self, *, training_data: TrainingData, timesteps: dict[str, Any] | None = None, **kwargs: Any) -> Any:
        """Run ``learn`` on the given arrays between RLlib's before and after hooks.

        Args:
            training_data: Carries our arrays as its ``batch``.
            timesteps: Counters for schedules.
            kwargs: Passed to ``learn``, RLlib's own switches among them.

        Returns:
            What was logged, reduced.

        Raises:
            IncompatibleError: if the state is asked for, as asynchronous algorithms do.
        """
        if kwargs.pop("return_state", False):
            raise IncompatibleError(
                "return_state is for asynchronous algorithms; team algorithms sync weights themselves"
            )
        self._check_is_built()
        self.before_gradient_based_update(timesteps=timesteps or {})
        self._weights_seq_no += 1
        self.timestep = int((timesteps or {}).get(NUM_ENV_STEPS_SAMPLED_LIFETIME, 0))
        use_scheduled_lr(self, self.timestep)
        self.learn(training_data.batch, **kwargs)
        self.after_gradient_based_update(timesteps=timesteps or {})
        return self.metrics.reduce()

    def learn(self, data: Any, **kwargs: Any) -> None:
        """Minimise the loss on ``data``, by as many gradient steps as the algorithm takes."""
        raise NotImplementedError

    def register_adams(self: Any, module_id: str, rates: dict[str, float], **kwargs: Any) -> None:
        """Give the actor (``agents``) and the critic (``critic``) of a module an Adam each; they share no weight.

        Args:
            module_id: The team's module.
            rates: Step size of ``ACTOR`` and of ``CRITIC``.
            kwargs: For both.
        """
        module = self._module[module_id]
        for name, part in ((ACTOR, module.agents), (CRITIC, module.critic)):
            params = list(part.parameters())
            self.register_optimizer(
                module_id=module_id,
                optimizer_name=name,
                optimizer=torch.optim.Adam(params, lr=rates[name], fused=True, **kwargs),
                params=params,
                lr_or_lr_schedule=step_size_schedule(rates[name], self.config.settings),
            )

    def log_trained(self, module_steps: dict[str, int], env_steps: int) -> None:
        """Log once per update how much was learned from, under RLlib's names.

        Args:
            module_steps: Agent steps (joint steps, for a module of a whole team) that each module was trained on.
            env_steps: Environment steps that they came from.
        """
        log = self.metrics.log_value
        for key, steps in (*module_steps.items(), (ALL_MODULES, sum(module_steps.values()))):
            log((key, NUM_MODULE_STEPS_TRAINED), steps, reduce="sum")
            log((key, NUM_MODULE_STEPS_TRAINED_LIFETIME), steps, reduce="lifetime_sum")
        log((ALL_MODULES, NUM_ENV_STEPS_TRAINED), env_steps, reduce="sum")
        log((ALL_MODULES, NUM_ENV_STEPS_TRAINED_LIFETIME), env_steps, reduce="lifetime_sum", with_throughput=True)


class TargetLearner(TeamLearner):
    """A mixin before a TorchLearner whose target networks follow the online ones, by the count of gradient steps."""

    def build(self) -> None:
        """Build modules and optimisers; no gradient step has been taken yet."""
        super().build()
        self._num_updates = 0

    def transfer(self, batch: TeamBatch) -> TeamBatch:
        """The batch on this learner's device."""
        return batch.map(lambda v: v.to(self._device, non_blocking=True))

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """RLlib's state and the count of gradient steps, by which targets are updated."""
        state: dict[str, Any] = super().get_state(*args, **kwargs)
        state[NUM_UPDATES] = self._num_updates
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over RLlib's state and the count of gradient steps."""
        super().set_state(state)
        self._num_updates = int(state.get(NUM_UPDATES, self._num_updates))


def learner_rank() -> int:
    """Which of the learners that update together this process is; 0 where there is one."""
    has_others = torch.distributed.is_available() and torch.distributed.is_initialized()
    return int(torch.distributed.get_rank()) if has_others else 0


def clip_gradients(params: Sequence[Tensor], limit: float | None) -> Tensor:
    """Scale gradients down to a common norm (Pascanu et al. 2013); those below it are left alone.

    To the last bit torch's ``clip_grad_norm_``, which multiplies by 1 where nothing is clipped. On a GPU so does this,
    for to ask would be to wait.

    Args:
        params: Whose gradients they are.
        limit: The largest norm; None: any.

    Returns:
        Their norm before, a scalar.
    """
    norms = torch._foreach_norm([p.grad for p in params if p.grad is not None])
    norm = torch.linalg.vector_norm(torch.stack(norms))
    if limit is not None and (norm.device.type != "cpu" or not norm + 1e-6 <= limit):
        torch.nn.utils.clip_grads_with_norm_(params, limit, norm)
    return norm


def require_finite(loss: Tensor, module_id: str, norms: Sequence[Tensor] = ()) -> None:
    """Stop before a bad loss, or gradient, reaches the weights of a checkpoint.

    Args:
        loss: A scalar, or the sum of several.
        module_id: Whose it is.
        norms: Of the gradients of the last step, scalars: no loss has been computed by the weights that it left.

    Raises:
        NonFiniteLossError: naming the module.
    """
    for what, number in [("loss", loss.detach()), *(("gradient", norm) for norm in norms)]:
        if not math.isfinite(value := float(number)):
            raise NonFiniteLossError(
                f"the {what} of module {module_id!r} is {value}; lower lr or clip gradients harder"
            )

"""What RLlib 2.60 leaves out of a learner's state, put into it, wherever the learner runs."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from ray.rllib.algorithms.dqn.torch.dqn_torch_learner import DQNTorchLearner
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.algorithms.sac.torch.sac_torch_learner import SACTorchLearner
from ray.rllib.algorithms.tqc.torch.tqc_torch_learner import TQCTorchLearner
from ray.rllib.core.learner.learner import Learner


def kl_coeffs(learner: Any) -> dict[str, float]:
    """The adaptive KL coefficients of a PPO or APPO learner, by module."""
    return {m: float(v) for m, v in learner.curr_kl_coeffs_per_module.items()}


def set_kl_coeffs(learner: Any, values: Mapping[str, float]) -> None:
    """Give a learner the coefficients that ``kl_coeffs`` read."""
    for module_id, value in values.items():
        learner.curr_kl_coeffs_per_module[module_id].data.fill_(value)


def log_alphas(learner: Any) -> dict[str, np.ndarray]:
    """Logarithms of the temperatures of a SAC or TQC learner, by module, each [1] float32."""
    return {m: v.detach().cpu().numpy().copy() for m, v in learner.curr_log_alpha.items()}


def set_log_alphas(learner: Any, values: Mapping[str, Any]) -> None:
    """Give a learner the temperatures that ``log_alphas`` read, in place, so that their optimizers go on."""
    for module_id, value in values.items():
        learner.curr_log_alpha[module_id].data.copy_(torch.as_tensor(value))


def target_update_marks(learner: Any) -> dict[str, int]:
    """Environment steps at which the target networks of a DQN, SAC or TQC learner were last updated, by module."""
    return dict(learner.last_update_ts_by_mid)


def set_target_update_marks(learner: Any, values: Mapping[str, int]) -> None:
    """Give a learner the marks that ``target_update_marks`` read."""
    learner.last_update_ts_by_mid.update(values)


def target_policy_marks(learner: Any) -> dict[str, int]:
    """Trained environment steps at which the target policies of an APPO learner were last updated, by module."""
    return dict(learner._last_update_ts_by_mid)


def set_target_policy_marks(learner: Any, values: Mapping[str, int]) -> None:
    """Give an APPO learner the marks that ``target_policy_marks`` read."""
    learner._last_update_ts_by_mid.update(values)


_PARTS: dict[str, tuple[str, Callable[[Any], Any], Callable[[Any, Any], None]]] = {
    "kl_coeffs": ("curr_kl_coeffs_per_module", kl_coeffs, set_kl_coeffs),
    "log_alpha": ("curr_log_alpha", log_alphas, set_log_alphas),
    "last_update_ts_by_mid": ("last_update_ts_by_mid", target_update_marks, set_target_update_marks),
    "last_target_policy_ts": ("_last_update_ts_by_mid", target_policy_marks, set_target_policy_marks),
}
"""Name in a state -> the attribute of learners that have it, how it is read, how it is put back."""


def left_out(learner: Any) -> dict[str, Any]:
    """Everything that a learner has and RLlib's own state of it has not."""
    return {name: read(learner) for name, (attribute, read, _) in _PARTS.items() if hasattr(learner, attribute)}


def put_in(learner: Any, state: Mapping[str, Any]) -> None:
    """Give a learner what ``left_out`` read, as far as the state has it."""
    for name, (_, _, put) in _PARTS.items():
        if name in state:
            put(learner, state[name])


class WholeState(Learner):
    """A mixin before one of RLlib's learners: a state without gaps.

    What is in a learner's state comes back to every learner of a group, those in processes of their own too.
    """

    def get_state(self, components: Any = None, **kwargs: Any) -> dict[str, Any]:
        """RLlib's state and, unless only parts are asked for, what RLlib leaves out."""
        state: dict[str, Any] = super().get_state(components, **kwargs)
        if not components:
            state |= left_out(self)
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over RLlib's state and what RLlib leaves out."""
        super().set_state(state)
        put_in(self, state)


class WholePPOLearner(WholeState, PPOTorchLearner):
    """RLlib's PPO learner, with the adaptive KL coefficients in its state."""


class WholeDQNLearner(WholeState, DQNTorchLearner):
    """RLlib's DQN learner, with the marks of its target updates in its state."""


class WholeSACLearner(WholeState, SACTorchLearner):
    """RLlib's SAC learner, with its temperatures and the marks of its target updates in its state."""


class WholeTQCLearner(WholeState, TQCTorchLearner):
    """RLlib's TQC learner, with its temperatures and the marks of its target updates in its state."""

    def compute_loss_for_module(self, **kwargs: Any) -> Any:
        """RLlib's loss, which compares every quantile with every target and lets torch broadcast them."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Using a target size", UserWarning)  # of which torch warns
            return super().compute_loss_for_module(**kwargs)

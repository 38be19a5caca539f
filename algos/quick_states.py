"""What RLlib tells of its parts, in the time that training can spare: its own ways take several times longer."""

from collections.abc import Mapping
from typing import Any

from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from torch import Tensor

from algos.ray_internals import named_optimizers


def metrics_state(logger: Any) -> dict[str, Any]:
    """What ``MetricsLogger.get_state`` returns, in a third of the time: a plain walk where RLlib maps a structure.

    Args:
        logger: RLlib's MetricsLogger.
    """
    found: dict[str, Any] = {}

    def collect(prefix: str, stats: Mapping[str, Any]) -> None:
        for key in sorted(stats):
            value = stats[key]
            if isinstance(value, Mapping):
                collect(f"{prefix}{key}--", value)
            else:
                found[prefix + key] = value.get_state()

    with logger._threading_lock:
        collect("", logger.stats)
    return {"stats": found}


def modules_state(learner: Any) -> dict[str, dict[str, Any]]:
    """What RLlib's ``TorchLearner`` tells of its networks, without its walk over nested structures.

    Args:
        learner: A TorchLearner.

    Returns:
        By module id and name, arrays; the learner's own memory where it learns on the CPU. Unlike RLlib's, no number
        loses digits. A network that has a way of its own is asked.
    """
    modules = {module_id: module.unwrapped() for module_id, module in learner.module.items()}
    return {
        m: _as_arrays(module.state_dict()) if type(module).get_state is TorchRLModule.get_state else module.get_state()
        for m, module in modules.items()
    }


def optimizers_state(learner: Any) -> dict[str, Any]:
    """What RLlib's ``TorchLearner`` tells of its optimizers, in a third of the time.

    Args:
        learner: A TorchLearner.

    Returns:
        By the name of each optimizer, its module and its state, of arrays and numbers. Unlike RLlib's, no number loses
        digits; the arrays are the learner's own memory where it learns on the CPU.
    """
    return {
        name: {"module_id": module_id, "state": _as_arrays(optimizer.state_dict())}
        for name, (module_id, optimizer) in named_optimizers(learner).items()
    }


def _as_arrays(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu().numpy() if value.ndim else value.item()
    if isinstance(value, dict):
        return {k: _as_arrays(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_as_arrays(v) for v in value)
    return value

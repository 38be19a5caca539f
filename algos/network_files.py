"""A network as a file describes it: class, spaces and settings; built again without pickle."""

import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from torch import Tensor
from torch.nn.modules.module import register_module_parameter_registration_hook

from algos.ray_internals import DEPRECATION_LOGGER
from algos.registry import Algorithm, algorithms, load
from algos.spaces import space_from_json, space_to_json
from common.errors import IncompatibleError, told

TARGETS = ("_target_", "target_", "_old_")
"""How the names of weights begin that are copies for learning."""
_SPARE = 4
"""How often a network may make a weight, where one takes the place of another."""


def having(class_name: str) -> list[Algorithm]:
    """The algorithms that have networks of a class."""
    return [a for a in algorithms().values() if any(path.endswith(f":{class_name}") for path in a.modules)]


def describe(module: Any) -> dict[str, Any]:
    """Write down how a network is built again.

    Raises:
        IncompatibleError: if no algorithm has declared its class, or a space of it is of another kind.
    """
    config, name = module.model_config, type(module).__name__
    if not having(name):
        raise IncompatibleError(
            f'networks of class {name} are not declared: name it in modules=("{type(module).__module__}:{name}",) of '
            "the Algorithm that has them"
        )
    return {
        "class": name,
        "observation_space": space_to_json(module.observation_space),
        "action_space": space_to_json(module.action_space),
        "model_config": dataclasses.asdict(config) if dataclasses.is_dataclass(config) else dict(config),  # type: ignore[arg-type]
    }


def build(
    description: Mapping[str, Any],
    weights: Callable[[Any], Mapping[str, Tensor]],
    *,
    most_weights: int,
    inference_only: bool = False,
) -> Any:
    """Build a network that ``describe`` has written down, with its weights and in evaluation mode.

    A description may claim anything, so the network is outlined first, without memory, and compared with the weights.

    Args:
        description: What ``describe`` returned, read from JSON.
        weights: Given the outline, what the network learned, by name; copies for learning may be among them.
        most_weights: How many numbers the files hold of it.
        inference_only: Whether parts that are only needed for learning are left out.

    Raises:
        IncompatibleError: if it cannot be built, or has other weights.
    """
    try:
        too_many = f"a network is described that has far more weights than the {most_weights} there are"
        with torch.device("meta"), weights_at_most(_SPARE * most_weights, too_many):
            outline = _make(description, inference_only=inference_only)
        found = weights(outline)
        _check_weights(outline.state_dict(), found)
        module = _make(description, inference_only=inference_only)
        module.load_state_dict(found, strict=False)
    except IncompatibleError:
        raise
    except Exception as error:  # a damaged description can make RLlib raise anything
        raise IncompatibleError(f"a network cannot be built as described ({told(error)})") from error
    return module.eval()


def _make(description: Mapping[str, Any], *, inference_only: bool) -> Any:
    name = description["class"]
    paths = [path for declared in having(name) for path in declared.modules if path.endswith(f":{name}")]
    if not paths:
        raise IncompatibleError(f"networks of class {name!r} are not known to this version")
    spec = RLModuleSpec(
        module_class=load(paths[0]),
        observation_space=space_from_json(description["observation_space"]),
        action_space=space_from_json(description["action_space"]),
        inference_only=inference_only,
        model_config=dict(description["model_config"]),
    )
    with without_deprecations():
        return spec.build()


@contextmanager
def weights_at_most(most: int, refusal: str) -> Iterator[None]:
    """End the making of networks that turn out to be too large, however many layers they are said to have.

    Args:
        most: Weights that all networks may have together which are made meanwhile.
        refusal: What to say otherwise.

    Raises:
        IncompatibleError: saying so.
    """
    count = 0

    def add(module: Any, name: str, weight: Any) -> None:
        nonlocal count
        count += max(1, weight.numel()) if isinstance(weight, Tensor) else 0
        if count > most:
            raise IncompatibleError(refusal)

    hook = register_module_parameter_registration_hook(add)
    try:
        yield
    finally:
        hook.remove()


def _check_weights(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Refuse weights that are not those of a network, or are no numbers.

    Raises:
        IncompatibleError: naming the first.
    """
    if lost := [name for name in wanted if name not in found]:
        raise IncompatibleError(f"{len(lost)} weights are missing, the first of them {lost[0]}")
    if unknown := [name for name in found if name not in wanted and not name.startswith(TARGETS)]:
        raise IncompatibleError(f"{len(unknown)} weights are of no part of it, the first of them {unknown[0]}")
    for name, value in found.items():
        is_like = name not in wanted or (value.shape == wanted[name].shape and value.dtype == wanted[name].dtype)
        if not is_like:
            raise IncompatibleError(
                f"weight {name} is {tuple(value.shape)} {value.dtype}, but the network as described has "
                f"{tuple(wanted[name].shape)} {wanted[name].dtype}"
            )
        if not bool(torch.isfinite(value).all()):
            raise IncompatibleError(f"weight {name} holds NaN or infinite numbers")


@contextmanager
def without_deprecations() -> Iterator[None]:
    """Keep RLlib's complaint about its own RLModule off the screen."""
    logger = logging.getLogger(DEPRECATION_LOGGER)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)

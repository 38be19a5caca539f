"""A network as a file describes it: class, spaces and settings; built again without pickle."""

import dataclasses
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from algos.ray_internals import DEPRECATION_LOGGER
from algos.registry import Algorithm, algorithms, load
from algos.spaces import space_from_json, space_to_json
from common.errors import IncompatibleError

TARGETS = ("_target_", "target_", "_old_")
"""How the names of weights begin that are copies for learning."""


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


def build(description: Mapping[str, Any], *, inference_only: bool = False) -> Any:
    """Build a network that ``describe`` has written down, with fresh weights.

    Args:
        description: What ``describe`` returned, read from JSON.
        inference_only: Whether parts that are only needed for learning are left out.

    Raises:
        IncompatibleError: if it cannot be built.
    """
    try:
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
    except IncompatibleError:
        raise
    except Exception as error:  # a damaged description can make RLlib raise anything
        raise IncompatibleError(f"a network cannot be built as described ({type(error).__name__}: {error})") from error


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

"""A device that is not the CPU, for machines without a GPU: same numbers, but nothing may be mixed with the CPU's.

``torch.utils.backend_registration`` lets Python stand behind torch's PrivateUse1 device. Tensors there hold a tensor of
the CPU and reckon with it; as on a GPU, an operation on tensors of two devices raises, NumPy does not read them, and
``.cpu()`` copies. What it cannot show: the arithmetic, the random numbers and the speed of a real GPU (marker ``gpu``).

A process has it for ever, so tests run this file in one of its own: ``python other_device.py floor`` or
``... ALGORITHM [NETWORK]`` prints what was found, as JSON.
"""

import json
import sys
from dataclasses import replace
from typing import Any

import ray
import torch
from torch.utils._pytree import tree_iter, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from algos.policy import flat_weights
from envs.floor import build_floor
from envs.settings import FloorSpec
from experiments.builders.algorithms import algorithm_config
from experiments.settings.run_config import RunConfig

NAME = "other"
_aten = torch.ops.aten
_BETWEEN_DEVICES = (_aten._to_copy.default, _aten.copy_.default)
_INDEXED = (_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default, _aten._index_put_impl_.default)


class _There(torch.Tensor):
    """A tensor on the other device, kept in a tensor of the CPU."""

    kept: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, kept: torch.Tensor):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            kept.shape,
            strides=kept.stride(),
            storage_offset=kept.storage_offset(),
            dtype=kept.dtype,
            device=torch.device(NAME, 0),
        )

    def __init__(self, kept: torch.Tensor):
        self.kept = kept

    def __repr__(self) -> str:
        return f"{self.kept}, device={NAME}"

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return _operate(operation, args, kwargs or {})


def _operate(operation, args, kwargs):
    """Carry out an operation on the tensors kept, where all of them are on the same device."""
    there = [x for x in tree_iter((args, kwargs)) if isinstance(x, _There)]
    if there and operation not in _BETWEEN_DEVICES:
        # as on a GPU, an index and a single number may come from the CPU
        for x in tree_iter(((args[0], args[2:]) if operation in _INDEXED else args, kwargs)):
            if isinstance(x, torch.Tensor) and not isinstance(x, _There) and x.dim():
                raise RuntimeError(
                    f"{operation}: expected all tensors on {NAME}, found one {tuple(x.shape)} on the CPU"
                )
    if kwargs.get("device") is not None:
        stays = torch.device(kwargs["device"]).type == NAME
        kwargs = {**kwargs, "device": torch.device("cpu")}
    else:
        stays = isinstance(args[0], _There) if operation is _aten.copy_.default else bool(there)
    args, kwargs = tree_map(_kept, (args, kwargs))
    result = operation(*args, **kwargs)
    if not stays:
        return result
    same = {id(x.kept): x for x in there}  # operations in place return what they were given
    return tree_map(lambda x: same.get(id(x), _There(x)) if isinstance(x, torch.Tensor) else x, result)


def _kept(x):
    return x.kept if isinstance(x, _There) else x


class _Generator(torch.Generator):
    """Draws as the CPU's, and says that it is where it was asked to be."""

    def __new__(cls, device="cpu"):
        generator = super().__new__(cls)
        generator.place = torch.device(device)
        return generator

    @property
    def device(self):
        return self.place


def _copy_from(source, target, non_blocking=False):
    _kept(target).copy_(_kept(source))
    return target


def set_up() -> torch.device:
    """Register the device with torch, in this process and for ever."""
    _setup_privateuseone_for_python_backend(NAME)
    device = torch.device(NAME, 0)
    for name, operation in (
        ("empty.memory_format", _aten.empty.memory_format),
        ("empty_strided", _aten.empty_strided.default),
    ):

        def make(*args, _operation=operation, **kwargs):
            return _operate(_operation, args, {**kwargs, "device": device})

        _library.impl(name, make, "PrivateUse1")
    _library.impl("_copy_from", _copy_from, "PrivateUse1")
    torch.Generator = _Generator  # type: ignore[misc]  # torch asks C++ for one of another device
    return device


_library = torch.library.Library("aten", "IMPL")


# -- what the tests ask for --------------------------------------------------------------------------------------------


def step_floors(device: torch.device) -> dict[str, Any]:
    """Step two floors by the same actions, one on each device."""
    floors = [build_floor(FloorSpec(), num_replicas=16, device=d, seed=3) for d in ("cpu", device)]
    for floor in floors:
        floor.reset(3)
    draw = torch.Generator().manual_seed(0)
    same = True
    for _ in range(300):
        actions = torch.randint(0, 5, (16, len(floors[0].agent_ids)), generator=draw)
        one, two = (floor.step(actions.to(floor.device)) for floor in floors)
        fields = ("reward", "obs", "terminated", "truncated")
        same &= all(torch.equal(getattr(one, name), getattr(two, name).cpu()) for name in fields)
    state = floors[1].get_state()
    return {"device": str(two.reward.device), "same": same, "state": _devices(state)}


def train(algo: str, network: str = "mlp") -> dict[str, Any]:
    """Train a team on each device, from the same seed; on the other one its state is put back and it goes on."""
    ray.init(address="local", include_dashboard=False, num_cpus=1)
    torch.cuda.device_count = lambda: 1  # RLlib's get_device counts them, and takes torch.device(0)
    run = RunConfig(algo=algo)
    settings = getattr(run, algo)
    small: dict[str, Any] = {"network": network}
    small |= {"num_envs_per_env_runner": 8, "learning_starts": 64}
    small |= {"train_batch_size_per_learner": 256, "minibatch_size": 128, "num_epochs": 1}
    run = replace(run, **{algo: replace(settings, **{k: v for k, v in small.items() if hasattr(settings, k)})})
    weights = []
    for gpus in (0.0, 1.0):
        config = algorithm_config(replace(run, scaling=replace(run.scaling, num_gpus_per_learner=gpus)))
        algorithm = config.build_algo()
        for _ in range(4):
            result = algorithm.train()
        learner = algorithm.learner_group._learner
        weights.append(flat_weights(algorithm))
        if gpus:
            state = algorithm.get_state()
            algorithm.set_state(state)
            algorithm.train()
            optimizers = [o.state_dict() for o in learner._named_optimizers.values()]
            shown = {
                "state": _devices(state),
                "learner": _devices([list(m.parameters()) for m in learner.module.values()]),
                "optimizer": _devices(optimizers),
                "floor": str(algorithm.env_runner.env.device),
                "updates": result["learners"]["__all_modules__"]["num_module_steps_trained_lifetime"],
                "evaluation": sorted(algorithm.evaluate()),
            }
        algorithm.stop()
    ray.shutdown()
    on_cpu, there = weights
    return shown | {"apart": max(float(abs(there[name] - value).max()) for name, value in on_cpu.items())}


def _devices(tree) -> list[str]:
    """The devices of all tensors with a shape."""
    return sorted({x.device.type for x in tree_iter(tree) if isinstance(x, torch.Tensor) and x.dim()})


if __name__ == "__main__":
    place, what = set_up(), sys.argv[1:]
    print(json.dumps(step_floors(place) if what == ["floor"] else train(*what)))

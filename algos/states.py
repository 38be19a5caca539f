"""State as JSON and arrays, written and read without pickle: reading it runs no code, whoever has written it.

A tree of dicts, lists, numbers and text is JSON as it is. What JSON has not is an object of one key that begins with
``$``: ``{"$tuple": [1, 2]}``. Arrays of one dtype lie one behind the other as one tensor of a SafeTensors file, and the
tree says where each begins. Of objects only RLlib's episodes and trees are taken, by their attributes; what both sides
have, such as the spaces of agents, is only named.
"""

import base64
import functools
import json
import math
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.env.multi_agent_episode import MultiAgentEpisode
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.env.utils.infinite_lookback_buffer import InfiniteLookbackBuffer
from ray.rllib.execution.segment_tree import MinSegmentTree, SumSegmentTree
from safetensors.numpy import load_file
from torch import Tensor

from algos.spaces import space_from_json, space_to_json
from algos.tensor_files import DTYPES, safetensors_file
from common.errors import IncompatibleError, told

STATE_FILE, ARRAYS_FILE = "state.json", "state.safetensors"
"""In a checkpoint: all of its state but weights and replay buffers of teams."""
_PLAIN = frozenset({str, int, bool, types.NoneType})
_OBJECTS: dict[str, tuple[type, tuple[str, ...]]] = {
    "MultiAgentEpisode": (MultiAgentEpisode, MultiAgentEpisode.__slots__),
    "SingleAgentEpisode": (SingleAgentEpisode, SingleAgentEpisode.__slots__),
    "InfiniteLookbackBuffer": (InfiniteLookbackBuffer, ("data", "lookback", "finalized", "space")),
}
"""Name -> class and its attributes."""
_TREES = {cls.__name__: cls for cls in (SumSegmentTree, MinSegmentTree)}
"""Of buffers that are drawn from by priority."""
_DEFAULTS = {cls.__name__: cls for cls in (int, float, bool, str, list, dict, set, InfiniteLookbackBuffer)}
"""What a defaultdict may make."""
_BIT_GENERATORS = {name: getattr(np.random, name) for name in ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")}
_NAMES = {np.dtype(name): name for name in DTYPES}
"""Dtypes that SafeTensors knows, of this machine's byte order."""
_SCALARS = {name: np.dtype(name).type for name in DTYPES}


class UnsavableError(IncompatibleError):
    """A value that is neither data nor one of the objects that are known."""

    def __init__(self, value: Any) -> None:
        self.kind, self.place = f"{type(value).__module__}.{type(value).__qualname__}", ""
        super().__init__(self.kind)

    def __str__(self) -> str:
        """Where it is, and what may be there instead."""
        place = self.place.lstrip("/") or "it"
        return f"{place} is a {self.kind}, but a checkpoint holds numbers, text, lists, dicts and arrays alone"


def pack(state: Any, *, known: Mapping[str, Any] | None = None) -> dict[str, bytes | memoryview]:
    """Write down a state; nothing that happens to it later changes what is returned.

    Args:
        state: A tree of dicts, lists, tuples, sets, deques, numbers, text, bytes, arrays, tensors of the CPU, NumPy's
            generators and RLlib's episodes.
        known: Spaces and functions that are only named, by name; whoever reads it gives the same.

    Returns:
        Content of each of the two files, by name.

    Raises:
        UnsavableError: if it holds anything else, saying where.
    """
    packer = _Packer(known or {})
    tree = packer.pack(state)
    text = json.dumps(tree, allow_nan=False, separators=(",", ":"))
    return {STATE_FILE: text.encode(), ARRAYS_FILE: safetensors_file(packer.pools)}


def unpack(folder: Path, *path: str, known: Mapping[str, Any] | None = None) -> Any:
    """Read a state, or the part of it that a path of keys leads to.

    Args:
        folder: Where the two files lie.
        path: Keys of nested dicts.
        known: What ``pack`` was given.

    Raises:
        IncompatibleError: if a file is missing, or does not hold what ``pack`` writes.
    """
    file = folder / STATE_FILE
    try:
        node = json.loads(file.read_bytes())
        for key in path:
            node = node[key]
        file = folder / ARRAYS_FILE
        pools = load_file(file)
        file = folder / STATE_FILE
        return _Unpacker(pools, known or {}).unpack(node)
    except Exception as error:  # what is damaged, or was made to do harm, can raise anything
        raise IncompatibleError(f"{file} cannot be read ({told(error)})") from error


class _Packer:
    def __init__(self, known: Mapping[str, Any]) -> None:
        self.pools: dict[str, list[np.ndarray]] = {}
        self._lengths: dict[str, int] = {}
        self._known, self._spaces = known, dict[int, Any]()
        self._kinds: dict[type, Callable[[Any], Any]] = {
            dict: self._dict,
            OrderedDict: self._dict,
            list: lambda v: [self.pack(x) for x in v],
            float: lambda v: v if math.isfinite(v) else {"$float": repr(v)},
            np.ndarray: self._array,
            tuple: lambda v: {"$tuple": [self.pack(x) for x in v]},
            defaultdict: self._default,
            set: lambda v: {"$set": [self.pack(x) for x in v]},
            frozenset: lambda v: {"$frozenset": [self.pack(x) for x in v]},
            deque: lambda v: {"$deque": [v.maxlen, *(self.pack(x) for x in v)]},
            bytes: lambda v: {"$bytes": base64.b64encode(v).decode()},
            complex: lambda v: {"$complex": [repr(v.real), repr(v.imag)]},
            np.random.Generator: self._generator,
            **{cls: functools.partial(self._object, n, names) for n, (cls, names) in _OBJECTS.items()},
            **dict.fromkeys(_TREES.values(), lambda v: {"$tree": [type(v).__name__, self.pack(v.value)]}),
        }

    def pack(self, value: Any) -> Any:
        kind = type(value)
        if kind in _PLAIN:
            return value
        return self._kinds.get(kind, self._other)(value)

    def _dict(self, value: Mapping[Any, Any]) -> Any:
        packed, key = {}, None
        try:
            for key, item in value.items():
                if type(key) is not str or key[:1] == "$":
                    return {"$dict": self._items(value)}
                packed[key] = item if type(item) in _PLAIN else self.pack(item)
        except UnsavableError as error:
            error.place = f"/{key}{error.place}"
            raise
        return packed

    def _items(self, value: Mapping[Any, Any]) -> list[Any]:
        return [[self.pack(key), self.pack(item)] for key, item in value.items()]

    def _default(self, value: Any) -> Any:
        factory = value.default_factory
        if factory is not None and _DEFAULTS.get(factory.__name__) is not factory:
            raise UnsavableError(factory)
        name = None if factory is None else factory.__name__
        return {"$default": [name, self._items(value)]}

    def _array(self, value: np.ndarray) -> Any:
        if value.dtype.hasobject:
            if value.dtype != object:
                raise UnsavableError(value)
            return {"$objects": [list(value.shape), self.pack(value.reshape(-1).tolist())]}
        name = _NAMES.get(value.dtype)
        if name is None:
            whole = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
            return {"$raw": [value.dtype.str, list(value.shape), whole]}
        return {"$array": self._pooled(value, name)}

    def _pooled(self, value: np.ndarray, name: str) -> list[Any]:
        """Put an array behind the others of its dtype; where it begins, and its shape."""
        start = self._lengths.get(name, 0)
        self._lengths[name] = start + value.size
        self.pools.setdefault(name, []).append(np.ascontiguousarray(value).reshape(-1))
        return [name, start, *value.shape]

    def _tensor(self, value: Tensor) -> Any:
        if value.device.type != "cpu" or value.layout is not torch.strided or value.requires_grad:
            raise UnsavableError(value)
        if value.dtype is torch.bfloat16:
            return {"$bfloat16": self._array(value.contiguous().view(torch.int16).numpy())}
        array = value.resolve_conj().resolve_neg().numpy()
        return {"$tensor": self._array(array)}

    def _generator(self, value: np.random.Generator) -> Any:
        state = value.bit_generator.state
        if state["bit_generator"] not in _BIT_GENERATORS:
            raise UnsavableError(value.bit_generator)
        return {"$generator": self.pack(state)}

    def _object(self, name: str, attributes: tuple[str, ...], value: Any) -> Any:
        return {"$object": [name, self._dict({a: getattr(value, a) for a in attributes if hasattr(value, a)})]}

    def _other(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._tensor(value)
        if isinstance(value, gym.Space):
            if id(value) not in self._spaces:  # many episodes share them, and to compare two takes long
                self._spaces[id(value)] = self._space(value)
            return self._spaces[id(value)]
        if isinstance(value, np.generic) and not value.dtype.hasobject:
            if value.dtype in _NAMES:
                return {"$scalar": [_NAMES[value.dtype], self.pack(value.item())]}
            return {"$scalar_of": self._array(np.asarray(value))}
        for name, item in self._known.items():
            if item is value or (type(item) is type(value) and item == value):
                return {"$known": name}
        raise UnsavableError(value)

    def _space(self, value: gym.Space) -> Any:
        name = next((n for n, item in self._known.items() if isinstance(item, gym.Space) and item == value), None)
        try:
            return {"$known": name} if name is not None else {"$space": space_to_json(value)}
        except IncompatibleError:
            raise UnsavableError(value) from None


class _Unpacker:
    def __init__(self, pools: Mapping[str, np.ndarray], known: Mapping[str, Any]) -> None:
        self._pools, self._known = pools, known
        self._left = {name: len(pool) for name, pool in pools.items()}
        self._kinds: dict[str, Callable[[Any], Any]] = {
            "$dict": self._items,
            "$float": float,
            "$array": lambda v: self._pooled(*v).copy(),
            "$tuple": lambda v: tuple(self.unpack(x) for x in v),
            "$default": lambda v: defaultdict(None if v[0] is None else _DEFAULTS[v[0]], self._items(v[1])),
            "$set": lambda v: {self.unpack(x) for x in v},
            "$frozenset": lambda v: frozenset(self.unpack(x) for x in v),
            "$deque": lambda v: deque((self.unpack(x) for x in v[1:]), maxlen=v[0]),
            "$bytes": base64.b64decode,
            "$complex": lambda v: complex(float(v[0]), float(v[1])),
            "$objects": self._objects,
            "$raw": self._raw,
            "$tensor": lambda v: torch.from_numpy(self.unpack(v)),
            "$bfloat16": lambda v: torch.from_numpy(self.unpack(v)).view(torch.bfloat16),
            "$scalar": lambda v: _SCALARS[v[0]](self.unpack(v[1])),
            "$scalar_of": lambda v: self.unpack(v)[()],
            "$generator": self._generator,
            "$object": self._object,
            "$tree": self._tree,
            "$space": space_from_json,
            "$known": lambda v: self._known[v],
        }

    def unpack(self, node: Any) -> Any:
        kind = type(node)
        if kind is dict:
            if len(node) == 1 and (key := next(iter(node)))[:1] == "$":
                return self._kinds[key](node[key])
            return {key: self.unpack(item) for key, item in node.items()}
        return [self.unpack(item) for item in node] if kind is list else node

    def _items(self, pairs: Any) -> dict[Any, Any]:
        return {self.unpack(key): self.unpack(item) for key, item in pairs}

    def _pooled(self, name: str, start: int, *shape: int) -> np.ndarray:
        size, pool = math.prod(shape), self._pools[name]
        self._left[name] -= size  # each number belongs to one array: a small file cannot stand for a large state
        if not 0 <= start <= start + size <= len(pool) or self._left[name] < 0:
            raise ValueError(f"an array of {name} lies outside of its file")
        return pool[start : start + size].reshape(shape)

    def _raw(self, described: Any) -> np.ndarray:
        dtype, shape, whole = described
        return np.frombuffer(base64.b64decode(whole), np.dtype(str(dtype))).reshape(shape).copy()

    def _objects(self, described: Any) -> np.ndarray:
        shape, items = described
        array = np.empty(len(items), object)
        array[:] = self.unpack(items)
        return array.reshape(shape)

    def _generator(self, node: Any) -> np.random.Generator:
        state = self.unpack(node)
        bits = _BIT_GENERATORS[state["bit_generator"]]()
        bits.state = state
        return np.random.Generator(bits)

    def _object(self, described: Any) -> Any:
        name, values = described
        cls, attributes = _OBJECTS[name]
        made: Any = object.__new__(cls)
        if unknown := values.keys() - set(attributes):
            raise ValueError(f"{name} has no {min(unknown)!r}")
        for attribute, value in values.items():
            setattr(made, attribute, self.unpack(value))
        return made

    def _tree(self, described: Any) -> Any:
        name, values = described
        made = _TREES[name](len(values) // 2)
        made.set_state(self.unpack(values))
        return made

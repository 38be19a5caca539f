"""A checkpoint's networks as SafeTensors, one file for each agent, and a team rebuilt from them without any pickle.

``AGENT.safetensors`` holds the networks that an agent acts and learns by, ``AGENT.targets.safetensors`` their target
copies, ``AGENT.optimizers.safetensors`` what the optimizers remember of each weight (``WEIGHT/exp_avg``). Agents whose
names are no plain file names have others there, which ``networks.json`` tells. Agents that share a network have equal
files. Of a team's module each agent gets its slice, and what values all of them together, ``mixer`` or ``critic``, has
files of its own.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NotRequired

import numpy as np
import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_LEARNER_GROUP, COMPONENT_OPTIMIZER
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from typing_extensions import TypedDict

from algos.file_names import file_stems
from algos.network_files import TARGETS, build, describe, having
from algos.runner import TEAM_MODULE
from algos.snapshots import ALGORITHM, load_modules, read_module_states
from algos.states import unpack
from algos.team_module import TeamModule
from common.errors import IncompatibleError, told
from common.files import json_object
from common.paths import path_in
from common.strict import first_fault

NETWORKS_FILE = "networks.json"
"""In an exported folder: who the agents are, and how their networks are built."""
FORMAT = 1
MIXER, CRITIC = "mixer", "critic"
SHARED_PARTS = (MIXER, CRITIC)
"""What a team's module has beside its agents: QMIX's mixer, MAPPO's value function, MADDPG's critics."""
KINDS = {"networks": "", "targets": ".targets", "optimizers": ".optimizers"}
"""What is exported, and what a file of it has in its name after its owner."""
_TEMPERATURE = "log_alpha"
"""SAC's and TQC's one weight that is in no network, and its place in a learner's state; its optimizer is ``alpha``."""


class _Layout(TypedDict):
    __pydantic_config__ = ConfigDict(strict=True, extra="allow")  # type: ignore[misc]

    agent_ids: list[str]
    modules: list[str]
    obs_dims: list[int]
    actions: list[str]
    network: NotRequired[str]
    weights: NotRequired[dict[str, list[int]]]


_LAYOUT = TypeAdapter(_Layout)
Files = dict[tuple[str, str], dict[str, Tensor]]
"""(owner, kind) -> name -> tensor."""


# -- from a checkpoint to files ----------------------------------------------------------------------------------------


def export_networks(
    checkpoint: Path, folder: Path, layout: Mapping[str, Any], *, headers: Mapping[str, Mapping[str, str]]
) -> dict[str, list[str]]:
    """Write the networks, targets and optimizers of a checkpoint, and what is needed to build them again.

    Args:
        checkpoint: Folder of a checkpoint.
        folder: Where the files go; an empty folder.
        layout: The checkpoint's ``team.json``.
        headers: For each agent and for each of ``shared_owners``: what stands in the header of its files, as text.

    Returns:
        The names of the files of each owner.

    Raises:
        IncompatibleError: if a part of the checkpoint is missing, or cannot be told apart.
        OSError: if something cannot be written.
    """
    files: Files = {}
    described, states, modules = {}, read_module_states(checkpoint), load_modules(checkpoint)
    learner = unpack(checkpoint, ALGORITHM, COMPONENT_LEARNER_GROUP, COMPONENT_LEARNER)
    shared = shared_owners(layout["agent_ids"])
    stems = file_stems(layout["agent_ids"], taken=SHARED_PARTS, endings=[end for end in KINDS.values() if end])
    stems |= {owner: part for part, owner in shared.items()}
    if unknown := sorted(set(layout["modules"]) - (modules.keys() & states.keys())):
        raise IncompatibleError(
            f"{checkpoint}: its team.json names networks that it does not hold: {', '.join(unknown)}"
        )
    for module_id in dict.fromkeys(layout["modules"]):
        module = modules[module_id]
        described[module_id] = describe(module)
        owners = [a for a, m in zip(layout["agent_ids"], layout["modules"], strict=True) if m == module_id]
        weights = states[module_id]
        named = [("networks", name, torch.as_tensor(np.asarray(value))) for name, value in weights.items()]
        trained = [n for n, p in module.named_parameters() if p.requires_grad and not n.startswith(TARGETS)]
        try:
            named += [
                ("optimizers", *item)
                for item in _optimizer_tensors(learner, module_id, trained, weights, _parts(module))
            ]
        except Exception as error:  # of a state that is no learner's
            raise IncompatibleError(f"{checkpoint}: no optimizers of {module_id!r} ({told(error)})") from None
        for kind, name, value in named:
            of_kind = "targets" if kind == "networks" and name.startswith(TARGETS) else kind
            local = (
                name.removeprefix("_").removeprefix("target_").removeprefix("old_") if of_kind == "targets" else name
            )
            for owner, own_name, own in _divide(module, local, value, owners, shared):
                files.setdefault((owner, of_kind), {})[own_name] = own.contiguous()
    written: dict[str, list[str]] = {}
    for (owner, kind), tensors in files.items():
        name = f"{stems[owner]}{KINDS[kind]}.safetensors"
        header = {**headers[owner], "kind": kind, "tensors_sha256": tensors_sha256(tensors), "format": str(FORMAT)}
        (folder / name).write_bytes(save(tensors, metadata=header))
        written.setdefault(owner, []).append(name)
    content = {"format": FORMAT, "layout": dict(layout), "modules": described}
    if others := {owner: stem for owner, stem in stems.items() if stem != owner}:
        content["file_names"] = others
    (folder / NETWORKS_FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return written


def shared_owners(agent_ids: Sequence[str]) -> dict[str, str]:
    """Who each of ``SHARED_PARTS`` belongs to: its own name, with strokes after it where an agent is called so."""
    return {part: next(o for i in count() if (o := part + "_" * i) not in agent_ids) for part in SHARED_PARTS}


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over sorted name, dtype, shape and bytes of tensors."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = np.ascontiguousarray(tensors[name].numpy())
        digest.update(f"{name}|{value.dtype.str}|{value.shape}|".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def _divide(
    module: Any, name: str, value: Tensor, agents: list[str], shared: Mapping[str, str]
) -> Iterator[tuple[str, str, Tensor]]:
    """Yield who owns a tensor, by what name, and which part of it: every agent its own, or all the same."""
    if not isinstance(module, TeamModule):
        yield from ((agent, name, value) for agent in agents)
        return
    part, _, local = name.partition(".")
    if part != "agents":
        yield shared.get(part, shared[CRITIC]), local, value
        return
    is_own = value.dim() > 0 and _is_own(local.partition("/")[0], module)
    for n, agent in enumerate(agents):
        yield agent, local, value[n : n + 1] if is_own else value


def _is_own(name: str, module: Any) -> bool:
    """Whether each agent has its own slice of a weight, along the first axis."""
    return not module.settings.use_shared_networks or name.endswith("agent_offset")


def _optimizer_tensors(
    learner: Mapping[str, Any],
    module_id: str,
    trained: list[str],
    weights: Mapping[str, Any],
    parts: Mapping[str, tuple[str, ...]],
) -> Iterator[tuple[str, Tensor]]:
    """Yield what a network's optimizers remember, as ``WEIGHT/exp_avg``; a checkpoint counts weights, this names them.

    Raises:
        IncompatibleError: if the counts and shapes are not those of the weights.
    """
    for full_name, saved in learner[COMPONENT_OPTIMIZER].items():
        if saved["module_id"] != module_id:
            continue
        optimizer = full_name.removeprefix(f"{module_id}_")
        names = [n for start in parts.get(optimizer, ("",)) for n in trained if n.startswith(start)]
        if optimizer == "alpha":
            names, weights = [_TEMPERATURE], {**weights, _TEMPERATURE: learner[_TEMPERATURE][module_id]}
            yield _TEMPERATURE, torch.as_tensor(weights[_TEMPERATURE])
        state = saved["state"]
        index = [i for group in state["param_groups"] for i in group["params"]]
        if len(index) != len(names):
            raise IncompatibleError(f"optimizer {full_name} has {len(index)} weights, not {len(names)}")
        for i, name in zip(index, names, strict=True):
            for key, value in state["state"].get(i, {}).items():
                tensor = torch.as_tensor(np.asarray(value))
                if tensor.dim() and tensor.shape != np.shape(weights[name]):
                    raise IncompatibleError(f"optimizer {full_name} does not fit weight {name}")
                yield f"{name}/{key}", tensor


# -- from files to a team ----------------------------------------------------------------------------------------------


def load_networks(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Build the networks of an exported folder and give them their weights; nothing is unpickled.

    Args:
        folder: What ``export_networks`` has filled.

    Returns:
        The modules by id, in evaluation mode; and the layout.

    Raises:
        IncompatibleError: if a file is missing, damaged, or of a format that this version cannot read.
    """
    path = folder / NETWORKS_FILE
    try:
        content = json_object(path.read_bytes())
    except OSError as error:
        raise IncompatibleError(f"{path} cannot be read ({error})") from error
    if content.get("format") != FORMAT:
        raise IncompatibleError(f"{path} has format {content.get('format')!r}, but this version reads format {FORMAT}")
    layout, described = checked_layout(content.get("layout"), source=path), content.get("modules")
    if not isinstance(described, dict) or set(described) != set(layout["modules"]):
        raise IncompatibleError(f"{path} does not describe the networks {sorted(set(layout['modules']))}")
    stems = content.get("file_names", {})
    if not isinstance(stems, dict):
        raise IncompatibleError(f"{path} gives agents file names that are none")
    modules = {}
    for module_id, description in described.items():
        owners = [a for a, m in zip(layout["agent_ids"], layout["modules"], strict=True) if m == module_id]
        files = [f"{stems.get(owner, owner)}.safetensors" for owner in owners]
        weights = [read_tensors(path_in(folder, file, source=path)) for file in files]
        try:
            modules[module_id] = build(
                description,
                partial(_join, weights=weights),
                most_weights=sum(value.numel() for own in weights for value in own.values()),
                inference_only=module_id == TEAM_MODULE,  # what values a team has a file of its own
            )
        except IncompatibleError as error:
            raise IncompatibleError(f"{folder}: network {module_id!r}: {error}") from error
    return modules, layout


def checked_layout(layout: Any, *, source: Path) -> dict[str, Any]:
    """Give back a description of a team's agents that is one.

    Args:
        layout: What a file holds.
        source: That file.

    Raises:
        IncompatibleError: if something is missing or of another kind.
    """
    try:
        checked: Any = _LAYOUT.validate_python(layout)
    except ValidationError as error:
        raise IncompatibleError(f"{source} does not describe a team: {first_fault(error)}") from None
    if len({len(checked[name]) for name in _Layout.__required_keys__}) > 1 or not checked["agent_ids"]:
        raise IncompatibleError(f"{source} does not describe a team: its lists of agents differ in length")
    return dict(checked)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of an exported file and compare them with its header.

    Raises:
        IncompatibleError: if the file is missing, damaged or changed.
    """
    try:
        with safe_open(str(path), "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
            header = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise IncompatibleError(f"{path} cannot be read ({error})") from error
    if tensors_sha256(tensors) != header.get("tensors_sha256"):
        raise IncompatibleError(f"{path} has other weights than were exported (SHA-256 differs)")
    return tensors


def _join(module: Any, weights: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Undo ``_divide``.

    Raises:
        IncompatibleError: if agents that share a weight have not the same.
    """
    is_team, joined = isinstance(module, TeamModule), {}
    for name, value in weights[0].items():
        own = [found.get(name) for found in weights]
        if is_team and _is_own(name, module):
            joined[f"agents.{name}"] = torch.cat(own)  # type: ignore[arg-type]
            continue
        if not all(other is not None and torch.equal(value, other) for other in own[1:]):
            raise IncompatibleError(f"agents share the weight {name}, but not all of their files have the same")
        joined[f"agents.{name}" if is_team else name] = value
    return joined


def _parts(module: Any) -> Mapping[str, tuple[str, ...]]:
    """For each optimizer of a network the beginnings of the names of its weights."""
    return next((declared.optimizers for declared in having(type(module).__name__)), {})

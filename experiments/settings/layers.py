"""Layers of settings: YAML files and nested mappings, laid over one another."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from common.errors import InputError
from common.files import read_text
from common.store import check_no_keys
from experiments.settings.fields import Setting, canonical, nearest_setting, settings_of


def check_keys(
    values: Mapping[str, Any], cls: type, *, where: str, aliases: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Check the names in a nested mapping, and turn hyphens and flat names into the real ones.

    Raises:
        InputError: for a name that does not exist (naming the nearest), or a group given as a single value.
    """
    settings = settings_of(cls)
    known = {canonical(name): name for name in settings}
    known |= {canonical(key): name for key, name in (aliases or {}).items()}
    groups = {name.rpartition(".")[0] for name in settings} | {name.split(".")[0] for name in settings if "." in name}
    flat: dict[str, Any] = {}

    def walk(part: Mapping[str, Any], prefix: str) -> None:
        for key, value in part.items():
            name = f"{prefix}{key}".replace("-", "_")
            if name in groups:
                if not isinstance(value, Mapping):
                    raise InputError(f"{where}: {name} is a group: indent its settings below it")
                walk(value, f"{name}.")
            elif canonical(name) in known:
                flat[known[canonical(name)]] = value
            else:
                raise InputError(f"{where}: unknown setting {name!r}{nearest_setting(name, known.values())}")

    walk(values, "")
    return nested(flat)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file of settings.

    Raises:
        InputError: if it is missing, not YAML, names a key twice, or is not a mapping.
    """
    text = read_text(path)
    for line in text.splitlines():
        check_no_keys(line, setting=f"{line.partition(':')[0].strip()} in {path}")
    try:
        values = yaml.load(text, _StrictLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" at line {mark.line + 1}" if mark is not None else ""
        raise InputError(f"{path} is not valid YAML{place}: {error.problem}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError(f"{path} must hold settings as 'name: value' lines, not a {type(values).__name__}")
    return values


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one nested mapping over another; groups are merged, values replaced. Neither input changes."""
    merged = dict(base)
    for key, value in over.items():
        known = merged.get(key)
        merged[key] = merge(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return merged


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Turn ``{"qmix.lr": 1}`` into ``{"qmix": {"lr": 1}}``."""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *groups, leaf = name.split(".")
        branch = tree
        for group in groups:
            branch = branch.setdefault(group, {})
        branch[leaf] = value
    return tree


def flatten(tree: Mapping[str, Any], settings: Mapping[str, Setting]) -> dict[str, Any]:
    """Turn ``{"qmix": {"lr": 1}}`` into ``{"qmix.lr": 1}``, down to the known settings."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if key in settings or not isinstance(value, Mapping):
            flat[key] = value
            continue
        below = {name.split(".", 1)[1]: item for name, item in settings.items() if name.startswith(f"{key}.")}
        flat |= {f"{key}.{name}": item for name, item in flatten(value, below).items()}
    return flat


class _StrictLoader(yaml.SafeLoader):
    """YAML without duplicate keys, which PyYAML would let the last of win in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=deep)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key!r} is not a setting's name", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)

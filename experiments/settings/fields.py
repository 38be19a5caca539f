"""What can be set: every setting of a tree of dataclasses, with its type, default and help, read from the source."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import re
import textwrap
from collections.abc import Iterable
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from common.strict import Range, about

_NEAR = 0.65
"""Likeness above which a name is offered as a guess: below it are words that share letters by chance."""
_OF_LEAF = 0.92
"""What likeness to the last part of a dotted name counts: a flat name that is as near comes first."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """One leaf of a tree of settings.

    Attributes:
        name: Dotted name, as in ``qmix.lr``.
        kind: Its type annotation, resolved.
        default: Its default.
        help: The docstring under the field.
        search: What a search draws it from, where it does.
        may_change: Whether it may differ where training goes on exactly, as in a branch.
    """

    name: str
    kind: Any
    default: Any
    help: str
    search: Range | None = None
    may_change: bool = False

    @property
    def flag(self) -> str:
        """The flag that sets it: ``--search.num-trials``."""
        return f"--{hyphens(self.name)}"

    @property
    def choices(self) -> tuple[str, ...]:
        """The allowed words, where the setting is a choice between words."""
        options = [self.kind, *get_args(self.kind)]
        return tuple(word for option in options if get_origin(option) is Literal for word in get_args(option))

    @property
    def is_switch(self) -> bool:
        """Whether it is on or off, where None is allowed too."""
        return bool in (self.kind, *get_args(self.kind))

    @property
    def splits_at_commas(self) -> bool:
        """Whether a word may be several values: not where it may be one text, as a path with a comma in it."""
        may_be_text = get_origin(self.kind) is not tuple and str in get_args(self.kind)
        return self.is_tuple and not may_be_text

    @property
    def is_tuple(self) -> bool:
        """Whether it takes several values."""
        return any(get_origin(option) is tuple for option in [self.kind, *get_args(self.kind)])


@cache
def settings_of(cls: type) -> dict[str, Setting]:
    """List every setting of a tree of dataclasses by its dotted name, in the order of the source."""
    found: dict[str, Setting] = {}
    hints, help_texts = get_type_hints(cls), _field_docstrings(cls)
    for item in dataclasses.fields(cls):
        kind = hints[item.name]
        default: Any = item.default
        said = about(default)
        if item.default_factory is not dataclasses.MISSING:
            default = item.default_factory()
        if hasattr(default, "default_factory") or hasattr(default, "get_default"):  # pydantic's Field(...)
            default = default.get_default(call_default_factory=True, validated_data={})
        if dataclasses.is_dataclass(kind):
            nested = settings_of(kind)  # type: ignore[arg-type]
            for name, setting in nested.items():
                found[f"{item.name}.{name}"] = dataclasses.replace(setting, name=f"{item.name}.{name}")
        else:
            found[item.name] = Setting(
                item.name, kind, default, help_texts.get(item.name, ""), said.search, said.may_change
            )
    return found


def nearest_setting(name: str, known: Iterable[str]) -> str:
    """Say which setting was probably meant; a bare name is also compared with the last parts of dotted ones.

    Every word of a name must be near, so that a group that is right does not make a guess of what is wrong in it.
    """
    best, meant = _NEAR, ""
    for item in known:
        leaf = item.rpartition(".")[2]
        likeness = max(_likeness(name, item), 0.0 if "." in name else _OF_LEAF * _likeness(name, leaf))
        if likeness > best:
            best, meant = likeness, f" (did you mean {item!r}?)"
    return meant


def _likeness(name: str, other: str) -> float:
    """How near two names are, 0 to 1: by their least like word where they have as many words."""
    words, others = (re.split("[._]", canonical(item).lower()) for item in (name, other))
    if len(words) != len(others):
        words, others = ["_".join(words)], ["_".join(others)]
    return min(difflib.SequenceMatcher(None, *pair).ratio() for pair in zip(words, others, strict=True))


def canonical(name: str) -> str:
    """Write a setting's name in the one form that is compared: underscores inside, none at a part's end."""
    return ".".join(part.rstrip("_") for part in name.replace("-", "_").split("."))


def hyphens(name: str) -> str:
    """Write a name as a flag has it: hyphens inside, underscores kept at a part's end (``lambda_``)."""
    return ".".join(
        part.rstrip("_").replace("_", "-") + "_" * (len(part) - len(part.rstrip("_"))) for part in name.split(".")
    )


def value_of(config: Any, name: str) -> Any:
    """Read a setting by its dotted name."""
    for part in name.split("."):
        config = getattr(config, part)
    return config


@cache
def _field_docstrings(cls: type) -> dict[str, str]:
    """Read the docstrings under the fields of a dataclass from its source, those of its bases included."""
    texts: dict[str, str] = {}
    for base in cls.__bases__:
        if dataclasses.is_dataclass(base):
            texts |= _field_docstrings(base)
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(tree, ast.ClassDef)
    for item, below in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and isinstance(below, ast.Expr):
            value = below.value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                texts[item.target.id] = " ".join(value.value.split())
    return texts


def kind_in_words(kind: Any) -> str:
    """Write a type annotation as a person would: ``int``, ``number, or None``, ``qmix | vdn``."""
    origin = get_origin(kind)
    if origin is Literal:
        return " | ".join(map(str, get_args(kind)))
    if origin in (Union, UnionType):
        return " | ".join(kind_in_words(item) for item in get_args(kind))
    if origin is tuple:
        inner = [item for item in get_args(kind) if item is not Ellipsis]
        return "several of: " + " | ".join(dict.fromkeys(kind_in_words(item) for item in inner))
    return {int: "int", float: "number", str: "text", bool: "switch", NoneType: "None"}.get(kind, str(kind))

"""From the command line and YAML files to settings: one parser for every verb, one line for every mistake."""

from __future__ import annotations

import importlib
import re
from collections.abc import Collection, Mapping, Sequence
from types import NoneType
from typing import Any, TypeVar, get_args

import yaml
from pydantic import TypeAdapter, ValidationError

from common.errors import InputError, nearest, shown
from experiments.settings.fields import Setting, canonical, hyphens, nearest_setting, settings_of, value_of
from experiments.settings.layers import merge, nested

T = TypeVar("T")
MOST_COUNTED = 10**15
"""Of whatever: more would overflow where it is multiplied by what it counts."""
_NO_TEXT = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")


def scan_flags(cls: type, argv: Sequence[str], *, aliases: Mapping[str, str] | None = None) -> dict[str, list[str]]:
    """Split a command line into settings and their words, without interpreting the words.

    Args:
        cls: The tree of settings.
        argv: Words after the program's name.
        aliases: Flat names and the settings they stand for, as ``{"capital": "floor.capital"}``.

    Returns:
        Dotted name -> words that followed it; a flag given twice counts once, the last time.

    Raises:
        InputError: for a flag that does not exist (naming the nearest), a word that belongs to no flag, a missing value
            or one too many.
    """
    settings, aliases = settings_of(cls), dict(aliases or {})
    known = {canonical(name): name for name in settings}
    known |= {canonical(key): name for key, name in aliases.items() if name in settings}
    found: dict[str, list[str]] = {}
    current: str | None = None
    for word in argv:
        if not word.startswith("--"):
            if current is None:
                raise InputError(f"unexpected argument {word!r}: settings are given as --name value")
            found[current].extend(_split(word) if settings[current].splits_at_commas else [word])
            continue
        flag, separator, value = word.partition("=")
        current, negated = _resolve(flag, known, settings)
        found[current] = ["False"] if negated else []
        if separator:
            found[current].extend(_split(value) if settings[current].splits_at_commas else [value])
    for name, words in found.items():
        setting = settings[name]
        if setting.is_switch:
            if not words:
                words.append("True")
            allowed = ("True", "False") if setting.kind is bool else ("True", "False", "None")
            if len(words) > 1 or words[0].capitalize() not in allowed:
                told = f"alone, or with {', '.join(allowed[:-1])} or {allowed[-1]}"
                raise InputError(f"{setting.flag} is a switch: {told}, not {' '.join(words)!r}")
            words[0] = words[0].capitalize()
        elif "" in words:
            raise InputError(f"{setting.flag} is '': it is empty; give a value, or leave it out")
        elif not words:
            raise InputError(f"{setting.flag} needs a value")
        elif len(words) > 1 and not setting.is_tuple:
            raise InputError(f"{setting.flag} takes one value, not {len(words)}: {' '.join(words)!r}")
    return found


def parse_flags(cls: type[T], flags: Mapping[str, Sequence[str]], *, base: Mapping[str, Any]) -> T:
    """Lay flags over a base and check the result.

    Args:
        cls: The tree of settings.
        flags: What ``scan_flags`` found.
        base: Differences from the defaults, nested, already checked for unknown keys (see ``check_keys``).

    Raises:
        InputError: if a value cannot be read or is not allowed; the line names the flag, the value and what is allowed.
    """
    settings = settings_of(cls)  # type: ignore[arg-type]
    given = nested({name: _raw(settings[name], words) for name, words in flags.items()})
    return build_settings(cls, merge(base, given), where="", as_flags=flags.keys())


def build_settings(cls: type[T], values: Mapping[str, Any], *, where: str, as_flags: Sequence[str] | Any = ()) -> T:
    """Check nested values against a tree of settings and make it.

    Args:
        cls: The tree of settings.
        values: Differences from the defaults.
        where: What the values come from ("results/dow/config.json"), put before the message; empty for a command line.
        as_flags: Dotted names that came as flags, which the message then names as flags.

    Raises:
        InputError: one line for the first mistake.
    """
    try:
        made = TypeAdapter(cls).validate_python(values)
        message = _wrong_value(made, as_flags)
    except ValidationError as error:
        message = explain(error, cls, as_flags=tuple(as_flags))
    if message:
        raise InputError(f"{where}: {message}" if where else message) from None
    return made


def _wrong_value(config: Any, as_flags: Collection[str]) -> str:
    """What no setting may be, whatever its type: a number that no counter holds, or text that is none; else nothing."""
    for name, setting in settings_of(type(config)).items():  # type: ignore[arg-type]
        value = value_of(config, name)
        for item in value if isinstance(value, tuple) else (value,):
            is_huge = isinstance(item, int) and abs(item) > MOST_COUNTED
            is_no_text = isinstance(item, str) and _NO_TEXT.search(item) is not None
            if is_huge or is_no_text:
                why = f"at most {MOST_COUNTED} is counted" if is_huge else "it holds what is no text"
                return f"{setting.flag if name in as_flags else name} is {shown(item)}: {why}"
    return ""


def dump_settings(config: Any) -> dict[str, Any]:
    """Give a tree of settings as nested plain values, all of them, as JSON holds them."""
    return TypeAdapter(type(config)).dump_python(config, mode="json")


def explain(error: ValidationError, cls: type, *, as_flags: Sequence[str] = ()) -> str:
    """Say in one line what pydantic found wrong first.

    Args:
        error: What pydantic raised for ``cls``.
        cls: The tree of settings that was being made.
        as_flags: Dotted names to be named as flags.
    """
    settings = settings_of(cls)
    details = error.errors(include_url=False)
    first = details[0]
    name = _setting_name(first["loc"], settings)
    setting = settings.get(name)
    named = setting.flag if setting is not None and name in as_flags else name
    given = first.get("input")
    more = (
        f" (and {len(details) - 1} more)" if len({_setting_name(item["loc"], settings) for item in details}) > 1 else ""
    )
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"unknown setting {name!r}{nearest(name, settings)}{more}"
    if setting is not None and setting.choices and first["type"] == "literal_error":
        meant = nearest(str(given), setting.choices) or f": choose one of {', '.join(map(str, setting.choices))}"
        return f"{named} is {shown(given)}, which does not exist{meant}{more}"
    message = first["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if setting is None:  # a check of several settings together
        return f"{message}{more}"
    message = message[0].lower() + message[1:]
    return f"{named} is {shown(given)}: {message}{more}"


def import_object(name: str, *, flag: str, example: str) -> Any:
    """Import what the user has named as ``module:object``, a class or a function.

    Args:
        name: What was given.
        flag: The flag that it follows, for messages.
        example: One that would do, for messages.

    Raises:
        InputError: if it cannot be imported or called.
    """
    module, colon, attribute = name.partition(":")
    if not colon or not module or not attribute:
        raise InputError(f"{flag} is {name!r}: give module:object, as in {example}")
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise InputError(f"{flag} {name} cannot be imported ({error}): is its folder on PYTHONPATH?") from None
    if not callable(found):
        raise InputError(f"{flag} {name} is {type(found).__name__}: name a class or a function")
    return found


def named_values(words: Sequence[str], *, flag: str) -> dict[str, Any]:
    """Read ``name=value`` words; values as YAML reads them.

    Args:
        words: The words.
        flag: The flag that they follow, for messages.

    Raises:
        InputError: if a word is not of that form.
    """
    joined: list[str] = []  # the command line parts lists of values at their commas
    for word in words:
        joined[-1:] = [f"{joined[-1]},{word}"] if joined and "=" not in word else [*joined[-1:], word]
    found = {}
    for word in joined:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise InputError(f"{flag} {word}: give name=value, as in reward=team")
        try:
            found[name.replace("-", "_")] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise InputError(f"{flag} {word}: the value cannot be read") from None
    return found


def _resolve(flag: str, known: Mapping[str, str], settings: Mapping[str, Setting]) -> tuple[str, bool]:
    """Find the setting that a flag means, and whether it switches it off."""
    asked = canonical(flag[2:])
    if asked in known:
        return known[asked], False
    head, _, leaf = asked.rpartition(".")
    if leaf.startswith("no_"):
        positive = f"{head}.{leaf[3:]}" if head else leaf[3:]
        if positive in known and settings[known[positive]].is_switch:
            return known[positive], True
    flags = {hyphens(name): None for name in known}
    hint = nearest_setting(flag[2:], flags).replace("'", "'--", 1) if flags else ""
    raise InputError(f"unknown flag {flag}{hint}; --help all lists them")


def _split(words: str) -> list[str]:
    return [word for word in words.split(",") if word]


def _raw(setting: Setting, words: Sequence[str]) -> Any:
    if list(words) == ["None"] and NoneType in get_args(setting.kind):
        return None
    return list(words) if setting.is_tuple and (len(words) > 1 or setting.splits_at_commas) else words[0]


def _setting_name(loc: Sequence[Any], settings: Mapping[str, Setting]) -> str:
    """Give the dotted name in pydantic's location, which goes on into union members and indices."""
    parts: list[str] = []
    for part in loc:
        parts.append(str(part))
        if ".".join(parts) in settings:
            break
    return ".".join(parts)

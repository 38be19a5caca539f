"""``--help``: the flags that matter and the groups, one group, or everything; plain text as wide as the screen."""

from __future__ import annotations

import dataclasses
import inspect
import shutil
import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import get_type_hints

from common.errors import InputError
from experiments.settings.fields import Setting, canonical, hyphens, kind_in_words, nearest_setting, settings_of

_WIDEST = 120
_FLAG_COLUMNS = 34
_ALL = "all"


def asks_for_help(argv: Sequence[str]) -> bool:
    """Whether a command line asks what can be set."""
    return any(word in ("-h", "--help") for word in argv)


def print_help(
    cls: type,
    argv: Sequence[str],
    *,
    prog: str,
    description: str,
    main: Collection[str] = (),
    aliases: Mapping[str, str] | None = None,
    own: type | None = None,
    without: Collection[str] = (),
    words: str = "",
) -> None:
    """Print what can be set: what matters most, or what the word after ``--help`` names.

    Args:
        cls: The tree of settings.
        argv: Words after the program's name: ``--help``, ``--help floor.costs``, ``--help all``.
        prog: Name of the command.
        description: What it does.
        main: Dotted names of the settings that matter most; empty takes those that are in no group.
        aliases: Flat names and the settings they stand for.
        own: More settings, of the command itself, which come first and whole.
        without: Dotted names of settings that the command does not take.
        words: What the command takes before its flags.

    Raises:
        InputError: if there is no group or setting of the name that is asked for.
    """
    first = settings_of(own) if own is not None else {}
    settings = {**first, **{name: item for name, item in settings_of(cls).items() if name not in without}}
    groups = groups_of(cls)
    short = {name: alias for alias, name in (aliases or {}).items() if name in settings}
    asked = _asked(argv)
    named = asked if asked in (None, _ALL) else _named(asked, [*groups, *settings], short)
    usage = " ".join(filter(None, [prog, words, "[--name value ...]"]))
    print(f"usage: {usage}\n\n{_wrapped(' '.join(description.split()))}\n")
    if named is None:
        shown = {*first, *(main or (name for name in settings if "." not in name))}
        _print_flags([item for name, item in settings.items() if name in shown], short)
        if groups:
            print("\ngroups, each with flags of its own (--help GROUP shows them):")
            for name, group in groups.items():
                print(_row(name, _first_paragraph(group)))
            print(f"\n--help {_ALL} shows every flag.")
    elif named == _ALL:
        _print_flags(settings.values(), short)
    else:
        if named in groups:
            print(f"{_wrapped(f'{named}: {_first_paragraph(groups[named])}')}\n")
        _print_flags([item for key, item in settings.items() if key == named or key.startswith(f"{named}.")], short)


def groups_of(cls: type, head: str = "") -> dict[str, type]:
    """The groups of a tree of settings by their dotted names, each before those inside it."""
    found: dict[str, type] = {}
    hints = get_type_hints(cls)
    for item in dataclasses.fields(cls):
        if dataclasses.is_dataclass(kind := hints[item.name]):
            assert isinstance(kind, type)
            found |= {f"{head}{item.name}": kind} | groups_of(kind, f"{head}{item.name}.")
    return found


def _asked(argv: Sequence[str]) -> str | None:
    """The word after ``--help``, if there is one."""
    after = next(i for i, word in enumerate(argv) if word in ("-h", "--help")) + 1
    return argv[after] if after < len(argv) and not argv[after].startswith("--") else None


def _named(asked: str, names: Sequence[str], short: Mapping[str, str]) -> str:
    """The group or setting of a name, or of one that is short for it.

    Raises:
        InputError: if there is none; the nearest is named.
    """
    known = {canonical(name): name for name in names} | {canonical(alias): name for name, alias in short.items()}
    if canonical(asked) not in known:
        hint = nearest_setting(asked, map(hyphens, known.values()))
        raise InputError(f"--help {asked}: there is no such group or flag{hint}; --help lists the groups")
    return known[canonical(asked)]


def _print_flags(settings: Collection[Setting], short: Mapping[str, str]) -> None:
    for item in settings:
        flag = f"--{hyphens(short[item.name])}, {item.flag}" if item.name in short else item.flag
        shown = " ".join(map(str, item.default)) if isinstance(item.default, tuple) else str(item.default)
        default = "off" if item.default is False else "on" if item.default is True else shown or "none"
        print(_row(flag, f"{item.help} [{kind_in_words(item.kind)}; default: {default}]"))


def _row(name: str, text: str) -> str:
    """A name and, beside or below it, its text."""
    lines = textwrap.wrap(text, max(_columns() - _FLAG_COLUMNS, 30), break_on_hyphens=False)
    head = f"  {name}"
    below = textwrap.indent("\n".join(lines), " " * _FLAG_COLUMNS)
    return f"{head}\n{below}" if len(head) > _FLAG_COLUMNS - 2 else head + below[len(head) :]


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _columns(), break_on_hyphens=False)


def _columns() -> int:
    return min(shutil.get_terminal_size().columns, _WIDEST)


def _first_paragraph(cls: type) -> str:
    return " ".join((inspect.getdoc(cls) or "").partition("\n\n")[0].split())

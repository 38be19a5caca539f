"""Flags of every verb: each is read as what it names, and sets nothing else."""

import dataclasses
from typing import get_args

import pytest
from verbs import VERBS

from common.errors import InputError
from experiments.settings.arguments import build_settings, parse_flags, scan_flags
from experiments.settings.fields import settings_of, value_of
from experiments.settings.run_config import RunConfig


def read(cls, *words):
    return parse_flags(cls, scan_flags(cls, list(words)), base={})


def set_by_hand(config, name, value):
    """A tree of settings with one of them changed."""
    head, _, rest = name.partition(".")
    return dataclasses.replace(config, **{head: set_by_hand(getattr(config, head), rest, value) if rest else value})


def values_beside(setting, value):
    """Values of its kind other than this one."""
    if setting.is_switch:
        return [not value]
    if setting.choices:
        return [(word,) if setting.is_tuple else word for word in setting.choices if word != value][:1]
    if setting.is_tuple:
        alone = () if setting.splits_at_commas else ("one, and more",)
        return [value[::-1] if value else ("other", "another"), *alone]
    if str in (setting.kind, *get_args(setting.kind)):
        return ["other"]
    number = 1 if value is None else value
    return [number + 1, number / 2 if isinstance(number, float) else 0]


@pytest.mark.parametrize("cls", VERBS)
def test_every_flag_sets_what_it_names_and_nothing_else(cls):
    whole, unchanged = build_settings(cls, {}, where=""), set(settings_of(cls))
    for name, setting in settings_of(cls).items():
        value = value_of(whole, name)
        for wanted in (value, *values_beside(setting, value)):
            words = [*map(str, wanted)] if isinstance(wanted, tuple) else [str(wanted)]
            if not any(words):
                continue
            try:
                expected = set_by_hand(whole, name, wanted)
            except ValueError:
                with pytest.raises(InputError):
                    read(cls, setting.flag, *words)
                continue
            found = read(cls, setting.flag, *words)
            assert found == expected, (name, words)
            assert type(value_of(found, name)) is type(wanted) or isinstance(wanted, int), (name, words)
            if wanted != value:
                unchanged.discard(name)
    assert len(unchanged) <= len(settings_of(cls)) / 10, "nearly all take another value"


@pytest.mark.parametrize("word", ["48", "48.0", "048", "4_8"])
def test_whole_numbers_are_read_as_a_file_of_settings_has_them(word):
    assert read(RunConfig, "--episodes", word).episodes == 48


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["--ppo.use-shared-networks"], True),
        (["--ppo.no-use-shared-networks"], False),
        (["--ppo.use-shared-networks", "false"], False),
        (["--ppo.use-shared-networks", "none"], None),
    ],
)
def test_switch_that_may_be_left_open_is_a_switch(words, value):
    assert read(RunConfig, *words).ppo.use_shared_networks is value


def test_switch_takes_no_other_words():
    with pytest.raises(InputError, match="is a switch: alone, or with True, False or None, not 'yes'"):
        read(RunConfig, "--ppo.use-shared-networks", "yes")

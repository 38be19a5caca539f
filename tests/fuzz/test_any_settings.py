"""Settings of any kind: taken by all that is built of them, or refused in one line that names the setting."""

from types import NoneType
from typing import Literal, get_args, get_origin

import pytest
from fuzzing import ANYTHING, FUZZ, fuzz, refused
from hypothesis import assume, given
from hypothesis import strategies as st
from verbs import VERBS

from algos.registry import algorithms
from experiments.builders.algorithms import check_algorithm
from experiments.builders.environments import environment_of
from experiments.settings.arguments import build_settings, parse_flags, scan_flags
from experiments.settings.command import check_combination, read_command, settle
from experiments.settings.fields import settings_of
from experiments.settings.help import asks_for_help
from experiments.settings.layers import check_keys, merge, nested
from experiments.settings.run_config import RunConfig, config_from_json

pytestmark = pytest.mark.fuzz
WHOLE = st.sampled_from([0, 1, 2, 3, 5, 64, -1, 10**5, 10**9, 2**31, 2**63, 10**18, 10**30, 10**400, True])
REAL = st.sampled_from([0.0, 0.5, 1.0, 1e-9, 5e-324, 1e300, -1.0, 3.7, float("nan"), float("inf"), 1e13]) | st.floats()
TEXT = st.sampled_from(
    [
        "",
        " ",
        "ü",
        "../x",
        "/",
        "/etc",
        "a" * 5000,
        "\0",
        "None",
        "1d",
        "2016-01-01",
        "0",
        "-",
        "--x",
        "a,b",
        "NaT",
        "\ud800",
    ]
) | st.text(max_size=6)


def values_of(kind):
    """Values of a kind, in range or not."""
    origin = get_origin(kind)
    if origin is Literal:
        return st.sampled_from(get_args(kind))
    if origin is tuple:
        inner = [values_of(item) for item in get_args(kind) if item is not Ellipsis]
        return st.lists(st.one_of(inner), max_size=5)
    if get_args(kind):
        return st.one_of([values_of(item) for item in get_args(kind)])
    return {int: WHOLE, float: REAL | WHOLE, bool: st.booleans(), str: TEXT, NoneType: st.none()}.get(kind, ANYTHING)


def chosen(cls, prefixes=("",)):
    """A few settings of a tree with values, most of their own kinds."""
    settings = [s for s in settings_of(cls).values() if s.name.startswith(prefixes)]
    one = st.sampled_from(settings).flatmap(
        lambda s: st.tuples(st.just(s), st.integers(0, 7).flatmap(lambda i: values_of(s.kind) if i else ANYTHING))
    )
    return st.lists(one, min_size=1, max_size=3, unique_by=lambda pair: pair[0].name)


def words_of(pairs):
    words = []
    for setting, value in pairs:
        items = value if isinstance(value, list) else [value]
        words += [setting.flag, *(str(item) for item in items)]
    return words


def names_one(said, pairs):
    """Whether a line names one of the settings, as a flag or as in a file."""
    return any(part in said for s, _ in pairs for part in (s.name, s.flag, s.name.rpartition(".")[2], s.flag[2:]))


@pytest.mark.parametrize("cls", VERBS, ids=lambda cls: cls.__name__)
@fuzz(parts=len(VERBS))
@given(data=st.data())
def test_any_words_and_any_file_are_taken_or_refused(cls, data):
    pairs = data.draw(chosen(cls))
    words = words_of(pairs)
    said = refused(lambda: parse_flags(cls, scan_flags(cls, words), base={}))
    assert not said or names_one(said, pairs) or any(word in said for word in words), said
    tree = nested({setting.name: value for setting, value in pairs})
    said = refused(lambda: build_settings(cls, check_keys(tree, cls, where="mine.yaml"), where="mine.yaml"))
    assert not said or names_one(said, pairs), said
    refused(
        lambda: build_settings(
            cls, check_keys(data.draw(st.dictionaries(st.text(), ANYTHING)), cls, where="f"), where="f"
        )
    )


SMALL = {"data": {"synthetic": {"num_assets": 3, "num_bars": 400}}, "floor": {"horizon_bars": 20}}


@FUZZ
@given(pairs=chosen(RunConfig, ("data.", "desk.", "floor.")))
def test_what_is_taken_makes_a_floor_or_is_refused(pairs):
    tree = nested({setting.name: value for setting, value in pairs})
    refused(lambda: environment_of(config_from_json(merge(SMALL, tree))).team.reset(0))


@pytest.mark.parametrize("algo", algorithms())
@fuzz(parts=len(algorithms()))
@given(data=st.data())
def test_what_is_taken_makes_an_algorithm_or_is_refused(algo, data):
    declared = algorithms()[algo]
    pairs = data.draw(chosen(RunConfig, (f"{declared.group}.", "runner", "clock", "checkpoint_", "scaling.")))
    tree = nested({setting.name: value for setting, value in pairs})
    own = {"algo": algo} | ({} if "discrete" in declared.actions else {"desk": {"action": "continuous"}})

    def build():
        config = config_from_json(merge(merge(SMALL, own), tree))
        check_combination(config, [setting.name for setting, _ in pairs])
        check_algorithm(config, environment_of(config))

    refused(build)


@FUZZ
@given(pairs=chosen(RunConfig))
def test_any_command_is_settled_or_refused(pairs):
    words = words_of(pairs)
    assume(not asks_for_help(words))

    def read():
        command = read_command(words)
        settle(command, below=command.preset, name="x")

    refused(read)

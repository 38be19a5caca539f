"""What ``--help`` shows, and which guesses are made."""

import re
from contextlib import suppress

import pytest
from verbs import VERBS

from common.errors import InputError, nearest
from experiments import audit, backtest, bench, checkpoints, config, evaluate, run, score
from experiments.runs.run import find_run
from experiments.settings.algorithm_flags import OF_ALGO
from experiments.settings.command import ALIASES, MAIN_SETTINGS
from experiments.settings.fields import hyphens, nearest_setting, settings_of
from experiments.settings.help import groups_of
from experiments.settings.run_config import RunConfig

FLAGS = [hyphens(name) for name in (*settings_of(RunConfig), *ALIASES, *OF_ALGO)]


def shown(capsys, *words):
    """Flags that begin a row of the help."""
    with pytest.raises(SystemExit) as caught:
        find_run(["--help", *words])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    return {word for line in re.findall(r"^  (--\S.*)", out, re.MULTILINE) for word in re.findall(r"--[\w.-]+", line)}


def test_help_shows_what_matters_and_names_the_groups(capsys):
    assert set(MAIN_SETTINGS) <= set(settings_of(RunConfig))
    flags = {settings_of(RunConfig)[name].flag for name in MAIN_SETTINGS}
    assert shown(capsys) - {"--help"} == flags | {f"--{hyphens(name)}" for name in (*ALIASES, *OF_ALGO)}
    assert len(MAIN_SETTINGS) <= 23
    with pytest.raises(SystemExit):
        find_run(["--help"])
    out = capsys.readouterr().out
    assert [
        name for name in groups_of(RunConfig) if not re.search(rf"^  {re.escape(name)} +\w", out, re.MULTILINE)
    ] == []


@pytest.mark.parametrize("group", list(groups_of(RunConfig)))
def test_help_shows_a_group_whole(group, capsys):
    expected = {item.flag for name, item in settings_of(RunConfig).items() if name.startswith(f"{group}.")}
    assert {flag for flag in shown(capsys, group) if "." in flag} == expected


def test_help_shows_everything(capsys):
    assert {item.flag for item in settings_of(RunConfig).values()} <= shown(capsys, "all")


def test_help_of_a_flag_has_its_default_and_meaning(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    with pytest.raises(SystemExit):
        find_run(["--help", "capital"])
    out = capsys.readouterr().out
    assert "--capital, --floor.capital" in out
    assert "default: 1000000.0" in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 64


def test_help_refuses_a_group_that_does_not_exist(capsys):
    with pytest.raises(InputError, match=r"--help floor\.cost: .*did you mean 'floor\.costs'"):
        find_run(["--help", "floor.cost"])
    assert capsys.readouterr().out == ""


def test_help_of_a_verb_around_runs_shows_its_own_flags_by_their_names(capsys):
    assert evaluate.run(["--help"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^  --folds ", out, re.MULTILINE)
    assert "--walk." not in out
    assert evaluate.run(["--help", "folds"]) == 0
    assert "--folds" in capsys.readouterr().out


FLAGS_OF_ALL = [setting.flag for cls in VERBS for setting in settings_of(cls).values()]
FLAGS_OF_ALL += [f"--{hyphens(name)}" for name in (*ALIASES, *OF_ALGO)]


def told_by(verb, capsys):
    """All flags in a verb's help."""
    with suppress(SystemExit):
        verb.run(["--help", "all"])
    out = capsys.readouterr().out
    assert out.lower().count("usage:") == 1
    rows = re.findall(r"^  (--\S.*)", out, re.MULTILINE)
    return {flag for row in rows for flag in re.findall(r"--[\w.-]+", row.partition("  ")[0])}


def is_taken(verb, flag):
    """Whether the verb complains of the second flag alone."""
    with pytest.raises(InputError) as caught:
        verb.run([flag, "--no-such-flag"])
    return "--no-such-flag" in str(caught.value)


@pytest.mark.parametrize("verb", [audit, backtest, bench, checkpoints, config, run, score], ids=lambda v: v.__name__)
def test_help_shows_the_flags_that_a_verb_takes_and_no_others(verb, capsys):
    assert told_by(verb, capsys) == {flag for flag in FLAGS_OF_ALL if is_taken(verb, flag)}


def test_help_of_a_walk_forward_shows_its_own_flags_and_those_of_a_run_that_it_takes(capsys):
    own = {setting.flag for setting in settings_of(evaluate.WalkConfig).values()}
    refused = {settings_of(RunConfig)[name].flag for name in evaluate.SET_HERE}
    for flag in refused:
        with pytest.raises(InputError, match="is set by each fold, or not for many runs"):
            evaluate.run([flag] if flag in ("--skip-training", "--trust") else [flag, "x"])
    assert told_by(evaluate, capsys) == told_by(run, capsys) - refused | own


def test_alias_of_the_gpus_sets_them():
    found = find_run(["--gpu", "0.5", "--resume", "never"])
    assert found.config.scaling.num_gpus_per_learner == 0.5
    assert "scaling.num_gpus_per_learner" in found.by_hand


@pytest.mark.parametrize(
    "word",
    ["foo", "bar", "zzz", "xyzzy", "banana", "asdf", "lorem", "colour", "verbose", "x", "batch", "red", "symbols",
     "qmix.banana", "floor.foo", "zzz.lr", "qmix.xyzzy-banana"],
)  # fmt: skip
def test_no_guess_is_made_at_what_is_not_near(word):
    assert nearest_setting(word, FLAGS) == ""


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("captal", "capital"), ("epsiodes", "episodes"), ("sed", "seed"), ("nmae", "name"), ("stoarge", "storage"),
        ("qqmix.hidden", "qmix.hidden"), ("qmix.lrr", "qmix.lr"), ("lr", "qmix.lr"), ("hidden", "qmix.hidden"),
        ("trials", "search.num-trials"), ("num-env-runners", "scaling.num-env-runners"), ("data.pth", "data.path"),
        ("dta.path", "data.path"), ("serach.num-trials", "search.num-trials"), ("gpus", "gpu"),
        ("check-point-interval", "checkpoint-interval"), ("floor.cost.half-spread", "floor.costs.half-spread-bps"),
    ],
)  # fmt: skip
def test_what_was_probably_meant_is_named(word, meant):
    assert nearest_setting(word, FLAGS) == f" (did you mean {meant!r}?)"


def test_short_words_are_not_near_long_ones():
    assert nearest("foo", ["floor", "games"]) == ""
    assert nearest("lsit", ["list", "verify"]) == " (did you mean 'list'?)"

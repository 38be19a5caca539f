"""Every command that reads a run folder, or an address in a store, which somebody else may have written."""

import re

import pytest

from common.errors import IncompatibleError, InputError
from experiments.backtest import run as backtest
from experiments.checkpoints import run as checkpoints
from experiments.command_line import exit_code
from experiments.run import run as train
from experiments.runs.models import load_policy
from experiments.runs.restorable import let_go, restorable

REFUSED = re.compile(r"which is no path in its folder|leads out of|neither a file nor a folder")
"""How it is said that something of a run leads out of it."""


def refused(verb, *words):
    assert exit_code(verb, [str(word) for word in words]) == 2


def listed(path, tmp_path):
    exit_code(checkpoints, ["list", str(path)])


def loaded(path, tmp_path):
    with pytest.raises((InputError, IncompatibleError)) as error:
        load_policy(path)
    print(error.value)


def restored(path, tmp_path):
    with pytest.raises(InputError) as error:
        restorable(path, report=print)
    print(error.value)
    let_go()


def carried_on(path, tmp_path):
    folder, _, options = str(path).partition("?")
    storage, _, name = folder.rpartition("/")
    refused(train, "--storage", f"{storage}{'?' if options else ''}{options}", "--name", name)


def new(flag):
    return lambda path, tmp_path: refused(train, "--storage", tmp_path / "mine", "--name", "new", flag, path)


READERS = {
    "list": listed,
    "load_policy": loaded,
    "backtest": lambda path, tmp_path: refused(backtest, "--model", path),
    "export": lambda path, tmp_path: refused(checkpoints, "export", path, "--out", tmp_path / "mine" / "out"),
    "resume": carried_on,
    "--resume": lambda path, tmp_path: refused(train, "--resume", path),
    "--load-model": new("--load-model"),
    "--branch-from": new("--branch-from"),
    "Tuner.restore": restored,
}
"""None may go through with what the tests give it, and each says why."""
OF_MODELS = ("load_policy", "backtest", "export", "--load-model", "--branch-from")
"""Those that take the model which the summary names."""
OF_RUNS = ("resume", "--resume", "Tuner.restore")
"""Those that go on from where the run stands."""

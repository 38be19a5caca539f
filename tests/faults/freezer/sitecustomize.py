"""Python runs this at the start of every process that finds it first on its path: it freezes one at a chosen instant.

``FREEZE_AT`` names the instant as ``module:attribute:before|after:count``. The process that calls the function for the
chosen time writes ``FREEZE_MARKER`` and stops itself, so that whoever watches can kill the whole command exactly
there. Nothing in the product knows of this.
"""

import functools
import importlib.abc
import importlib.machinery
import importlib.util
import os
import signal
import sys


def _freeze() -> None:
    marker = os.environ["FREEZE_MARKER"]
    with open(f"{marker}.new", "w") as file:
        file.write(str(os.getpid()))
    os.rename(f"{marker}.new", marker)
    os.kill(os.getpid(), signal.SIGSTOP)


def _frozen(function, moment, count):
    calls = 0

    @functools.wraps(function)
    def call(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == count and moment == "before":
            _freeze()
        result = function(*args, **kwargs)
        if calls == count and moment == "after":
            _freeze()
        return result

    return call


class _Loader(importlib.abc.Loader):
    """Loads a module as it is, then wraps one function in it."""

    def __init__(self, inner, attribute, moment, count):
        self._inner, self._attribute, self._moment, self._count = inner, attribute, moment, count

    def create_module(self, spec):
        return self._inner.create_module(spec)

    def exec_module(self, module):
        self._inner.exec_module(module)
        *path, name = self._attribute.split(".")
        owner = functools.reduce(getattr, path, module)
        setattr(owner, name, _frozen(getattr(owner, name), self._moment, self._count))


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, module, *what):
        self._module, self._what = module, what

    def find_spec(self, name, path=None, target=None):
        if name != self._module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, *self._what)
        return spec


if "FREEZE_AT" in os.environ:
    _module, _attribute, _moment, _count = os.environ["FREEZE_AT"].split(":")
    sys.meta_path.insert(0, _Finder(_module, _attribute, _moment, int(_count)))

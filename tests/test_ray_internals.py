"""What Ray keeps to itself is still there: after an upgrade this is the first test to read."""

import importlib
import inspect

import pytest
from test_architecture import ROOT, SOURCES, imported_modules

from algos import ray_internals as of_algos
from experiments.tuning import ray_internals as of_tuning

OWNERS = of_algos.PRIVATE_NAMES | of_tuning.PRIVATE_NAMES
NAMES = [(owner, name) for owner, names in OWNERS.items() for name in names]


def owner_of(path):
    """A class or a function of Ray's, by module and name."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("owner", OWNERS)
def test_owner_of_private_names_is_still_there(owner):
    assert callable(owner_of(owner))


@pytest.mark.parametrize(("owner", "name"), NAMES)
def test_private_name_is_still_there(owner, name):
    found = owner_of(owner)
    sources = [inspect.getsource(base) for base in found.__mro__ if base.__module__.startswith("ray.")]
    assert hasattr(found, name) or any(
        f"self.{name} " in s or f"self.{name}:" in s or f'"{name}"' in s for s in sources
    )


def test_no_other_file_imports_what_is_private():
    def is_private(module):
        return module.startswith("ray.") and any(
            part.startswith("_") and part != "__init__" for part in module.split(".")
        )

    others = [path for path in SOURCES if path.name != "ray_internals.py"]
    assert {str(path.relative_to(ROOT)): m for path in others for m in imported_modules(path) if is_private(m)} == {}

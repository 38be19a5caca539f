"""What Ray keeps to itself is still there: after an upgrade this is the first test to read."""

import importlib
import inspect

import pytest
from test_architecture import ROOT, SOURCES, imported_modules

from algos import ray_internals as of_algos
from experiments.tuning import ray_internals as of_tuning

NAMES = [
    (owner, name) for room in (of_algos, of_tuning) for owner, names in room.PRIVATE_NAMES.items() for name in names
]


@pytest.mark.parametrize(("owner", "name"), NAMES)
def test_private_name_is_still_there(owner, name):
    module, _, cls = owner.partition(":")
    found = getattr(importlib.import_module(module), cls)
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

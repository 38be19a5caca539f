"""What every test shares: Ray's environment variables, set before anything imports Ray, and one Ray session."""

import os
from collections.abc import Iterator
from pathlib import Path

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 starves workers on a machine that does anything else
# Threads that wait for each other on a busy machine made the small networks of these tests ten times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

LONG = ("faults", "integration")
"""Folders whose files take minutes each."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long files first, so that of several processes none works on alone at the end (``make test``)."""
    items.sort(key=lambda item: item.path.parent.name not in LONG)


@pytest.fixture(scope="session")
def ray_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A local Ray whose workers can import the modules beside this file, and open the store of ``stores.endpoint``."""
    import ray
    from stores import CREDENTIALS

    here = Path(__file__).parent
    # The root comes first: tests/experiments would otherwise pass for a part of the package of that name.
    folders = [str(here.parent), str(here)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", os.pathsep.join(filter(None, [*folders, os.environ.get("PYTHONPATH")])))
        patched.setenv("TRADING_FLOOR_WORK", str(tmp_path_factory.mktemp("work")))
        for name, value in CREDENTIALS.items():
            patched.setenv(name, value)
        ray.init(address="local", include_dashboard=False, num_cpus=8, logging_level="error", log_to_driver=False)
        yield
        ray.shutdown()

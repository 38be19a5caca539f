"""Two machines and one store."""

import pytest
from machines import Machine


@pytest.fixture
def address(tmp_path):
    return f"file://{tmp_path}/store/dow"


@pytest.fixture
def first(tmp_path, address):
    machine = Machine(tmp_path / "first", address)
    machine.start()
    return machine


@pytest.fixture
def second(tmp_path, address):
    return Machine(tmp_path / "second", address)

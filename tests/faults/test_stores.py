"""A run in a real S3 endpoint survives what a run on a disk survives."""

import pytest
from killing import Campaign
from store_accidents import STORE_ACCIDENTS, Run
from stores import endpoint


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return Campaign(tmp_path_factory.mktemp("reference")).reference("qmix")


@pytest.fixture(scope="module")
def store():
    with endpoint() as server:
        yield server


def test_on_another_machine_the_same_command_carries_on_exactly(store, reference, tmp_path):
    assert STORE_ACCIDENTS["the machine is lost"](Run(store, tmp_path, "lost"), reference) == ""


@pytest.mark.faults
@pytest.mark.parametrize("kind", [kind for kind in STORE_ACCIDENTS if kind != "the machine is lost"])
def test_accidents_in_a_store_change_nothing(store, reference, tmp_path, kind):
    assert STORE_ACCIDENTS[kind](Run(store, tmp_path, kind.replace(" ", "-")), reference) == ""

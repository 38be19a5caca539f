"""A run in a real S3 endpoint survives what a run on a disk survives."""

import pytest
from commands import readme_script, run_script, summary
from store_accidents import SILENCE_S, STORE_ACCIDENTS, Run
from stores import endpoint

from common.store import join


@pytest.fixture(scope="module")
def reference(references):
    return references.of("qmix")


@pytest.fixture(scope="module")
def store():
    with endpoint() as server:
        yield server


def test_on_another_machine_the_same_command_carries_on_exactly(store, reference, tmp_path):
    assert STORE_ACCIDENTS["the machine is lost"](Run(store, tmp_path, "lost"), reference) == ""


@pytest.mark.faults
def test_plain_tune_carries_on_from_an_address_exactly(store, reference, tmp_path):
    run = Run(store, tmp_path, "plain")
    run.interrupted("first")
    run.lose()
    script = readme_script("Tuner.restore").replace("results/dow", join(store.storage, run.name))
    done = run_script(script + "assert not results.num_errors\n", **store.env(run.folder / "second"))
    assert done.returncode == 0, done.stderr
    found, wanted = summary(run.here("second")), summary(reference)
    same = ("episodes", "env_steps", "weights_sha256", "best_metric", "metrics", "latest_checkpoint")
    assert {name: found[name] for name in same} == {name: wanted[name] for name in same}
    assert run.checkpoints()[-1] == found["latest_checkpoint"].split("/")[-1], "and the store has it"


@pytest.mark.faults
@pytest.mark.timeout(2 * SILENCE_S)
@pytest.mark.parametrize("kind", [kind for kind in STORE_ACCIDENTS if kind != "the machine is lost"])
def test_accidents_in_a_store_change_nothing(store, reference, tmp_path, kind):
    assert STORE_ACCIDENTS[kind](Run(store, tmp_path, kind.replace(" ", "-")), reference) == ""

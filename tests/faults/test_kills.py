"""Short forms of what ``make faults`` tries: each run ends as the one that nothing happened to, bit for bit."""

import signal
import tempfile
from pathlib import Path

import accidents
import pytest
from killing import PHASES, RUNS, Campaign


@pytest.fixture(scope="module")
def campaign(tmp_path_factory, references):
    return Campaign(tmp_path_factory.mktemp("kills"), references=references)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    return accidents.interrupted_run(tmp_path_factory.mktemp("base") / "interrupted")


def faults_of(campaign):
    return [fault for tally in campaign.tallies.values() for fault in tally.faults]


def test_kills_in_a_save_and_in_a_restore_change_nothing(campaign):
    assert campaign.run("qmix", ["between save and state", "restore"]) == 2, "it was over before it could be killed"
    assert faults_of(campaign) == []


@pytest.mark.parametrize("kind", ["flipped byte", "truncated experiment state"])
def test_damage_changes_nothing(campaign, interrupted, tmp_path, kind):
    assert accidents.carry_on_after(kind, interrupted, tmp_path / "damaged", campaign.reference("qmix")) == ""


@pytest.mark.faults
@pytest.mark.parametrize("name", RUNS)
def test_a_kill_in_every_phase_changes_nothing(campaign, name):
    campaign.run(name, [phase for phase in PHASES if phase != "any moment"])
    assert faults_of(campaign) == []


@pytest.mark.faults
@pytest.mark.parametrize("kind", [kind for kind in accidents.DAMAGE if kind != "flipped byte"])
def test_any_damage_changes_nothing(campaign, interrupted, tmp_path, kind):
    assert accidents.carry_on_after(kind, interrupted, tmp_path / "damaged", campaign.reference("qmix")) == ""


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_costs_nothing(campaign, tmp_path, number):
    assert accidents.interrupted_by(number, tmp_path / "run", campaign.reference("qmix")) == ""


def test_a_machine_that_is_stopped_costs_nothing(campaign, tmp_path):
    found = accidents.interrupted_by(signal.SIGTERM, tmp_path / "run", campaign.reference("qmix"), everyone=True)
    assert found == ""


@pytest.mark.faults
def test_plain_tune_carries_on_exactly(campaign, tmp_path):
    assert accidents.carried_on_by_tune(tmp_path / "run", campaign.reference("qmix")) == ""


@pytest.mark.faults
def test_processes_of_a_command_that_is_killed_end_too(campaign, tmp_path):
    assert accidents.killed_by_itself(tmp_path / "run", campaign.reference("qmix")) == ""


@pytest.mark.faults
def test_a_second_signal_stops_at_once(campaign, tmp_path):
    assert accidents.stopped_at_once(tmp_path / "run", campaign.reference("qmix")) == ""


@pytest.mark.faults
def test_first_signal_stops_at_once_where_no_checkpoint_is_wanted(campaign, tmp_path):
    assert accidents.stopped_without_a_checkpoint(tmp_path / "run", campaign.reference("qmix")) == ""


@pytest.mark.faults
def test_a_second_writer_is_refused(campaign, tmp_path):
    assert accidents.written_by_two(tmp_path / "run", campaign.reference("qmix")) == ""


@pytest.mark.faults
@pytest.mark.skipif(not accidents.can_mount(), reason="only root can mount a small disk")
def test_a_full_disk_and_a_read_only_folder_do_not_end_a_run(campaign, tmp_path):
    assert accidents.on_a_full_disk(tmp_path / "full", campaign.reference("qmix")) == ""
    assert accidents.on_a_disk_that_stays_full(tmp_path / "stays_full", campaign.reference("qmix")) == ""
    with tempfile.TemporaryDirectory() as short:  # the path of a socket may have 107 bytes
        assert accidents.on_a_full_disk(Path(short) / "all", campaign.reference("qmix"), holds_all=True) == ""
    assert accidents.on_a_read_only_folder(tmp_path / "read-only", campaign.reference("qmix")) == ""

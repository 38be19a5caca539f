"""A run folder that somebody sent: no name and no link in it leads a command to anything outside."""

import json
import os
import shutil
import zipfile

import pytest
from readers import OF_MODELS, OF_RUNS, READERS, REFUSED
from sample_runs import make_run
from tampering import content, rewrite

from common.errors import InputError
from common.manifests import find_damage, seal
from common.paths import check_tree, path_in
from experiments.checkpoints import run as checkpoints
from experiments.command_line import exit_code
from experiments.recovery.copies import copy_into
from experiments.recovery.lock import run_lock
from experiments.recovery.tune_files import put_back
from experiments.search.record import SearchRecord


@pytest.fixture
def sent(tmp_path):
    """The run that was sent, with a trial of two checkpoints."""
    folder = tmp_path / "sent" / "dow"
    make_run(folder)
    (folder / "trial_0").mkdir()
    for path in sorted(folder.glob("checkpoint_*"))[1:]:
        path.rename(folder / "trial_0" / path.name)
    shutil.rmtree(folder / "checkpoint_000001")
    named = {"latest_checkpoint": "trial_0/checkpoint_000003", "best_checkpoint": "trial_0/checkpoint_000002"}
    rewrite(folder / "summary.json", **named)
    return folder


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "/a", "a/../b", "../a", "a//b", "a/", "./a", "a\\b", "C:a", "a\0b", "a\nb", "\x9b", "\udc80",
     "a" * 256, "a/" * 600 + "b", 3, None, ["a"]],
)  # fmt: skip
def test_name_that_is_no_path_in_its_folder_is_refused(tmp_path, name):
    with pytest.raises(InputError, match=r"^config\.json names .*, which is no path in its folder: "):
        path_in(tmp_path, name, source="config.json")


@pytest.mark.parametrize("name", ["a", "trial_0/checkpoint_000001", ".hidden", "a b", "ü", "a..b", "ab:c", "a" * 255])
def test_name_in_a_folder_is_a_path_in_it(tmp_path, name):
    assert path_in(tmp_path, name, source="config.json") == tmp_path / name


def test_folder_that_is_a_link_and_links_in_it_are_followed_and_others_are_not(tmp_path):
    (tmp_path / "disk" / "dow" / "trial_0").mkdir(parents=True)
    (tmp_path / "dow").symlink_to(tmp_path / "disk" / "dow")
    (tmp_path / "dow" / "newest").symlink_to("trial_0")
    check_tree(tmp_path / "dow")
    assert path_in(tmp_path / "dow", "newest/x", source="s") == tmp_path / "dow" / "newest" / "x"
    (tmp_path / "dow" / "trial_1").symlink_to(tmp_path / "disk")
    with pytest.raises(InputError, match="leads out of"):
        check_tree(tmp_path / "dow")
    with pytest.raises(InputError, match="leads out of"):
        path_in(tmp_path / "dow", "trial_1/x", source="s")


def named(which, name):
    return lambda sent, others: rewrite(sent / "summary.json", **{f"{which}_checkpoint": name(sent, others)})


def damaged_elsewhere(name):
    """Name another run's checkpoint, which is damaged, so that it would be set aside."""

    def attack(sent, others):
        (others / "other" / "checkpoint_000002" / "more").write_text("x")
        rewrite(sent / "summary.json", best_checkpoint=name, latest_checkpoint=name)

    return attack


def gone_back_to(name):
    """Name another run's checkpoint as what the user has gone back to, in a record without a checksum."""
    named = {"checkpoint": name, "asked_at": "now"}
    return lambda sent, others: rewrite(sent / "config.json", resume_from=named, format=1)


def linked(name, target):
    def attack(sent, others):
        path = sent / name
        shutil.rmtree(path, ignore_errors=True)
        path.unlink(missing_ok=True)
        path.symlink_to(target(others))

    return attack


def pipe(name):
    def attack(sent, others):
        (sent / name).unlink(missing_ok=True)
        os.mkfifo(sent / name)

    return attack


BY_NAME = {
    "best is another run's": (named("best", lambda s, o: "../../others/other/checkpoint_000002"), OF_MODELS),
    "best is absolute": (named("best", lambda s, o: str(o / "other" / "checkpoint_000002")), OF_MODELS),
    "best is a number": (named("best", lambda s, o: 7), OF_MODELS),
    "newest is another run's": (named("latest", lambda s, o: "../../others/other/checkpoint_000003"), OF_RUNS),
    "damaged elsewhere": (damaged_elsewhere("../../others/other/checkpoint_000002"), (*OF_MODELS, *OF_RUNS)),
    "gone back to another run's": (gone_back_to("../../others/other/checkpoint_000002"), READERS),
}
"""Attacks by a name in a file, and who reads it."""
BY_LINK = {
    "trial is a link": linked("trial_0", lambda o: o / "other"),
    "checkpoint is a link": linked("trial_0/checkpoint_000002", lambda o: o / "other" / "checkpoint_000002"),
    "best is a link": linked("trial_0/best_checkpoint", lambda o: o / "other" / "checkpoint_000002"),
    "lock is a link": linked("run.lock", lambda o: o.parent / "victim"),
    "log is a link": linked("train.log", lambda o: o.parent / "victim"),
    "records are a link": linked("trial_0/result.json", lambda o: o.parent / "victim"),
    "export is a link": linked("export", lambda o: o),
    "settings are a link": linked("config.json", lambda o: o / "other" / "config.json"),
    "manifest is a pipe": pipe("trial_0/checkpoint_000002/manifest.json"),
    "best is a pipe": pipe("trial_0/best_checkpoint"),
}
"""Attacks that everybody refuses."""
ATTACKS = {name: attack for name, (attack, _) in BY_NAME.items()} | BY_LINK
PAIRS = [(name, reader) for name, (_, readers) in BY_NAME.items() for reader in readers]
PAIRS += [(name, reader) for name in BY_LINK for reader in READERS]


@pytest.fixture
def hostile(attack, sent, tmp_path, others):
    """The run, in which something leads out; and what asks whether all else is as it was before it was read."""
    ATTACKS[attack](sent, tmp_path / "others")
    before = content(tmp_path / "others"), content(tmp_path, depth=1)
    return sent, lambda: (content(tmp_path / "others"), content(tmp_path, depth=1)) == before


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("attack", "reader"), PAIRS)
def test_nothing_outside_is_read_as_the_runs_or_changed(hostile, reader, read):
    sent, is_as_before = hostile
    said = read(reader, sent)
    assert "Traceback" not in said
    assert REFUSED.search(said), said
    assert is_as_before()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("attack", ["gone back to another run's", *BY_LINK])
def test_prune_deletes_nothing_outside(hostile, capsys):
    sent, is_as_before = hostile
    exit_code(checkpoints, ["prune", str(sent), "--keep", "1", "--yes"])
    said = " ".join(" ".join(capsys.readouterr()).split())
    assert "Traceback" not in said
    assert REFUSED.search(said), said
    assert is_as_before()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("attack", ["gone back to another run's", *BY_LINK])
def test_verify_says_what_leads_out(hostile, capsys):
    sent, is_as_before = hostile
    assert exit_code(checkpoints, ["verify", str(sent)]) == 1
    assert REFUSED.search(" ".join(capsys.readouterr().out.split()))
    assert is_as_before()


def test_links_in_a_checkpoint_are_damage_and_are_not_copied(tmp_path):
    (tmp_path / "secret").write_text("of great value")
    checkpoint = tmp_path / "checkpoint_000001"
    checkpoint.mkdir()
    (checkpoint / "weights").write_text("of great value")
    seal(checkpoint)
    (checkpoint / "weights").unlink()
    (checkpoint / "weights").symlink_to(tmp_path / "secret")
    (checkpoint / "more").symlink_to(tmp_path)
    assert find_damage(checkpoint) == ["more: does not belong here", "weights: is a link, or no file"]
    (tmp_path / "copy").mkdir()
    copy_into(tmp_path / "copy", checkpoint)
    assert sorted(os.listdir(tmp_path / "copy")) == ["COMPLETE", "manifest.json"]
    with pytest.raises(OSError, match="cannot be sealed"):
        seal(checkpoint)


def test_lock_that_is_a_link_is_not_written_through(tmp_path):
    (tmp_path / "victim").write_text("of great value")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(InputError, match="leads out of"), run_lock(tmp_path / "run"):
        pass
    assert (tmp_path / "victim").read_text() == "of great value"


@pytest.mark.parametrize("name", ["../victim", "/victim", "tuner.pkl/../../victim", "experiment_state-/../../x.json"])
def test_copies_of_tunes_files_go_nowhere_else(tmp_path, name):
    folder = tmp_path / "run"
    folder.mkdir()
    with zipfile.ZipFile(folder / "tune_copies.zip", "w") as copies:
        copies.writestr("planned.json", "{}")
        copies.writestr(name, "x")
    assert put_back(folder, {}) == "there are no whole copies of Tune's own files"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["mine", "run", "tmp", "tune_copies.zip"]


@pytest.mark.parametrize("key", ["trial_id", "source", "source_checkpoint", "checkpoint"])
def test_search_whose_ids_lead_out_is_damaged(tmp_path, key, capsys):
    exploit = dict.fromkeys(("trial_id", "source"), "00000") | {"episodes": 1, "score": 1.0, "source_score": 1.0}
    exploit |= dict.fromkeys(("source_checkpoint", "checkpoint"), "checkpoint_000001") | {"overrides": {}}
    population = {"boundary": 0, "exploits": [exploit], "num_pending": 1}
    record = {"format": 1, "drawn_names": [], "trials": [], "rungs": [], "population": population}
    (tmp_path / "search.json").write_text(json.dumps(record))
    assert len(SearchRecord.read(tmp_path).exploits) == 1
    exploit[key] = "x/../../other"
    (tmp_path / "search.json").write_text(json.dumps(record))
    assert SearchRecord.read(tmp_path).exploits == []
    assert "search.json is damaged" in capsys.readouterr().out

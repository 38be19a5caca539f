"""Files of a run that hold anything at all: one line, no traceback, and nothing lost."""

import contextlib
import hashlib
import io
import json
import shutil
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from fuzzing import FUZZ, changed, refused
from hypothesis import given
from hypothesis import strategies as st
from sample_runs import make_run

from common.manifests import MANIFEST_FILE, MARKER_FILE, find_damage, seal
from experiments.builders.environments import environment_of
from experiments.checkpoints import run as checkpoints
from experiments.command_line import FAILED, exit_code
from experiments.remote.packs import checked_marker, unpack, write_pack
from experiments.runs.exports import export_model
from experiments.runs.folders import has_begun
from experiments.runs.models import find_model
from experiments.runs.repair import check_checkpoints
from experiments.runs.run import Run, read_run_config
from experiments.runs.summary import read_summary, sound_summary
from experiments.search.record import SearchRecord
from experiments.settings.run_config import config_to_json
from experiments.tuning.branching import adopt, check_branch
from experiments.tuning.resume import is_complete
from experiments.tuning.run_trainable import algorithm_class

pytestmark = pytest.mark.fuzz
MANIFEST = {"format": 1, "files": {"a": {"bytes": 1, "sha256": "a" * 64}, "b/c": {"bytes": 2, "sha256": "b" * 64}}}
MARKER = {"format": 1, "seal": "a" * 64, "pack": f"pack-{'a' * 16}.tar", "bytes": 10, "sha256": "a" * 64}
MARKER |= {"segments": {"replay/0.safetensors": {"bytes": 3, "sha256": "c" * 64}}}
TRIAL = {"trial_id": "00000", "drawn": {"qmix.lr": 1e-3}, "overrides": {"qmix.lr": 1e-3}, "state": "COMPLETE"}
TRIAL |= {"result": {"episodes": 8, "target_episodes": 8}, "started": "2026-01-01T00:00:00+00:00", "ended": None}
RUNG = {"milestone": 4, "trial_id": "00000", "episodes": 4, "score": 0.5, "is_stopped": False}
EXPLOIT = {"episodes": 4, "trial_id": "00000", "score": 0.1, "source": "00001", "source_score": 0.2, "overrides": {}}
EXPLOIT |= {"source_checkpoint": "checkpoint_000001", "checkpoint": "checkpoint_000002"}
SEARCH = {"format": 1, "drawn_names": ["qmix.lr"], "trials": [TRIAL], "rungs": [RUNG]}
SEARCH |= {"population": {"boundary": 4, "exploits": [EXPLOIT], "num_pending": 0}}


@FUZZ
@given(content=changed(MANIFEST))
def test_any_manifest_is_damage(content):
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "a").write_text("x")
        (folder / MANIFEST_FILE).write_bytes(content)
        (folder / MARKER_FILE).write_text(hashlib.sha256(content).hexdigest())
        damage = find_damage(folder)
        assert damage
        assert all("\n" not in line for line in damage)
        seal(folder, previous=folder)
        assert find_damage(folder) == []


@FUZZ
@given(content=changed(MARKER))
def test_any_marker_is_one_in_every_part_or_none(content):
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return
    marker = checked_marker(found, source="here") if isinstance(found, dict) else None
    assert marker is None or {**marker, "format": 1} == {**found, "format": 1}


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packs")
    (folder / "c" / "b").mkdir(parents=True)
    (folder / "c" / "weights").write_bytes(b"w" * 700)
    (folder / "c" / "b" / "x").write_bytes(b"x")
    seal(folder / "c")
    write_pack(folder / "pack.tar", folder / "c", ["weights", "b/x", MANIFEST_FILE, MARKER_FILE])
    return (folder / "pack.tar").read_bytes(), (folder / "c" / MARKER_FILE).read_text()


@FUZZ
@given(data=st.data())
def test_any_pack_is_unpacked_whole_or_is_damage(packed, data):
    content, seal_of = bytearray(packed[0]), packed[1]
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, 4) | st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))]
    with tempfile.TemporaryDirectory() as place:
        pack, folder = Path(place) / "pack.tar", Path(place) / "in" / "here"
        pack.write_bytes(content)
        folder.mkdir(parents=True)
        marker = {"seal": seal_of, "pack": "pack-0.tar", "bytes": len(content), "segments": {}}
        damage = unpack(pack, folder, marker)
        assert damage is None or "\n" not in damage
        assert sorted(path.name for path in Path(place).iterdir()) == ["in", "pack.tar"]
        assert [path.name for path in (Path(place) / "in").iterdir()] == ["here"]
        if damage is None:
            assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()) == sorted(
                [MARKER_FILE, MANIFEST_FILE, "weights", "b/x"]
            )


def test_pack_of_nested_long_names_is_damage(tmp_path):
    """Python's tarfile goes one call deeper for each header that only gives the next one its name."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 2
    block = header.tobuf(tarfile.GNU_FORMAT) + b"a\0".ljust(512, b"\0")
    (tmp_path / "pack.tar").write_bytes(block * 5000)
    marker = {"seal": "a" * 64, "pack": "pack-0.tar", "bytes": len(block) * 5000, "segments": {}}
    assert "no archive" in unpack(tmp_path / "pack.tar", tmp_path, marker)


@FUZZ
@given(content=changed(SEARCH))
def test_any_search_record_is_read_or_set_aside(content):
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "search.json").write_bytes(content)
        record = SearchRecord.read(folder)
        names = {trial.folder_name for trial in record.trials} | {e.source_checkpoint for e in record.exploits}
        assert all("/" not in name for name in names)
        record.save()
        assert record.trials == SearchRecord.read(folder).trials or any(t != t for t in record.trials)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results") / "dow"
    make_run(folder)
    return folder


SUMMARY = {"status": "complete", "episodes": 8, "latest_checkpoint": "checkpoint_000003", "algo": "qmix", "seed": 0}
SUMMARY |= {"best_checkpoint": "checkpoint_000002", "metrics": {"sharpe": 1.0}, "search": {"num_trials": 0}}


@FUZZ
@given(content=changed(SUMMARY))
def test_any_summary_is_read_or_refused(run_folder, content):
    (run_folder / "summary.json").write_bytes(content)
    run = Run.of(read_run_config(run_folder))
    for act in (
        lambda: find_model(run_folder),
        lambda: read_summary(run_folder),
        lambda: has_begun(run_folder),
        lambda: is_complete(run),
        lambda: check_checkpoints(run_folder),
        lambda: sound_summary(run_folder),
    ):
        refused(act)
    for aside in run_folder.glob("damaged-*"):
        aside.unlink()


@FUZZ
@given(data=st.data())
def test_any_settings_are_read_or_refused(run_folder, data):
    content = json.loads((run_folder / "config.json").read_text())
    content["resume_from"] = {"checkpoint": "checkpoint_000003", "asked_at": "2026-01-01"}
    content["branch_of"] = [{"run": "/x", "checkpoint": "checkpoint_000003"}]
    content["drawn_names"] = ["qmix.lr"]
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "config.json").write_bytes(data.draw(changed(content)))
        refused(lambda: find_model(Path(place)))
        refused(lambda: read_run_config(Path(place)))


def said_of(act):
    """Run a command in this process; it may refuse, in one line, and not fail."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as told:
        code = act()
    assert code != FAILED or "Error" not in told.getvalue(), told.getvalue()
    assert "Traceback" not in told.getvalue()


@pytest.fixture(scope="module")
def branch(trained):
    """Settings by which a run can branch off, and what it would train in."""
    config = read_run_config(trained / "qmix")
    config = replace(config, name="branch", branch_from=str(trained / "qmix"), episodes=10**6)
    return config, environment_of(config)


@FUZZ
@given(data=st.data())
def test_any_words_of_a_checkpoint_are_read_or_refused(trained, branch, data):
    config, environment = branch
    with tempfile.TemporaryDirectory() as place:
        run = shutil.copytree(trained / "qmix", Path(place) / "qmix")
        (checkpoint,) = run.glob("trial_0/checkpoint_*")
        path = checkpoint / data.draw(
            st.sampled_from(["checkpoint_meta.json", "run_state.json", "team.json", "state.json"])
        )
        path.write_bytes(data.draw(changed(json.loads(path.read_text()))))
        seal(checkpoint)
        refused(lambda: export_model(str(run), str(Path(place) / "out")))
        model = []
        refused(lambda: model.append(check_branch(replace(config, branch_from=str(run)), environment)))
        for found in model:
            (Path(place) / "branch").mkdir()
            refused(lambda found=found: adopt(Path(place) / "branch", found))
        said_of(lambda: exit_code(checkpoints, ["list", str(run)]))
        said_of(lambda: exit_code(checkpoints, ["verify", str(run)]))


@pytest.fixture(scope="module")
def trainable(trained):
    config = read_run_config(trained / "qmix")
    record = json.loads((trained / "qmix" / "config.json").read_text())
    made = algorithm_class(config)({"run": config_to_json(config), "scaler": record["scaler"]})
    yield made
    made.stop()


@FUZZ
@given(data=st.data())
def test_any_checkpoint_is_gone_on_from_or_refused(trained, trainable, data):
    with tempfile.TemporaryDirectory() as place:
        (source,) = (trained / "qmix").glob("trial_0/checkpoint_*")
        checkpoint = shutil.copytree(source, Path(place) / source.name)
        names = ["run_state.json", "draws.json", "replay/index.json", "state.json", "team.json", "modules.json"]
        path = checkpoint / data.draw(st.sampled_from(names))
        path.write_bytes(data.draw(changed(json.loads(path.read_text()))))
        refused(lambda: trainable.load_checkpoint(str(checkpoint)))
    trainable.load_checkpoint(str(source))

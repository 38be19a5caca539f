"""A bucket that others write to: whatever its markers, packs and names say, nothing outside a run's folder changes."""

import hashlib
import io
import json
import tarfile

import pytest
from machines import Machine
from readers import READERS
from sample_runs import config_of, write_record

from common.errors import InputError
from common.manifests import MANIFEST_FILE, MARKER_FILE
from common.store import Store
from experiments.checkpoints import run as checkpoints
from experiments.command_line import exit_code

CHECKPOINT = "trial_0/checkpoint_000000"
EVIL = b"not yours"


def sha(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def store(tmp_path):
    """A store with one run, whose one checkpoint has a replay buffer of two segments."""
    machine = Machine(tmp_path / "there", f"file://{tmp_path}/store/dow")
    machine.start()
    write_record(machine.folder, config_of("qmix"))
    machine.save(2)
    return tmp_path / "store" / "dow"


def member(name, content=EVIL, **changes):
    found = tarfile.TarInfo(name)
    found.size = len(content)
    for key, value in changes.items():
        setattr(found, key, value)
    return found, content


def forge(store, *, extra=(), listed=None, marker=None, archive=None):
    """Seal a checkpoint anew, as whoever may write to the bucket can: with what is added, every hash is right."""
    folder = store / CHECKPOINT
    old = json.loads((folder / MARKER_FILE).read_text())
    with tarfile.open(folder / old["pack"]) as whole:
        files = {m.name: whole.extractfile(m).read() for m in whole.getmembers()}
    manifest = json.loads(files[MANIFEST_FILE])
    for name, content in (listed or {}).items():
        manifest["files"][name] = {"bytes": len(content), "sha256": sha(content)}
    files[MANIFEST_FILE] = json.dumps(manifest).encode()
    files[MARKER_FILE] = sha(files[MANIFEST_FILE]).encode()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as pack:
        for info, content in [*extra, *(member(name, content) for name, content in files.items())]:
            pack.addfile(info, io.BytesIO(content))
    packed = out.getvalue() if archive is None else archive(out.getvalue())
    new = old | {"seal": sha(files[MANIFEST_FILE]), "bytes": len(packed), "sha256": sha(packed)}
    new |= {"pack": f"pack-{new['sha256'][:16]}.tar"} | (marker(old) if marker else {})
    (folder / old["pack"]).unlink()
    target = folder / str(new["pack"])
    if target.parent == folder:
        target.write_bytes(packed)
    (folder / MARKER_FILE).write_text(json.dumps(new))


def segment(store, name):
    """A marker that brings an object to a path."""
    (store / "trial_0" / "segments" / sha(EVIL)).write_bytes(EVIL)
    return lambda old: {"segments": {**old["segments"], name: {"bytes": len(EVIL), "sha256": sha(EVIL)}}}


def link(kind, target):
    return member("way", b"", type=kind, linkname=str(target))


ATTACKS = {
    "segment above": lambda s, v: forge(s, marker=segment(s, "../../../../../../victim")),
    "absolute segment": lambda s, v: forge(s, marker=segment(s, str(v))),
    "segment above, dressed up": lambda s, v: forge(s, marker=segment(s, "replay/../../../../victim.safetensors")),
    "segment in no folder of segments": lambda s, v: forge(s, marker=segment(s, "weights2")),
    "pack elsewhere": lambda s, v: forge(s, marker=lambda old: {"pack": "../../../../victim"}),
    "file above": lambda s, v: forge(s, extra=[member("../../../../victim")], listed={"../../../../victim": EVIL}),
    "absolute file": lambda s, v: forge(s, extra=[member(str(v))], listed={str(v): EVIL}),
    "symbolic link": lambda s, v: forge(s, extra=[link(tarfile.SYMTYPE, v), member("way")], listed={"way": EVIL}),
    "symbolic link to a folder": lambda s, v: forge(
        s, extra=[link(tarfile.SYMTYPE, v.parent), member("way/victim")], listed={"way/victim": EVIL}
    ),
    "hard link": lambda s, v: forge(s, extra=[link(tarfile.LNKTYPE, v), member("way")], listed={"way": EVIL}),
    "device": lambda s, v: forge(s, extra=[member("way", b"", type=tarfile.CHRTYPE)], listed={"way": b""}),
    "pipe": lambda s, v: forge(s, extra=[member("way", b"", type=tarfile.FIFOTYPE)], listed={"way": b""}),
    "file that stands twice": lambda s, v: forge(s, extra=[member("weights", b"weights of 2")]),
    "file that is not listed": lambda s, v: forge(s, extra=[member("more")]),
    "file that is missing": lambda s, v: forge(s, listed={"more": EVIL}),
    "file in a file": lambda s, v: forge(s, extra=[member("a", EVIL), member("a/b")], listed={"a": EVIL, "a/b": EVIL}),
    "file larger than the archive": lambda s, v: forge(
        s, archive=lambda packed: packed[:124] + b"77777777777\0" + packed[136:]
    ),
    "sparse file": lambda s, v: forge(
        s, extra=[member("way", b"", pax_headers={"GNU.sparse.size": "99999999999", "GNU.sparse.map": "0,0"})]
    ),
    "compressed": lambda s, v: forge(s, archive=__import__("gzip").compress),
    "cut archive": lambda s, v: forge(s, archive=lambda packed: packed[:700]),
    "no archive": lambda s, v: forge(s, archive=lambda packed: b"\xff" * 1024),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_forged_checkpoint_is_damage_and_changes_nothing_else(tmp_path, store, others, attack, capsys):
    ATTACKS[attack](store, tmp_path / "victim")
    assert exit_code(checkpoints, ["verify", f"file://{tmp_path}/store/dow"]) == 1
    captured = capsys.readouterr()
    assert "1 checked, 1 damaged" in captured.out
    assert "Traceback" not in captured.out + captured.err
    assert others()


@pytest.mark.parametrize(
    ("attack", "damage"),
    [("segment above", "COMPLETE is missing or cannot be read"), ("symbolic link to a folder", "way is no plain file")],
)
@pytest.mark.parametrize("reader", READERS)
def test_nobody_goes_on_from_a_forged_checkpoint(tmp_path, store, others, attack, damage, reader, read):
    ATTACKS[attack](store, tmp_path / "victim")
    said = read(reader, f"file://{tmp_path}/store/dow")
    assert "Traceback" not in said
    assert damage in said
    assert others()


@pytest.mark.parametrize(
    "name", ["trial_0/../../../victim", "/victim", "a\\b", "trial_0/\x1b[2J", "trial_0//x", "x" * 300]
)
def test_an_object_whose_name_leads_out_is_refused_by_its_name(tmp_path, store, others, name, monkeypatch):
    machine, names = Machine(tmp_path / "mine" / "work", f"file://{tmp_path}/store/dow"), Store.names
    monkeypatch.setattr(Store, "names", lambda self, below="": names(self, below) | ({name} if not below else set()))
    with pytest.raises(InputError, match="is no path in its folder"):
        machine.pull()
    assert others()


MALFORMED = {
    "empty": b"",
    "not UTF-8": b"\xff\xfe",
    "a list": b"[]",
    "deep": b"[" * 100_000,
    "a huge number": b'{"seal": ' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed_marker_is_damage(tmp_path, store, kind, capsys):
    (store / CHECKPOINT / MARKER_FILE).write_bytes(MALFORMED[kind])
    assert exit_code(checkpoints, ["verify", f"file://{tmp_path}/store/dow"]) == 1
    captured = capsys.readouterr()
    assert "1 checked, 1 damaged" in captured.out
    assert captured.err == ""


def test_what_was_not_forged_is_whole(tmp_path, store, capsys):
    forge(store)
    assert exit_code(checkpoints, ["verify", f"file://{tmp_path}/store/dow"]) == 0
    assert "1 checked, all whole" in capsys.readouterr().out

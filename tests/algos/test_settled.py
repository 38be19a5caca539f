import hashlib
import os

import pytest

from algos.settled import write_files


def test_a_file_in_pieces_holds_them_one_after_the_other(tmp_path):
    settled = write_files(tmp_path, {"file": [b"abc", memoryview(b""), memoryview(b"de")], "empty": []})
    assert (tmp_path / "file").read_bytes() == b"abcde"
    assert (tmp_path / "empty").read_bytes() == b""
    assert settled["file"] == (5, hashlib.sha256(b"abcde").hexdigest())
    assert settled["empty"] == (0, hashlib.sha256(b"").hexdigest())
    with pytest.raises(FileExistsError):
        write_files(tmp_path, {"file": [b"other"]})
    assert (tmp_path / "file").read_bytes() == b"abcde"


def test_a_disk_that_takes_a_few_bytes_at_a_time_gets_all_of_them(tmp_path, monkeypatch):
    real, fsynced = os.writev, []

    def takes_few(handle, parts):
        return os.write(handle, parts[0][:3]) if len(parts[0]) > 3 else real(handle, parts[:2])

    monkeypatch.setattr(os, "writev", takes_few)
    monkeypatch.setattr(os, "fsync", fsynced.append)
    contents = {f"file{i}": [bytes([i]) * i, b"0123456789" * i, b"x"] for i in range(150)}
    settled = write_files(tmp_path, contents)
    for name, parts in contents.items():
        whole = b"".join(parts)
        assert (tmp_path / name).read_bytes() == whole
        assert settled[name] == (len(whole), hashlib.sha256(whole).hexdigest())
    assert len(fsynced) == 150


def test_a_disk_that_keeps_less_than_was_written_is_told(tmp_path, monkeypatch):
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (os.truncate(handle, 2), real(handle)))
    with pytest.raises(OSError, match="the disk does not hold what was written"):
        write_files(tmp_path, {"file": [b"abc"]})

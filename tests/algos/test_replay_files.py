import hashlib
import os

import pytest
import torch
from safetensors.torch import load

from algos.replay_files import safetensors_parts
from algos.settled import write_files

DTYPES = (torch.float32, torch.float64, torch.int64, torch.int32, torch.bool)


@pytest.mark.parametrize("cuts", [[], [0], [1, 2]])
@pytest.mark.parametrize("shape", [(0,), (3, 0, 2), (5,), (2, 3, 4)])
def test_the_library_reads_what_is_written_in_pieces(shape, cuts):
    made = {f"{dtype}{i}": torch.randint(0, 2, shape).to(dtype) for dtype in DTYPES for i in range(2)}
    found = load(b"".join(safetensors_parts({name: values.tensor_split(cuts) for name, values in made.items()})))
    assert found.keys() == made.keys()
    for name, values in made.items():
        assert found[name].dtype == values.dtype
        assert found[name].shape == values.shape
        assert torch.equal(found[name], values)


def test_each_tensor_starts_where_its_numbers_are_aligned():
    made = {"a": torch.ones(3, dtype=torch.bool), "b": torch.ones(3, dtype=torch.float64), "c": torch.ones(1)}
    head, *parts = safetensors_parts({name: [values] for name, values in made.items()})
    assert len(head) % 8 == 0
    assert [len(part) for part in parts] == [24, 4, 3]


def test_the_memory_of_tensors_is_not_copied():
    values = torch.zeros(4)
    _, part = safetensors_parts({"values": [values]})
    values[2] = 1.0
    assert bytes(part) == values.numpy().tobytes()


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

import hashlib

import pytest
import torch
from safetensors.torch import load

from algos.replay_files import safetensors_parts
from algos.settled import write_through

DTYPES = (torch.float32, torch.float64, torch.int64, torch.int32, torch.bool)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (5,), (2, 3, 4)])
def test_the_library_reads_what_is_written_in_pieces(shape):
    made = {f"{dtype}{i}": torch.randint(0, 2, shape).to(dtype) for dtype in DTYPES for i in range(2)}
    found = load(b"".join(safetensors_parts(made)))
    assert found.keys() == made.keys()
    for name, values in made.items():
        assert found[name].dtype == values.dtype
        assert found[name].shape == values.shape
        assert torch.equal(found[name], values)


def test_each_tensor_starts_where_its_numbers_are_aligned():
    made = {"a": torch.ones(3, dtype=torch.bool), "b": torch.ones(3, dtype=torch.float64), "c": torch.ones(1)}
    head, *parts = safetensors_parts(made)
    assert len(head) % 8 == 0
    assert [len(part) for part in parts] == [24, 4, 3]


def test_the_memory_of_tensors_is_not_copied():
    values = torch.zeros(4)
    _, part = safetensors_parts({"values": values})
    values[2] = 1.0
    assert bytes(part) == values.numpy().tobytes()


def test_a_file_in_pieces_holds_them_one_after_the_other(tmp_path):
    settled = write_through(tmp_path / "file", b"abc", memoryview(b""), memoryview(b"de"))
    assert (tmp_path / "file").read_bytes() == b"abcde"
    assert settled == (5, hashlib.sha256(b"abcde").hexdigest())
    with pytest.raises(FileExistsError):
        write_through(tmp_path / "file", b"other")

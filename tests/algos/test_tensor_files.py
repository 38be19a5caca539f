import numpy as np
import pytest
from safetensors.numpy import load

from algos.tensor_files import DTYPES, safetensors_file, safetensors_parts
from common.disk import BLOCK


@pytest.mark.parametrize("cuts", [[], [0], [1, 2]])
@pytest.mark.parametrize("shape", [(0,), (3, 0, 2), (5,), (2, 3, 4)])
def test_the_library_reads_what_is_written_in_pieces(shape, cuts):
    rng = np.random.default_rng(0)
    made = {f"{dtype}{i}": rng.integers(0, 2, shape).astype(dtype) for dtype in DTYPES for i in range(2)}
    found = load(b"".join(safetensors_parts({name: np.split(values, cuts) for name, values in made.items()})))
    assert found.keys() == made.keys()
    for name, values in made.items():
        assert found[name].dtype == values.dtype
        assert found[name].shape == values.shape
        assert np.array_equal(found[name], values)


def test_one_number_is_a_tensor_without_axes():
    found = load(b"".join(safetensors_parts({"one": [np.asarray(2.5)]})))
    assert (found["one"].shape, float(found["one"])) == ((), 2.5)


def test_each_tensor_starts_where_its_numbers_are_aligned():
    made = {"a": np.ones(3, bool), "b": np.ones(3), "c": np.ones(1, np.float32)}
    head, *parts = safetensors_parts({name: [values] for name, values in made.items()})
    assert len(head) % 8 == 0
    assert [len(part) for part in parts] == [24, 4, 3]


def test_the_memory_of_tensors_is_not_copied():
    values = np.zeros(4, np.float32)
    _, part = safetensors_parts({"values": [values]})
    values[2] = 1.0
    assert bytes(part) == values.tobytes()


@pytest.mark.parametrize("size", [1, 3, 1000, 100_003])
def test_a_whole_file_has_memory_of_its_own_that_begins_with_a_block(size):
    values = np.arange(size, dtype=np.float32)
    file = safetensors_file({"values": [values], "flags": [values > 0]})
    assert bytes(file) == b"".join(safetensors_parts({"values": [values], "flags": [values > 0]}))
    assert np.frombuffer(file, np.uint8).ctypes.data % BLOCK == 0
    values[:] = -1.0
    assert np.array_equal(load(bytes(file))["values"], np.arange(size))

import ctypes
import errno
import fcntl
import hashlib
import mmap
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from algos.settled import BLOCK, SMALL, write_files


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


@pytest.fixture(scope="module")
def memory():
    """Bytes that differ, which begin where a block of memory does."""
    with mmap.mmap(-1, 1 << 22) as mapped:
        mapped[:] = hashlib.shake_128(b"memory").digest(len(mapped))
        view = memoryview(mapped)
        yield view
        view.release()


sizes = st.sampled_from([1, BLOCK, SMALL, SMALL + 1, SMALL + BLOCK, 3 * SMALL, 5 * SMALL + 7])


@given(parts=st.lists(st.tuples(st.sampled_from([0, 1, 8, 512, BLOCK]), sizes), max_size=6))
def test_large_parts_are_whole_wherever_they_lie(tmp_path_factory, memory, parts):
    folder = tmp_path_factory.mktemp("folder")
    views = [memory[start : start + size] for start, size in parts]
    settled = write_files(folder, {"file": views})
    whole = b"".join(views)
    assert (folder / "file").read_bytes() == whole
    assert settled["file"] == (len(whole), hashlib.sha256(whole).hexdigest())


def test_large_part_is_written_before_the_next_is_asked_for(tmp_path):
    part = bytearray(SMALL + 1)

    def parts():
        for i in range(5):
            part[:] = bytes([i]) * len(part)
            yield memoryview(part)
            yield b"small"

    write_files(tmp_path, {"file": parts()})
    assert (tmp_path / "file").read_bytes() == b"".join(bytes([i]) * len(part) + b"small" for i in range(5))


def in_cache(path):
    """Which blocks of a file the system has in memory."""
    num_bytes = path.stat().st_size
    found = (ctypes.c_ubyte * -(-num_bytes // BLOCK))()
    with path.open("rb") as file, mmap.mmap(file.fileno(), num_bytes, access=mmap.ACCESS_COPY) as mapped:
        at = ctypes.c_char.from_buffer(mapped)
        failed = ctypes.CDLL(None).mincore(ctypes.c_void_p(ctypes.addressof(at)), ctypes.c_size_t(num_bytes), found)
        del at
    assert not failed
    return [bool(block & 1) for block in found]


def test_whole_blocks_of_large_parts_leave_no_copy_in_memory(tmp_path, memory):
    try:
        os.close(os.open(tmp_path / "probe", os.O_CREAT | os.O_WRONLY | os.O_DIRECT))
    except OSError:
        pytest.skip("a file system that writes by way of memory only")
    size = 4 * SMALL + BLOCK + 10
    write_files(tmp_path, {"large": [memory[:size]], "small": [memory[:SMALL]]})
    assert in_cache(tmp_path / "large") == [False] * (size // BLOCK) + [True]
    assert in_cache(tmp_path / "small") == [True] * (SMALL // BLOCK)


@pytest.mark.parametrize("refuses", ["the flag", "the write"])
def test_file_system_that_writes_by_way_of_memory_only(tmp_path, memory, monkeypatch, refuses):
    set_flags, write, refused = fcntl.fcntl, os.write, []

    def refuse(*_):
        refused.append(refuses)
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    if refuses == "the flag":
        monkeypatch.setattr(
            fcntl, "fcntl", lambda h, what, flags=0: (refuse if flags & os.O_DIRECT else set_flags)(h, what, flags)
        )
    else:
        monkeypatch.setattr(os, "write", refuse)
    write_files(tmp_path, {"file": [memory[: SMALL + BLOCK]]})
    monkeypatch.setattr(os, "write", write)
    assert (tmp_path / "file").read_bytes() == memory[: SMALL + BLOCK]
    assert refused


def test_disk_that_is_full_is_told_past_the_cache_too(tmp_path, memory, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        write_files(tmp_path, {"file": [memory[: SMALL + BLOCK]]})

import ctypes
import errno
import fcntl
import hashlib
import mmap
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.disk import BLOCK, SMALL, write_files


def test_a_file_in_pieces_holds_them_one_after_the_other(tmp_path):
    written = write_files(tmp_path, {"file": [b"abc", memoryview(b""), memoryview(b"de")], "empty": []})
    assert (tmp_path / "file").read_bytes() == b"abcde"
    assert (tmp_path / "empty").read_bytes() == b""
    assert written["file"] == (5, hashlib.sha256(b"abcde").hexdigest())
    assert written["empty"] == (0, hashlib.sha256(b"").hexdigest())
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
    written = write_files(tmp_path, contents)
    for name, parts in contents.items():
        whole = b"".join(parts)
        assert (tmp_path / name).read_bytes() == whole
        assert written[name] == (len(whole), hashlib.sha256(whole).hexdigest())
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


@settings(deadline=None)
@given(parts=st.lists(st.tuples(st.sampled_from([0, 1, 8, 512, BLOCK]), sizes), max_size=6))
def test_large_parts_are_whole_wherever_they_lie(tmp_path_factory, memory, parts):
    folder = tmp_path_factory.mktemp("folder")
    views = [memory[start : start + size] for start, size in parts]
    written = write_files(folder, {"file": views})
    whole = b"".join(views)
    assert (folder / "file").read_bytes() == whole
    assert written["file"] == (len(whole), hashlib.sha256(whole).hexdigest())


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
    """Which pages of a file the system has in memory."""
    num_bytes = path.stat().st_size
    found = (ctypes.c_ubyte * -(-num_bytes // mmap.PAGESIZE))()
    with path.open("rb") as file, mmap.mmap(file.fileno(), num_bytes, access=mmap.ACCESS_COPY) as mapped:
        at = ctypes.c_char.from_buffer(mapped)
        failed = ctypes.CDLL(None).mincore(ctypes.c_void_p(ctypes.addressof(at)), ctypes.c_size_t(num_bytes), found)
        del at
    assert not failed
    return [bool(page & 1) for page in found]


@pytest.fixture
def past_cache(tmp_path, memory):
    """Skips where the file system writes by way of memory only, as one that lies in memory does."""
    probe = tmp_path / "probe"
    try:
        handle = os.open(probe, os.O_CREAT | os.O_WRONLY | os.O_DIRECT)
        try:
            os.write(handle, memory[: 4 * SMALL])
        finally:
            os.close(handle)
    except (AttributeError, OSError):
        pytest.skip("a system that writes by way of memory only")
    if any(in_cache(probe)):
        pytest.skip("a file system that keeps what it is given in memory")


@pytest.mark.usefixtures("past_cache")
def test_whole_blocks_of_large_parts_leave_no_copy_in_memory(tmp_path, memory):
    size = 4 * SMALL + BLOCK + 10
    write_files(tmp_path, {"large": [memory[:size]], "small": [memory[:SMALL]]})
    assert in_cache(tmp_path / "large") == [False] * (size // mmap.PAGESIZE) + [True]
    assert in_cache(tmp_path / "small") == [True] * (SMALL // mmap.PAGESIZE)


@pytest.mark.usefixtures("past_cache")
def test_file_system_that_refuses_the_flag_gets_all_of_it(tmp_path, memory, monkeypatch):
    set_flags, refused = fcntl.fcntl, []

    def refuse(handle, what, flags=0):
        if flags & os.O_DIRECT:
            refused.append(flags)
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return set_flags(handle, what, flags)

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    write_files(tmp_path, {"file": [memory[: SMALL + BLOCK]]})
    assert refused
    assert (tmp_path / "file").read_bytes() == memory[: SMALL + BLOCK]


@pytest.mark.usefixtures("past_cache")
@pytest.mark.parametrize("taken", [0, BLOCK, 3 * BLOCK + 5, 8 * BLOCK])
@pytest.mark.parametrize("number", [errno.EINVAL, errno.EOPNOTSUPP])
def test_what_is_not_taken_past_the_cache_is_written_through_it(tmp_path, memory, monkeypatch, taken, number):
    """The disk takes some of a part, then refuses the rest: nothing is written twice or left out."""
    write, calls = os.write, []

    def refuse(handle, part):
        calls.append(len(part))
        if len(calls) > 1 or not taken:
            raise OSError(number, os.strerror(number))
        flags = fcntl.fcntl(handle, fcntl.F_GETFL)
        fcntl.fcntl(handle, fcntl.F_SETFL, flags & ~os.O_DIRECT)  # which would not take a part of a block
        return write(handle, part[:taken])

    monkeypatch.setattr(os, "write", refuse)
    size = 2 * SMALL + 100
    written = write_files(tmp_path, {"file": [memory[:size], b"end"]})
    assert len(calls) == (2 if taken else 1)
    assert (tmp_path / "file").read_bytes() == bytes(memory[:size]) + b"end"
    assert written["file"].num_bytes == size + 3


@pytest.mark.usefixtures("past_cache")
@pytest.mark.parametrize("taken", [0, BLOCK])
def test_disk_that_is_full_is_told_past_the_cache_too(tmp_path, memory, monkeypatch, taken):
    write, calls = os.write, []

    def full(handle, part):
        calls.append(len(part))
        if len(calls) > 1 or not taken:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(handle, part[:taken])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        write_files(tmp_path, {"file": [memory[: SMALL + BLOCK]]})
    assert calls

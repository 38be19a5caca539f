import errno
import os
import signal
from pathlib import Path

import pytest

from experiments.recovery import signals as stopping
from experiments.recovery.signals import STOP_FILE, hearing, stop_on_signal


@pytest.fixture
def every_one_counts(monkeypatch):
    monkeypatch.setattr(stopping, "AGAIN_S", 0.0)


@pytest.mark.usefixtures("every_one_counts")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_asks_and_the_second_ends_at_once(tmp_path, number, capfd):
    with stop_on_signal(tmp_path):
        os.kill(os.getpid(), number)
        assert (tmp_path / STOP_FILE).read_text() == number.name
        assert "a checkpoint is being written first; once more stops at once" in capfd.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert not (tmp_path / STOP_FILE).exists()


@pytest.mark.usefixtures("every_one_counts")
def test_either_signal_is_a_second_one(tmp_path):
    with stop_on_signal(tmp_path):
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_what_a_terminal_a_parent_and_the_system_send_at_once_is_one_request(tmp_path, monkeypatch):
    now = 100.0
    monkeypatch.setattr(stopping.time, "monotonic", lambda: now)
    heard = []
    with hearing(lambda number, count: heard.append((signal.Signals(number).name, count))):
        for at, number in (
            (100.0, "SIGINT"),
            (100.4, "SIGTERM"),
            (100.5, "SIGTERM"),
            (100.9, "SIGINT"),
            (101.0, "SIGINT"),
        ):
            now = at
            os.kill(os.getpid(), signal.Signals[number])
    assert heard == [("SIGINT", 1), ("SIGTERM", 2), ("SIGINT", 3)]
    with stop_on_signal(tmp_path):
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
        assert (tmp_path / STOP_FILE).exists(), "the checkpoint is still being written"


@pytest.mark.usefixtures("every_one_counts")
def test_request_that_cannot_be_written_ends_at_once(tmp_path, monkeypatch, capfd):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with stop_on_signal(tmp_path):
        monkeypatch.setattr(Path, "write_text", full)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        assert "stopping at once: a checkpoint cannot be asked for (No space left" in capfd.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)


def test_request_that_a_kill_has_left_does_not_stop_the_next_run(tmp_path):
    (tmp_path / STOP_FILE).write_text("SIGTERM")
    with stop_on_signal(tmp_path):
        assert not (tmp_path / STOP_FILE).exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_handlers_are_put_back(tmp_path, number):
    before = signal.getsignal(number)
    with stop_on_signal(tmp_path):
        assert signal.getsignal(number) is not before
    assert signal.getsignal(number) is before


def test_without_listening_signals_mean_what_they_meant_and_an_old_request_is_forgotten_too(tmp_path):
    (tmp_path / STOP_FILE).write_text("SIGINT")
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signal(tmp_path, listens=False):
        assert signal.getsignal(signal.SIGTERM) == before
        assert not (tmp_path / STOP_FILE).exists()

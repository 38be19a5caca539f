import os

import pytest

from common.errors import InputError
from experiments.command_line import exit_code
from experiments.remote.addresses import bring_back, check_storage
from experiments.runs.record import write_run_record


@pytest.mark.parametrize("reach", [check_storage, lambda storage: bring_back(f"{storage}/dow")])
def test_home_that_cannot_be_written_to_is_told_with_what_to_set(tmp_path, monkeypatch, reach):
    write_run_record(tmp_path / "store" / "dow", config={}, provenance={}, scaler=None, agents=None)
    monkeypatch.setenv("HOME", "/proc/nowhere")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("TRADING_FLOOR_WORK", raising=False)
    with pytest.raises(InputError, match=r"which cannot be written to .*: let TRADING_FLOOR_WORK name another one$"):
        reach(f"file://{tmp_path}/store")


def test_user_without_a_home_has_one_while_a_command_runs(monkeypatch):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as where the system does not know the user
    monkeypatch.delenv("HOME", raising=False)
    assert exit_code(lambda words: int(os.environ["HOME"] != "/"), []) == 0

import errno

from ray.tune.execution.tune_controller import TuneController

from experiments.tuning.tune_state import unwritable_tune_state_is_borne


def test_account_that_cannot_be_written_does_not_end_training(monkeypatch, capsys):
    written, broken = [], [OSError(errno.ENOSPC, "No space left on device")] * 2

    def save_to_dir(controller):
        if broken:
            raise broken.pop()
        written.append(controller)

    monkeypatch.setattr(TuneController, "save_to_dir", save_to_dir)
    with unwritable_tune_state_is_borne():
        for controller in "abc":
            TuneController.save_to_dir(controller)
    assert written == ["c"]
    assert capsys.readouterr().err.count("Tune's own files cannot be written ([Errno 28]") == 1
    assert TuneController.save_to_dir is save_to_dir

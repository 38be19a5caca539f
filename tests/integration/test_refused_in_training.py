"""What only the process that trains can refuse, which alone imports torch and RLlib: one line, and nothing is left."""

from types import SimpleNamespace

import pytest
from commands import MARKET, PPO, QMIX, run_here

from common.errors import InputError
from experiments.recovery.lock import LOCK_FILE
from experiments.settings.metric_names import REFUSED
from experiments.tuning.trainables import StandIn

pytestmark = pytest.mark.usefixtures("ray_session")
AT_ONCE = ["--dqn.rollout-fragment-length"]
MUCH = ["--algo", "dqn", "--dqn.replay-capacity", "1000000", "--episodes", "200000000", "--keep", "1000000"]
HUGE = ["--qmix.hidden", "1000000", "1000000"]


def everything_in(folder):
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != LOCK_FILE)
    return {path: path.read_bytes() for path in files}


def refused(capsys):
    shown = capsys.readouterr()
    (line,) = shown.err.splitlines()
    assert "Traceback" not in shown.out
    return line


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ([*PPO, "--preset", "roles", "--ppo.use-shared-networks"], "--ppo.use-shared-networks"),
        ([*QMIX, "--qmix.replay-capacity", "16"], "replay_capacity"),
        ([*QMIX, "--qmix.network", "gru", "--qmix.n-step", "3"], "n_step"),
        ([*MARKET, "--algo", "dqn", "--dqn.n-step", "17"], "longer than the 16 bars of --dqn.rollout-fragment-length"),
        ([*MARKET, "--algo", "dqn", "--dqn.n-step", "900", *AT_ONCE, "900"], "an episode has 20 steps"),
        ([*MARKET, "--algo", "dqn", "--dqn.n-step", "21", *AT_ONCE, "900"], "an episode has 20 steps"),
        ([*MARKET, "--algo", "dqn", "--dqn.replay-capacity", "63"], "but 64 steps are sampled at once"),
        ([*MARKET, "--algo", "dqn", "--dqn.training-intensity", "1e-9"], "must lie between 0.0001 and 1e+04"),
        ([*MARKET, "--algo", "dqn", "--dqn.training-intensity", "1e9"], "must lie between 0.0001 and 1e+04"),
        ([*QMIX, *HUGE], "--qmix.hidden: networks of that size do not fit into the"),
        ([*QMIX, "--qmix.replay-capacity", "1000000000000"], "--qmix.replay-capacity 1000000000000: a replay buffer"),
        ([*QMIX, *HUGE, "--search.num-trials", "2"], "--qmix.hidden: networks of that size"),
        ([*MARKET, *MUCH], "lower --keep, --dqn.replay-capacity, or choose another --storage"),
    ],
)
def test_a_new_run_is_refused_and_leaves_nothing(tmp_path, capsys, words, wanted):
    assert run_here(tmp_path / "run", *words) == 2
    line = refused(capsys)
    assert line.startswith("error: ")
    assert wanted in line
    assert list(tmp_path.iterdir()) == []


def test_what_was_in_the_folder_stays(tmp_path, capsys):
    folder = tmp_path / "run"
    (folder / ".git").mkdir(parents=True)
    (folder / ".git" / "head").write_text("mine")
    (folder / "train.log").write_text("of a start that was killed")
    assert run_here(folder, *QMIX, "--qmix.replay-capacity", "16") == 2
    assert "replay_capacity" in refused(capsys)
    assert {path.name for path in folder.iterdir()} == {".git", "train.log", LOCK_FILE}
    assert (folder / ".git" / "head").read_text() == "mine"


@pytest.mark.parametrize("words", [["--scaling.num-env-runners", "1"], ["--search.num-trials", "2"]])
def test_a_run_of_several_processes_or_trials_is_refused_before_anything_is_written(tmp_path, capsys, words):
    assert run_here(tmp_path / "run", *MARKET, "--algo", "dqn", "--dqn.n-step", "900", *words) == 2
    assert "--dqn.n-step is 900, but an episode has 20 steps" in refused(capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["--keep", "100000000"], ["--resume", "never", "--dqn.n-step", "900"]])
def test_a_run_that_is_there_is_not_touched(tmp_path, capsys, words):
    folder = tmp_path / "run"
    own = [*MARKET, "--algo", "dqn", "--dqn.learning-starts", "64"]
    assert run_here(folder, *own, "--episodes", "8") == 0
    capsys.readouterr()
    before = everything_in(tmp_path)
    assert run_here(folder, *own, "--episodes", "200000000", *words) == 2
    assert "error: " in refused(capsys)
    assert everything_in(tmp_path) == before
    assert run_here(folder, *own, "--episodes", "12") == 0, "the same command without what was refused"


def test_a_trainable_that_is_started_again_fails_and_is_not_refused(tmp_path, monkeypatch):
    def make(*_, **__):
        raise InputError("the price file is gone")

    monkeypatch.setattr(StandIn, "make", make)
    storage = SimpleNamespace(trial_fs_path=str(tmp_path))
    first = StandIn({"is_to_check": True}, storage=storage)
    assert first.train()[REFUSED] == "the price file is gone"
    (tmp_path / "result.json").write_text("{}\n")
    for config in ({"is_to_check": True}, {"is_to_check": False}):
        with pytest.raises(InputError, match="the price file is gone"):
            StandIn(config, storage=storage)

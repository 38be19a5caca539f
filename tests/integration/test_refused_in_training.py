"""What only the process that trains can refuse, which alone imports torch and RLlib: one line, and nothing is left."""

import pytest
from commands import MARKET, PPO, QMIX, run_here

pytestmark = pytest.mark.usefixtures("ray_session")
MUCH = ["--algo", "dqn", "--dqn.replay-capacity", "2000000000", "--episodes", "200000000", "--keep", "100"]


def everything_in(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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
        ([*MARKET, "--algo", "dqn", "--dqn.n-step", "900"], "RLlib refuses these settings of dqn: Your `roll"),
        ([*MARKET, *MUCH], "lower --keep, --dqn.replay-capacity, or choose another --storage"),
    ],
)
def test_a_new_run_is_refused_and_leaves_nothing(tmp_path, capsys, words, wanted):
    assert run_here(tmp_path / "run", *words) == 2
    line = refused(capsys)
    assert line.startswith("error: ")
    assert wanted in line
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_carried_on_stays_as_it_was(tmp_path, capsys):
    folder = tmp_path / "run"
    words = [*MARKET, "--algo", "dqn", "--dqn.learning-starts", "64", "--episodes", "8"]
    assert run_here(folder, *words) == 0
    capsys.readouterr()
    before = everything_in(folder)
    assert run_here(folder, *words, "--episodes", "200000000", "--keep", "100000000") == 2
    assert "lower --keep" in refused(capsys)
    after = everything_in(folder)
    told = {path for path in before if path.name in ("config.json", "summary.json", "result.json", "progress.csv")}
    assert len(told) == 4
    assert {path: after[path] for path in told} == {path: before[path] for path in told}
    assert run_here(folder, *words, "--episodes", "12") == 0, "the same command without what was refused"


def test_the_run_that_was_moved_aside_is_put_back(tmp_path, capsys):
    folder = tmp_path / "run"
    assert run_here(folder, *QMIX, "--episodes", "8") == 0
    before = everything_in(folder)
    capsys.readouterr()
    assert run_here(folder, *QMIX, "--resume", "never", "--qmix.replay-capacity", "16") == 2
    assert "replay_capacity" in refused(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert everything_in(folder) == before

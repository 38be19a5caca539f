import json
import shutil

import pytest
from commands import QMIX, checkpoints, episodes_shown, meta, run_here, summary, tree

from experiments.recovery.names import BRANCH_FOLDER

pytestmark = pytest.mark.usefixtures("ray_session")
EPISODES = 40


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A finished run with all of its checkpoints."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    assert run_here(folder, *QMIX, "--keep", "9", "--episodes", EPISODES) == 0
    return folder


@pytest.fixture
def parent(first, tmp_path):
    """The same, to be changed."""
    return shutil.copytree(first, tmp_path / "parent")


def record(folder):
    return json.loads((folder / "config.json").read_text())


def test_branch_of_a_branch_records_where_it_comes_from_and_needs_none_of_them(parent, tmp_path, capsys):
    source = checkpoints(parent)[2]
    sha256, episode = meta(source)["weights_sha256"], meta(source)["episode"]
    words = ["--qmix.lr", "0.01", "--qmix.epsilon-end", "0.2", "--capital", "2e6", "--floor.costs.commission-bps", "3"]
    assert run_here(tmp_path / "one", "--branch-from", source, *words, "--episodes", EPISODES + 8) == 0
    assert min(episodes_shown(capsys.readouterr().out)) >= episode
    (first,) = record(tmp_path / "one")["branch_of"]
    assert (first["run"], first["checkpoint"]) == (str(parent), f"trial_0/{source.name}")
    assert (first["weights_sha256"], first["episode"]) == (sha256, episode)
    shutil.rmtree(parent)
    assert run_here(tmp_path / "two", "--branch-from", tmp_path / "one", "--episodes", EPISODES + 16) == 0
    second, last = record(tmp_path / "two")["branch_of"]
    assert second["weights_sha256"] == summary(tmp_path / "one")["weights_sha256"], "the newest one, not the best"
    assert last == first
    found = record(tmp_path / "two")["config"]
    assert (found["qmix"]["lr"], found["floor"]["capital"]) == (0.01, 2e6)
    assert run_here(tmp_path / "one", "--branch-from", source, *words, "--episodes", EPISODES + 24) == 0, "carries on"
    assert summary(tmp_path / "one")["episodes"] == EPISODES + 24


def test_branch_learns_at_its_own_rate_from_the_first_step(parent, tmp_path):
    source = checkpoints(parent)[2]
    for name, lr in (("still", "1e-30"), ("moving", "1e-2")):
        assert run_here(tmp_path / name, "--branch-from", source, "--qmix.lr", lr, "--qmix.grad-clip", "1e-9") == 0
    from algos.snapshots import read_module_states

    before, still, moving = (
        read_module_states(path)["team"]["agents.head.weight"]
        for path in (source, *(checkpoints(tmp_path / name)[-1] for name in ("still", "moving")))
    )
    assert abs(still - before).max() < 1e-12 < 1e-4 < abs(moving - before).max()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--qmix.hidden", "32"], "--qmix.hidden was [64, 64] and is now [32]"),
        (["--algo", "vdn", "--seed", "4"], "--seed was 0 and is now 4; --algo was qmix and is now vdn"),
        (["--data.synthetic.seed", "9"], "--data.synthetic.seed was"),
        (["--desk.ladder", "0", "1"], "--desk.ladder was [-1.0, -0.5, 0.0, 0.5, 1.0] and is now [0.0, 1.0]"),
        (["--qmix.replay-capacity", "5000"], "--qmix.replay-capacity was 100000 and is now 5000"),
        (["--episodes", str(EPISODES)], f"has {EPISODES} episodes already: raise --episodes"),
        (["--episodes", "99", "--load-model", "PARENT"], "leave one of them out"),
        (["--episodes", "99", "--search.num-trials", "2"], "not with a search"),
    ],
)
def test_what_a_branch_cannot_go_on_with_is_refused(first, tmp_path, words, complaint, capsys):
    folder = first
    before = tree(folder)
    words = [str(folder) if word == "PARENT" else word for word in words]
    assert run_here(tmp_path / "branch", "--branch-from", folder, *words) == 2
    err = capsys.readouterr().err
    assert complaint in err
    assert err.count("\n") == 1
    assert ("cannot differ" in err) == (f"--load-model {folder} --name NEW" in err)
    assert tree(folder) == before
    assert not (tmp_path / "branch").exists()


def test_branch_is_named_after_its_parent_and_carries_on_when_its_checkpoint_was_pruned(parent, tmp_path, monkeypatch):
    from experiments.command_line import exit_code
    from experiments.run import run

    source = checkpoints(parent)[1]
    words = ["--storage", str(tmp_path), "--branch-from", str(source)]
    assert exit_code(run, [*words, "--episodes", str(EPISODES)]) == 0
    shutil.rmtree(source)
    assert exit_code(run, [*words, "--episodes", str(EPISODES + 8)]) == 0
    assert summary(tmp_path / "branch-of-parent")["episodes"] == EPISODES + 8


def test_damaged_parents_are_refused(parent, tmp_path, capsys):
    newest = checkpoints(parent)[-1]
    (newest / "state.json").write_bytes(b"x")
    assert run_here(tmp_path / "branch", "--branch-from", newest, "--episodes", "99") == 2
    assert "is damaged, state.json" in capsys.readouterr().err
    assert run_here(tmp_path / "branch", "--branch-from", parent, "--episodes", EPISODES) == 0, "the newest whole one"
    assert meta(tmp_path / "branch" / BRANCH_FOLDER)["episode"] == EPISODES - 8

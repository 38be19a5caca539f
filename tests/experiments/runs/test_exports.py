import errno
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import ROOT
from exported_runs import RUNS
from safetensors import safe_open
from safetensors.torch import load_file
from sample_runs import train_run

from algos.export import KINDS, NETWORKS_FILE, read_tensors
from algos.policy import load_policy as load_checkpoint
from algos.sac.config import SACSettings
from common.errors import IncompatibleError
from common.files import read_json
from common.manifests import find_damage, seal
from experiments.checkpoints import run
from experiments.command_line import exit_code
from experiments.runs import exports
from experiments.runs.models import find_model, load_policy
from experiments.runs.run import Run

pytestmark = pytest.mark.usefixtures("ray_session")


def asked(*words):
    return exit_code(run, [str(word) for word in words])


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Run folders with one checkpoint each, and what was exported of them."""
    made = {}

    def get(name):
        if name not in made:
            folder = Run.of(train_run(tmp_path_factory.mktemp("runs") / name, RUNS[name])).folder
            out = folder.parent / "exported"
            assert asked("export", folder, "--out", out) == 0
            made[name] = folder, out
        return made[name]

    return get


def tensors_of(folder, kind):
    """owner -> name -> tensor."""
    end = f"{KINDS[kind]}.safetensors"
    return {
        p.name.removesuffix(end): load_file(p) for p in folder.glob(f"*{end}") if p.name.count(".") == end.count(".")
    }


@pytest.mark.parametrize("name", RUNS)
def test_exported_team_acts_as_the_checkpoint_does(exported, name):
    folder, out = exported(name)
    teams = [load_checkpoint(find_model(folder).checkpoint), load_policy(out), load_policy(folder)]
    layout, dice = teams[0].layout, np.random.default_rng(5)
    for _ in range(6):
        obs = 5.0 * dice.normal(size=(8, len(layout["obs_dims"]), max(layout["obs_dims"]))).astype(np.float32)
        mask = None if "continuous" in name else dice.random((*obs.shape[:2], 5)) < 0.7
        if mask is not None:
            mask[..., 2] = True
        first, *others = (team.act(obs, mask) for team in teams)
        assert len(torch.unique(first)) > 1
        assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("name", RUNS)
def test_one_call_takes_what_every_agent_observes(exported, name):
    team = load_policy(exported(name)[1])
    widths = dict(zip(team.agent_ids, team.layout["obs_dims"], strict=True))
    obs = {agent: np.full(width, 0.3, np.float32) for agent, width in widths.items()}
    actions = team(obs)
    assert list(actions) == list(team.agent_ids)
    if "continuous" in name:
        book = 1 if name.startswith("tqc") else 4  # an asset for each agent of a desk, all of them for roles
        assert {a.shape for a in actions.values()} == {(book,)}
        assert all(np.abs(a).max() <= 1 for a in actions.values())
        return
    team.reset()
    allowed = np.zeros(5, bool)
    allowed[(actions[team.agent_ids[0]] + 1) % 5] = True
    masked = team({a: {"observations": o, "action_mask": allowed} for a, o in obs.items()})
    assert set(masked.values()) == {int(allowed.argmax())}
    with pytest.raises(IncompatibleError, match=f"observations of {team.agent_ids[0]} are missing"):
        team({a: o for a, o in obs.items() if a != team.agent_ids[0]})
    with pytest.raises(IncompatibleError, match=r"has \d+ numbers, but the team knows"):
        team({a: o[1:] for a, o in obs.items()})


def test_slices_of_a_team_join_to_what_was_saved(exported):
    from algos.snapshots import read_module_states

    folder, out = exported("qmix-separate")
    (state,) = read_module_states(find_model(folder).checkpoint).values()
    for kind, prefix in (("networks", ""), ("targets", "target_")):
        owners = tensors_of(out, kind)
        mixer = owners.pop("mixer")
        assert sorted(owners) == sorted(["momentum", "trend", "mean_reversion", "volatility", "risk"])
        joined = {
            f"{prefix}agents.{n}": torch.cat(
                [owners[a][n] for a in ("momentum", "trend", "mean_reversion", "volatility", "risk")]
            )
            for n in owners["risk"]
        } | {f"{prefix}mixer.{n}": v for n, v in mixer.items()}
        wanted = {n: v for n, v in state.items() if n.startswith((f"{prefix}agents", f"{prefix}mixer"))}
        assert joined.keys() == wanted.keys()
        assert all(np.array_equal(joined[n].numpy(), wanted[n]) for n in wanted)


@pytest.mark.parametrize(
    ("name", "owners", "memory"),
    [
        ("qmix", 5, "exp_avg"),
        ("vdn", 4, "square_avg"),
        ("indq", 4, "exp_avg"),
        ("ppo", 4, "exp_avg"),
        ("mappo", 5, "exp_avg"),
        ("ippo-continuous", 6, "exp_avg_sq"),
        ("maddpg", 5, "exp_avg"),
        ("maddpg-continuous", 6, "exp_avg_sq"),
        ("dqn", 4, "exp_avg_sq"),
        ("appo", 4, "exp_avg"),
        ("tqc-continuous", 4, "exp_avg"),
        ("sac-continuous", 5, "exp_avg_sq"),
    ],
)
def test_optimizers_are_readable_weight_by_weight(exported, name, owners, memory):
    _, out = exported(name)
    networks, optimizers = tensors_of(out, "networks"), tensors_of(out, "optimizers")
    assert len(optimizers) == len(networks) == owners
    assert (name == "qmix") == ("mixer" in networks)
    for owner, tensors in optimizers.items():
        remembered = {n.removesuffix(f"/{memory}") for n in tensors if n.endswith(f"/{memory}")}
        assert remembered
        remembered.discard("log_alpha")  # the one weight that is in no network
        assert remembered <= networks[owner].keys()
        assert all(tensors[f"{n}/{memory}"].shape == networks[owner][n].shape for n in remembered)
        assert any(bool(tensors[f"{n}/{memory}"].abs().sum() > 0) for n in remembered)


def test_targets_are_beside_the_networks_that_they_follow(exported):
    networks, targets = (tensors_of(exported("dqn")[1], kind) for kind in ("networks", "targets"))
    assert networks.keys() == targets.keys()
    assert all(networks[a].keys() == targets[a].keys() for a in networks)
    assert tensors_of(exported("ppo")[1], "targets") == {}
    networks, targets = (tensors_of(exported("appo")[1], kind) for kind in ("networks", "targets"))
    assert networks.keys() == targets.keys()
    assert all(targets[a].keys() == {n for n in networks[a] if not n.startswith("vf.")} for a in networks)


def test_temperature_of_sac_is_beside_what_its_optimizer_remembers(exported):
    _, out = exported("sac-continuous")
    for agent, tensors in tensors_of(out, "optimizers").items():
        assert tensors["log_alpha/exp_avg"].shape == tensors["log_alpha"].shape == (1,), agent
        assert tensors["log_alpha"].item() != pytest.approx(math.log(SACSettings().initial_alpha), abs=1e-6)


def test_headers_say_whose_weights_these_are(exported):
    folder, out = exported("qmix")
    meta = read_json(find_model(folder).checkpoint / "checkpoint_meta.json")
    with safe_open(out / "trader_1.safetensors", "pt") as file:
        header = file.metadata()
    expected = {"agent": "trader_1", "algo": "qmix", "run": str(folder), "seed": "0", "format": "1", "kind": "networks"}
    expected |= {"episode": str(meta["episode"]), "env_steps": str(meta["total_steps"]), "action_space": "Discrete(5)"}
    expected |= {"weights_sha256": meta["weights_sha256"], "ladder": "[-1.0, -0.5, 0.0, 0.5, 1.0]"}
    assert {k: header[k] for k in expected} == expected
    assert int(header["obs_width"]) > 10
    assert header["trading_floor"]


def test_summary_tells_people_and_programs_all_of_it(exported, tmp_path):
    folder, out = exported("qmix")
    found = read_json(out / "summary.json")
    meta = read_json(find_model(folder).checkpoint / "checkpoint_meta.json")
    assert (found["seed"], found["environment"], found["num_agents"]) == (0, "trading-floor", 4)
    assert found["recent_mean_reward"] == meta["recent_mean_reward"] is not None
    assert found["noise"]["epsilon"] == meta["epsilon"] < 1
    assert found["progress"]["episodes"] == meta["episode"] > 0
    assert found["config"] == read_json(folder / "config.json")["config"]
    text = (out / "summary.md").read_text()
    for words in ("| seed | 0 |", "| agents | 4 |", f"| recent mean reward | {meta['recent_mean_reward']:.4f} |"):
        assert words in text
    assert "from experiments.runs.models import load_policy\n" in text
    assert find_damage(out) == []
    assert not list(out.parent.glob(".*exporting"))


@pytest.mark.parametrize("out", [None, "not/there/yet"])
def test_folders_on_the_way_are_made(exported, tmp_path, out):
    folder = shutil.copytree(exported("ppo")[0], tmp_path / "run")
    where = [] if out is None else ["--out", tmp_path / out]
    assert asked("export", folder, *where) == 0
    (made,) = (folder / "export").iterdir() if out is None else [tmp_path / out]
    assert read_json(made / "summary.json")["algo"] == "ppo"


def test_folder_that_holds_something_is_not_written_over(exported, tmp_path, capsys):
    folder, _ = exported("ppo")
    (tmp_path / "mine").write_text("x")
    for out in (tmp_path, tmp_path / "mine"):
        assert asked("export", folder, "--out", out) == 2
        err = capsys.readouterr().err
        assert "holds something already" in err
        assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    (tmp_path / "empty").mkdir()
    assert (
        asked("export", find_model(folder).checkpoint, "--out", tmp_path / "empty", "--json", tmp_path / "out.json")
        == 0
    )
    assert read_json(tmp_path / "out.json")["summary"]["which"] == "named"


@pytest.fixture(params=["here", "link", "mount"])
def place(request, tmp_path, monkeypatch):
    """An empty folder that is there, and what ``--out`` calls it."""
    folder = tmp_path / "folder"
    folder.mkdir()
    if request.param == "here":
        monkeypatch.chdir(folder)
        return folder, "."
    if request.param == "link":
        (tmp_path / "link").symlink_to(folder, target_is_directory=True)
        return folder, tmp_path / "link"
    real = os.rename

    def rename(source, target):
        if Path(target) == folder:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        if (folder in Path(source).parents) != (folder in Path(target).parents):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    return folder, folder


def test_folder_that_is_there_stays_and_gets_the_files(exported, place, tmp_path):
    (folder, out), number = place, place[0].stat().st_ino
    (folder / ".exporting").mkdir()  # as a kill leaves it
    assert asked("export", exported("ppo")[0], "--out", out, "--json", tmp_path / "out.json") == 0
    assert folder.stat().st_ino == number
    assert find_damage(folder) == []
    assert {path.name for path in folder.iterdir()} == {path.name for path in exported("ppo")[1].iterdir()}
    assert read_json(tmp_path / "out.json")["folder"] == str(folder)
    assert load_policy(out).agent_ids


def test_export_killed_while_its_files_are_moved_is_told_from_a_whole_one(exported, tmp_path, monkeypatch):
    out, real, kills = tmp_path / "out", os.rename, 0

    def rename(source, target):
        nonlocal kills
        real(source, target)
        names = os.listdir(out)
        if "COMPLETE" not in names and NETWORKS_FILE in names:
            kills += 1
            with pytest.raises(IncompatibleError, match="COMPLETE: is missing"):
                load_policy(out)

    out.mkdir()
    monkeypatch.setattr(os, "rename", rename)
    assert asked("export", exported("ppo")[0], "--out", out) == 0
    assert kills > 0
    assert find_damage(out) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EXDEV])
@pytest.mark.parametrize("moment", ["seal", "rename"])
@pytest.mark.parametrize("is_there", [False, True])
def test_export_that_fails_leaves_nothing_behind(exported, tmp_path, monkeypatch, capsys, code, moment, is_there):
    folder, _ = exported("ppo")
    out, real = tmp_path / "out", os.rename

    def full(path, *_):
        raise OSError(code, os.strerror(code))

    def rename(source, target):
        return real(source, target) if Path(source).name == "manifest.json" else full(source)

    if is_there:
        out.mkdir()
    monkeypatch.setattr(*((exports, "seal", full) if moment == "seal" else (os, "rename", rename)))
    assert asked("export", folder, "--out", out) == 1
    assert capsys.readouterr().err == f"error: cannot export to {out}: {os.strerror(code)}\n"
    assert list(tmp_path.iterdir()) == ([out] if is_there else [])
    assert not is_there or list(out.iterdir()) == []


def test_flipped_bit_in_the_bounds_of_an_action_space_is_refused(exported, tmp_path):
    copy = shutil.copytree(exported("ppo-continuous")[1], tmp_path / "copy")
    path = copy / NETWORKS_FILE
    whole = path.read_text()
    path.write_text(whole.replace('"1.0"', '"5.0"', 1))
    assert path.read_text() != whole
    with pytest.raises(IncompatibleError, match=f"is damaged, {NETWORKS_FILE}: has other content than was written"):
        load_policy(copy)


def test_changed_weights_and_changed_descriptions_are_refused_without_a_manifest(exported, tmp_path):
    copy = shutil.copytree(exported("ppo")[1], tmp_path / "copy")
    for name in ("manifest.json", "COMPLETE"):
        (copy / name).unlink()
    path = copy / "trader_0.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(IncompatibleError, match="has other weights than were exported"):
        load_policy(copy)
    path.write_bytes(whole[:-9])
    with pytest.raises(IncompatibleError, match="cannot be read"):
        read_tensors(path)
    path.write_bytes(whole)
    description = read_json(copy / NETWORKS_FILE)
    description["modules"]["shared"]["class"] = "Other"
    (copy / NETWORKS_FILE).write_text(json.dumps(description))
    with pytest.raises(IncompatibleError, match="'Other' are not known"):
        load_policy(copy)


def test_checkpoint_whose_optimizers_are_none_is_not_exported(exported, tmp_path, capsys):
    folder = shutil.copytree(exported("ppo")[0], tmp_path / "run")
    checkpoint = find_model(folder).checkpoint
    path = checkpoint / "state.json"
    path.write_text(path.read_text().replace('"module_id"', '"module"'))
    seal(checkpoint)
    assert asked("export", folder, "--out", tmp_path / "out") == 2
    assert "no optimizers of 'shared' (KeyError: 'module_id')" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_checkpoint_that_names_networks_which_it_lacks_is_not_exported(exported, tmp_path, capsys):
    folder = shutil.copytree(exported("ppo")[0], tmp_path / "run")
    checkpoint = find_model(folder).checkpoint
    layout = read_json(checkpoint / "team.json")
    (checkpoint / "team.json").write_text(json.dumps({**layout, "modules": ["../x", *layout["modules"][1:]]}))
    seal(checkpoint)
    assert asked("export", folder, "--out", tmp_path / "out") == 2
    assert "names networks that it does not hold: ../x" in capsys.readouterr().err


def test_damaged_checkpoint_is_not_exported(exported, tmp_path, capsys):
    folder = shutil.copytree(exported("ppo")[0], tmp_path / "run")
    (find_model(folder).checkpoint / "team.json").write_text("{}")
    assert asked("export", folder, "--out", tmp_path / "out") == 2
    assert "is damaged, team.json" in capsys.readouterr().err


SCRIPT = """
import pickle
def refuse(*_, **__):
    raise AssertionError("nothing is unpickled")
import sys, numpy as np
from experiments.runs.models import load_policy
import ray
if sys.argv[2] == "exported":
    import algos.policy
    pickle.loads = pickle.load = refuse
policy = load_policy(sys.argv[1])
print(policy({a: np.zeros(w, np.float32) for a, w in zip(policy.agent_ids, policy.layout["obs_dims"])}))
assert not ray.is_initialized()
"""


@pytest.mark.parametrize("what", ["exported", "run"])
def test_fresh_process_acts_without_ray(exported, what):
    path = exported("qmix")[what == "exported"]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path), what],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "trader_3" in done.stdout
    assert done.stderr == ""

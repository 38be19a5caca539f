"""Ray: only this machine reaches a local one, whoever joins a cluster has its token, and nobody else can read that."""

import os
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
import yaml
from commands import ROOT, run_script

from algos.scaling import ScalingSettings
from common.errors import InputError
from experiments.tuning import cluster, ray_token, session

LISTENING = """
import os
os.environ.pop("RAY_AUTH_MODE", None)
import psutil, ray
from experiments.tuning.local_ray import start_local_ray
from ray._private.authentication.authentication_utils import get_authentication_mode_name
from ray._raylet import get_authentication_mode
start_local_ray(include_dashboard=False, log_to_driver=False, logging_level="error", num_cpus=1)
ray.get(ray.remote(lambda: 0).remote())
me = psutil.Process()
for process in [me, *me.children(recursive=True)]:
    for place in process.net_connections(kind="inet"):
        if place.status == "LISTEN":
            print("listens", place.laddr.ip)
print("mode", get_authentication_mode_name(get_authentication_mode()))
"""


def test_local_ray_listens_to_this_machine_alone_and_asks_for_a_token(tmp_path):
    done = run_script(LISTENING, HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert {line for line in lines if line.startswith("listens")} == {
        "listens 127.0.0.1",
        "listens ::ffff:127.0.0.1",
    }
    assert "mode token" in lines
    assert stat.S_IMODE((tmp_path / ".ray" / "auth_token").stat().st_mode) == 0o600


@pytest.fixture
def home(tmp_path, monkeypatch):
    for name in (ray_token.TOKEN, ray_token.TOKEN_PATH):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def test_token_is_made_once_and_read_by_its_user_alone(home):
    before = os.umask(0)
    try:
        ray_token.keep_token()
    finally:
        os.umask(before)
    path = home / ".ray" / "auth_token"
    token = path.read_text()
    assert len(token) == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)  # as Ray itself makes it
    ray_token.keep_token()
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == (token, 0o600)
    assert os.listdir(home / ".ray") == ["auth_token"]


def test_token_of_a_home_that_cannot_be_written_to_lives_in_the_environment(home, monkeypatch):
    (home / ".ray").write_text("no folder")
    monkeypatch.setenv(ray_token.TOKEN, "")
    ray_token.keep_token()
    assert len(os.environ[ray_token.TOKEN]) == 64


def test_token_that_the_user_names_is_his(home, monkeypatch):
    monkeypatch.setenv(ray_token.TOKEN_PATH, str(home / "mine"))
    ray_token.keep_token()
    assert os.listdir(home) == [], "Ray says itself that there is none"


SHOWN = """
import os
os.environ.pop("RAY_AUTH_MODE", None)
from experiments.tuning.ray_internals import show_token
show_token()
print(os.environ.get("RAY_AUTH_MODE"))
"""


def test_token_that_is_there_is_shown_to_a_cluster(home):
    alone = run_script(SHOWN, HOME=str(home))
    ray_token.keep_token()
    having = run_script(SHOWN, HOME=str(home))
    assert (alone.stdout, having.stdout) == ("None\n", "token\n")
    assert "WARNING" not in alone.stderr + having.stderr


@pytest.mark.parametrize("error", [ray.exceptions.AuthenticationError("no token"), ConnectionError("no answer")])
def test_cluster_that_turns_a_command_away_is_one_line(monkeypatch, error):
    def refuse(*args, **kwargs):
        raise error

    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setattr(cluster, "show_token", lambda: None)
    monkeypatch.setattr(cluster, "_check_listens", lambda address: None)
    monkeypatch.setattr(cluster.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=0))
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(InputError, match=r"^RAY_ADDRESS is 10\.0\.0\.1:6379, which cannot be joined \(no .*token"):
        session.start_ray(ScalingSettings())


def test_every_node_of_the_cluster_has_the_token_and_asks_for_it():
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    assert config["file_mounts"]["/home/ubuntu/.ray/auth_token"] == "~/.ray/auth_token"
    starts = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    starts = [line for line in starts if "ray start" in line]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in line for line in starts)
    assert any("chmod 600 ~/.ray/auth_token" in line for line in config["setup_commands"])
    assert Path(ray_token.token_file()).name == "auth_token"

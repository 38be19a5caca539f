"""Keys in an address are refused in one line that does not repeat them, and no file ever holds them."""

import json
import os
import subprocess
import sys

import pytest
from commands import ROOT
from sample_runs import make_run
from tampering import rewrite

from common.errors import InputError
from common.provenance import collect_provenance
from common.store import Store, holds_keys, without_keys
from experiments.runs.models import load_policy
from experiments.runs.record import read_run_record
from experiments.runs.restorable import restorable

SECRET = "wJalrXUtnFEMI"
ADDRESSES = [
    f"s3://AKIAKEY:{SECRET}@bucket/results",
    f"s3://AKIAKEY:ab/{SECRET}@bucket/results",
    f"s3://AKIAKEY%3A{SECRET}%40bucket/results",
    f"s3://bucket/results?access_key=AKIAKEY&secret_key={SECRET}",
    f"s3://bucket/results?region=us-east-1&SESSION_TOKEN={SECRET}",
    f"s3://bucket/results?endpoint_override=http://AKIAKEY:{SECRET}@host:9000",
    f"abfs://:{SECRET}@account.dfs.core.windows.net/results",
]
NONE = [
    "s3://bucket/results?endpoint_override=127.0.0.1:9000&scheme=http&region=us-east-1",
    "gs://anonymous@bucket/results",
    "ray://head:10001",
    "results/monkey=1?key=2",
    "s3://bucket/a@b",
]
VERBS = {
    "--storage": ["run.py", "--storage"],
    "--load-model": ["run.py", "--load-model"],
    "--branch-from": ["run.py", "--branch-from"],
    "--resume": ["run.py", "--resume"],
    "--data.path": ["run.py", "--data.path"],
    "--model": ["backtest.py", "--model"],
    "the path": ["checkpoints.py", "export"],
    "--out": ["checkpoints.py", "export", "results/dow", "--out"],
    "--json": ["score.py", "--json"],
    "--storage of evaluate": ["evaluate.py", "--storage"],
}


@pytest.mark.parametrize("address", ADDRESSES)
def test_address_with_keys_is_known_and_redacted(address):
    assert holds_keys(address)
    assert SECRET not in json.dumps(without_keys({"a": [f"--storage={address}"]}))
    with pytest.raises(InputError, match="AWS_ACCESS_KEY_ID") as refused:
        Store(address)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("address", NONE)
def test_address_without_keys_is_left_alone(address):
    assert not holds_keys(address)
    assert without_keys(address) == address


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Runs commands with an address that holds a secret, in a home of their own; returns what they say."""
    home = tmp_path_factory.mktemp("home")

    def ask(*words):
        env = {**os.environ, "HOME": str(home), "TMPDIR": str(home / "tmp"), "RAY_TMPDIR": str(home / "tmp")}
        (home / "tmp").mkdir(exist_ok=True)
        done = subprocess.run(
            [sys.executable, str(ROOT / "experiments" / words[0]), *words[1:]],
            capture_output=True, text=True, timeout=120, cwd=home, env=env, check=False,
        )  # fmt: skip
        return done, home

    return ask


@pytest.mark.parametrize("verb", VERBS)
def test_keys_are_refused_by_every_verb_and_stand_in_no_file(asked, verb):
    done, home = asked(*VERBS[verb], ADDRESSES[0])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {verb.partition(' of ')[0]} is an address with keys in it")
    assert done.stderr.count("\n") == 1
    assert SECRET not in done.stderr
    assert not [path for path in home.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


def test_keys_in_a_file_of_settings_are_refused_by_its_name(asked, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(f"episodes: 8\nstorage: {ADDRESSES[3]}\n")
    done, home = asked("run.py", "--config", str(path))
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: storage in {path} is an address with keys in it")
    assert SECRET not in done.stdout + done.stderr
    assert not [found for found in home.rglob("*") if found.is_file() and SECRET.encode() in found.read_bytes()]


@pytest.mark.parametrize("read", [load_policy, restorable])
def test_keys_are_refused_by_what_python_calls(read):
    with pytest.raises(InputError, match="address with keys in it"):
        read(ADDRESSES[0])


def test_keys_that_a_run_of_before_recorded_are_not_written_again(tmp_path):
    make_run(tmp_path / "dow")
    content = json.loads((tmp_path / "dow" / "config.json").read_text())
    provenance = content["provenance"] | {"command": f"run.py --load-model {ADDRESSES[0]}"}
    rewrite(tmp_path / "dow" / "config.json", config=content["config"] | {"load_model": ADDRESSES[0]})
    rewrite(tmp_path / "dow" / "config.json", provenance=provenance, format=1)  # without a checksum
    record = read_run_record(tmp_path / "dow")
    assert SECRET not in json.dumps([record.config, record.provenance])


def test_command_that_is_recorded_holds_no_keys():
    found = collect_provenance(data_fingerprint=None, argv=["run.py", f"--storage={ADDRESSES[0]}", "--seed", "1"])
    assert found["command"] == "run.py --storage=s3://... --seed 1"

"""Learner and floor are placed on a GPU where one is; what needs none runs everywhere, the rest has the gpu marker."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from commands import MADDPG, QMIX, ROOT, TIMEOUT_S, Started, checkpoints, meta, run_command

from algos.registry import DISCRETE, algorithms
from algos.runner import TeamEnvRunner
from common.errors import InputError
from envs.settings import DeskConfig
from experiments.builders.algorithms import algorithm_config
from experiments.settings.run_config import RunConfig, config_to_json
from experiments.tuning import session
from experiments.tuning.ray_internals import HEAD_NODE
from experiments.tuning.run_trainable import algorithm_class
from experiments.tuning.trainables import trainable_class

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")


def scaled(algo="qmix", **settings):
    run = RunConfig(algo=algo)
    return replace(run, scaling=replace(run.scaling, **settings))


@pytest.fixture
def cluster(monkeypatch):
    """Pretend that Ray has found so many GPUs."""

    def with_gpus(count):
        monkeypatch.setattr(session.ray, "cluster_resources", lambda: {"CPU": 8.0, **({"GPU": count} if count else {})})

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return with_gpus


@pytest.mark.parametrize(
    ("found", "num_learners", "asked", "expected"),
    [(0, 0, None, 0.0), (1, 0, None, 1.0), (1, 2, None, 0.0), (2, 2, None, 1.0), (1, 0, 0.0, 0.0), (1, 0, 0.5, 0.5)],
)
def test_learners_get_the_gpus_that_are_there(cluster, found, num_learners, asked, expected):
    cluster(found)
    run = scaled(num_learners=num_learners, num_gpus_per_learner=asked)
    found_devices = session.with_devices(run.scaling)
    assert found_devices.num_gpus_per_learner == expected
    assert algorithm_config(replace(run, scaling=found_devices)).num_gpus_per_learner == expected


@pytest.mark.parametrize(
    "settings",
    [{"num_gpus_per_learner": 1.0}, {"floor_device": "cuda"}, {"num_gpus_per_env_runner": 0.5, "num_env_runners": 2}],
)
def test_gpus_that_are_not_there_are_refused(cluster, settings):
    cluster(0)
    with pytest.raises(InputError, match="GPU"):
        session.with_devices(scaled(**settings).scaling)


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize(("num_learners", "gpus"), [(0, 1.0), (2, 1.0), (0, 0.0)])
def test_a_trial_asks_ray_for_what_its_learners_need(num_learners, gpus):
    run = scaled(num_learners=num_learners, num_gpus_per_learner=gpus)
    request = trainable_class(run).default_resource_request({"run": config_to_json(run)})
    assert request.required_resources.get("GPU", 0.0) == gpus * max(1, num_learners)


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("algo", algorithms())
@pytest.mark.parametrize("gpus", [0.0, 1.0])
def test_a_run_in_one_process_asks_for_what_rllib_would(algo, gpus):
    action = "continuous" if DISCRETE not in algorithms()[algo].actions else "discrete"
    run = replace(scaled(num_gpus_per_learner=gpus), algo=algo, desk=DeskConfig(action=action))
    config = {"run": config_to_json(run)}
    own, rllibs = (cls.default_resource_request(config) for cls in (trainable_class(run), algorithm_class(run)))
    assert own.required_resources == rllibs.required_resources
    assert len(own.bundles) == len(rllibs.bundles)


@pytest.mark.usefixtures("ray_session")
def test_a_run_kept_in_a_store_is_coordinated_where_its_command_is_given():
    run = replace(scaled(num_learners=1, num_env_runners=2), storage="s3://bucket/results")
    request = trainable_class(run).default_resource_request({"run": config_to_json(run)})
    first, *others = request.bundles
    assert first == {HEAD_NODE: 0.001}, "a head may have no CPUs to give away"
    assert sum(bundle.get("CPU", 0) for bundle in others) == 3
    elsewhere = replace(run, storage="results")
    request = trainable_class(run).default_resource_request({"run": config_to_json(elsewhere)})
    assert not any(HEAD_NODE in bundle for bundle in request.bundles)


@pytest.mark.parametrize(
    ("settings", "worker_index", "on_gpu"),
    [
        ({"num_gpus_per_learner": 1.0}, 0, True),  # the local learner's process steps the floor on the same GPU
        ({"num_gpus_per_learner": 1.0, "num_learners": 2}, 0, False),  # the learners are elsewhere, with their GPUs
        ({"num_gpus_per_learner": 1.0, "num_env_runners": 2}, 1, False),
        ({"num_gpus_per_env_runner": 0.5, "num_env_runners": 2}, 1, True),
        ({"num_gpus_per_learner": 1.0, "floor_device": "cpu"}, 0, False),
        ({"floor_device": "cuda"}, 0, True),
    ],
)
def test_the_floor_is_stepped_where_its_runner_has_a_gpu(monkeypatch, settings, worker_index, on_gpu):
    monkeypatch.setattr("algos.runner.get_device", lambda config, gpus: torch.device("cuda" if gpus else "cpu"))
    config = algorithm_config(scaled(**{"num_gpus_per_learner": 0.0, **settings}))
    runner = SimpleNamespace(config=config, worker_index=worker_index)
    assert TeamEnvRunner._choose_device(runner).type == ("cuda" if on_gpu else "cpu")


def on_another_device(*what):
    """What ``other_device.py`` finds in a process of its own."""
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "other_device.py", *what],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_floor_keeps_the_same_books_on_another_device():
    assert on_another_device("floor") == {"device": "other:0", "same": True, "state": []}


@pytest.mark.parametrize(
    ("algo", "network"),
    [
        ("ppo", "mlp"),
        pytest.param("maddpg", "transformer", marks=pytest.mark.slow),
        pytest.param("mappo", "gru", marks=pytest.mark.slow),
        pytest.param("qmix", "gru", marks=pytest.mark.slow),
    ],
)
def test_a_team_trains_on_another_device(algo, network):
    found = on_another_device(algo, network)
    assert found["learner"] == found["optimizer"] == ["other"]
    assert found["floor"] == "other:0"
    assert found["state"] == ["cpu"], "a checkpoint is read on machines without the device"
    assert found["updates"] > 0
    assert found["evaluation"] == ["env_runners"]
    assert found["apart"] < (1e-3 if network == "transformer" else 1e-7), (
        "torch has its own kernel for attention on a CPU"
    )


@pytest.mark.gpu
@needs_gpu
@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("algo", ["qmix", "ppo"])
def test_a_team_trains_on_the_gpu(algo):
    run = scaled(algo, num_gpus_per_learner=1.0, num_envs_per_env_runner=64)
    algorithm = algorithm_config(run).build_algo()
    try:
        for _ in range(3):
            result = algorithm.train()
        learner = algorithm.learner_group._learner
        assert learner._device.type == "cuda"
        assert {p.device.type for m in learner.module.values() for p in m.parameters()} == {"cuda"}
        assert algorithm.env_runner._device.type == "cuda"
        assert result["env_runners"]["num_env_steps_sampled_lifetime"] > 0
    finally:
        algorithm.stop()


@pytest.mark.gpu
@needs_gpu
def test_the_floor_keeps_the_same_books_on_the_gpu():
    from envs.floor import build_floor
    from envs.settings import FloorSpec

    on_cpu, on_gpu = (build_floor(FloorSpec(), num_replicas=64, device=d, seed=3) for d in ("cpu", "cuda"))
    on_cpu.reset(3), on_gpu.reset(3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        actions = torch.randint(0, 5, (64, len(on_cpu.agent_ids)), generator=generator)
        one, two = on_cpu.step(actions), on_gpu.step(actions.cuda())
        assert torch.allclose(one.reward, two.reward.cpu(), rtol=0, atol=1e-12)
        assert torch.allclose(one.obs, two.obs.cpu(), atol=1e-5)
        assert torch.equal(one.terminated, two.terminated.cpu())
        assert torch.equal(one.truncated, two.truncated.cpu())


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("words", [QMIX, MADDPG], ids=["qmix", "maddpg"])
def test_killed_run_on_the_gpu_ends_as_one_that_never_was(tmp_path, words):
    words = [*words, "--episodes", "80", "--keep", "20"]
    assert run_command(tmp_path / "whole", *words).returncode == 0
    with Started(tmp_path / "killed", *words) as started:
        started.wait_for_episodes(24)
        started.kill()
    assert run_command(tmp_path / "killed", *words).returncode == 0
    whole, killed = (meta(checkpoints(tmp_path / name)[-1]) for name in ("whole", "killed"))
    assert killed["weights_sha256"] == whole["weights_sha256"]
    assert killed["episode"] == whole["episode"] >= 80

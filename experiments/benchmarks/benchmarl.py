"""QMIX and MADDPG beside BenchMARL (TorchRL) on the same task: frames of whole training a second."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from algos.maddpg.algorithm import MADDPGConfig
from algos.maddpg.config import MADDPGSettings
from algos.qmix.algorithm import QMIXConfig
from algos.qmix.config import QMIXSettings
from common.errors import InputError
from common.files import write_json
from envs.benchmarks.rllib import BenchmarkEnv, register
from experiments.benchmarks.timing import learner_gpus, measure

PACKAGES = ("benchmarl==1.5.*", "mpe2==1.1.*", "pettingzoo>=1.25")
TORCH = "torch==2.13.0"
DRIVER = Path(__file__).with_name("benchmarl_driver.py")
STAMP = "installed.json"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
TASK = "simple_spread"
ITERATIONS = 6
"""Of training in one timed round."""
SHARED: dict[str, Any] = {
    "device": "cpu",
    "task": {"N": 3, "max_cycles": 25, "local_ratio": 0.5},
    "replicas": 16,
    "frames_per_iteration": 256,
    "batch": 128,
    "replay_capacity": 100_000,
    "hidden": (64, 64),
    "gamma": 0.99,
    "lr": 5e-4,
    "grad_clip": 10.0,
}
"""What both sides are told."""
UPDATES = (8, 43)
"""In an iteration: as many to a frame as our defaults have, 8 to 256, and as BenchMARL's have, 1,000 to 6,000."""
OWN: dict[str, dict[str, Any]] = {
    "qmix": {"tau": 1.0, "target_network_update_freq": 200, "mixing_embed_dim": 32},
    "maddpg": {"tau": 0.01, "target_network_update_freq": 1},
}
"""What both sides are told of each algorithm."""
SIDES = {"ours": "ours", "theirs": "BenchMARL 1.5"}
DIFFER = {
    ("qmix", "ours"): "hypernetworks of two layers",
    ("qmix", "theirs"): "hypernetworks of one layer",
    ("maddpg", "ours"): "each policy judged beside what the others did",
    ("maddpg", "theirs"): "all policies judged at once",
}
"""What cannot be set alike; ours has the more arithmetic in both."""
STEPPED = {"ours": "replicas stepped as one", "theirs": "replicas stepped one by one"}
"""How each side steps the same game, to the same numbers: each as its users get it."""


class NotMeasuredError(RuntimeError):
    """BenchMARL could not be installed or run; in one line."""


# -- its environment ---------------------------------------------------------------------------------------------------


def benchmarl_python(folder: Path) -> Path:
    """Return the interpreter of BenchMARL's virtual environment, which is made where it is not there or not whole.

    BenchMARL pulls in torchvision, and with it another build of torch than the one that is asked for; it runs without.

    Args:
        folder: Of the virtual environment.

    Raises:
        NotMeasuredError: if a step of it failed, with the last line that pip said.
    """
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    wanted = {"packages": [TORCH, *PACKAGES]}
    stamp = folder / STAMP
    if stamp.is_file() and json.loads(stamp.read_text(encoding="utf-8")) == wanted:
        return python
    print(f"installing BenchMARL in a virtual environment of its own, {folder} (about 1.5 GB)", flush=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [*pip, "install", TORCH],
        [*pip, "install", TORCH, *PACKAGES],
        [*pip, "uninstall", "--yes", "torchvision"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotMeasuredError(f"BenchMARL could not be installed in {folder}: {last_line(done.stderr)}")
    write_json(stamp, wanted)
    return python


def last_line(text: str) -> str:
    """The last line that says anything, which is where pip and Python say what is wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


@contextmanager
def driver(command: Sequence[str], asked: dict[str, Any]) -> Iterator[Callable[[int], dict[str, float]]]:
    """Run BenchMARL's side in its own process for as long as the block lasts.

    Args:
        command: Runs the driver.
        asked: The settings of both sides.

    Yields:
        What has it train so many iterations, and returns their frames and seconds.

    Raises:
        NotMeasuredError: if it did not start, or ended.
    """
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | dict.fromkeys(THREADS, "1")
    with tempfile.TemporaryDirectory() as folder, open(Path(folder) / "errors.txt", "w+", encoding="utf-8") as errors:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors}
        try:
            process = subprocess.Popen(command, text=True, env=environment, **pipes)
        except OSError as error:
            raise NotMeasuredError(f"BenchMARL could not be started: {error}") from None

        def ask(line: str) -> dict[str, float]:
            assert process.stdin is not None
            assert process.stdout is not None
            with suppress(BrokenPipeError):
                process.stdin.write(line + "\n")
                process.stdin.flush()
                while answer := process.stdout.readline():
                    if answer.startswith("{"):  # libraries greet on the same stream
                        return json.loads(answer)
            process.wait()
            errors.seek(0)
            raise NotMeasuredError(f"BenchMARL ended: {last_line(errors.read())}")

        try:
            ask(json.dumps({**asked, "folder": folder}))
            yield lambda iterations: ask(str(iterations))
        finally:
            process.kill()
            process.communicate()


# -- ours --------------------------------------------------------------------------------------------------------------


def our_config(algo: str, asked: dict[str, Any]) -> AlgorithmConfig:
    """The same training as RLlib config: task, networks, batch, updates and targets.

    Args:
        algo: "qmix" or "maddpg".
        asked: The settings of both sides.

    Raises:
        NotMeasuredError: if the task is not installed.
    """
    common: dict[str, Any] = {
        "train_batch_size": asked["batch"],
        "num_updates": asked["updates_per_iteration"],
        "num_envs_per_env_runner": asked["replicas"],
        "rollout_fragment_length": asked["frames_per_iteration"] // asked["replicas"],
        "learning_starts": 0,
        "use_reward_standardisation": False,
        **{
            name: asked[name]
            for name in ("gamma", "hidden", "grad_clip", "replay_capacity", "tau", "target_network_update_freq")
        },
    }
    config: AlgorithmConfig
    if algo == "qmix":
        embed = asked["mixing_embed_dim"]
        settings = QMIXSettings(lr=asked["lr"], double_q=False, mixing_embed_dim=embed, **common)
        config = QMIXConfig().use_settings(settings)
    else:
        rates = {"actor_lr": asked["lr"], "critic_lr": asked["lr"]}
        config = MADDPGConfig().use_settings(MADDPGSettings(**rates, **common))
    task = {"reward": "own", "continuous_actions": algo == "maddpg", **asked["task"]}
    game = {"market": f"mpe:{TASK}", "settings": task}
    try:
        BenchmarkEnv(game).close()
    except InputError as error:
        raise NotMeasuredError(str(error)) from None
    config.environment(register(), env_config=game, disable_env_checking=True)
    config.debugging(seed=0, log_level="ERROR")
    config.floor_device = asked["device"]
    config.env_runners(num_env_runners=0)
    config.learners(num_learners=0, num_gpus_per_learner=learner_gpus(asked["device"]))
    return config


# -- rows --------------------------------------------------------------------------------------------------------------


def bench_benchmarl(folder: str, *, device: str = "cpu", rounds: int = 5) -> list[dict[str, Any]]:
    """Train both sides in turn, for each algorithm.

    Args:
        folder: Of BenchMARL's virtual environment.
        device: Where both train; environments are stepped on the CPU.
        rounds: Timed rounds of each.

    Returns:
        Three rows for each algorithm and number of updates: each side, and their ratio; or one that says why there is
        none.
    """
    try:
        python = benchmarl_python(Path(folder).absolute())
    except NotMeasuredError as error:
        return [{"what": "BenchMARL", "not measured": str(error)}]
    rows: list[dict[str, Any]] = []
    for algo, updates in product(OWN, UPDATES):
        asked = {**SHARED, **OWN[algo], "algo": algo, "device": device, "updates_per_iteration": updates}
        try:
            rows += _compare(python, algo, asked, rounds)
        except NotMeasuredError as error:
            rows.append({"what": f"{algo.upper()} beside BenchMARL", "not measured": str(error)})
    return rows


def _compare(python: Path, algo: str, asked: dict[str, Any], rounds: int) -> list[dict[str, Any]]:
    config, answers = our_config(algo, asked), list[dict[str, float]]()
    command = [str(python), "-P", "-W", "ignore", str(DRIVER)]  # -P: this module has the name of the package
    with driver(command, asked) as theirs:
        ours = config.build_algo()

        def train() -> None:
            for _ in range(ITERATIONS):
                ours.training_step()

        calls = {"ours": train, "theirs": lambda: answers.append(theirs(ITERATIONS))}
        taken = measure(calls, rounds=rounds)["ours"]
        ours.stop()
    mine = {"frames": ITERATIONS * asked["frames_per_iteration"], "wall_s": taken.wall_s, "cpu_s": taken.cpu_s}
    return comparison(algo, asked, mine, answers[1:])


def comparison(
    algo: str, asked: dict[str, Any], ours: dict[str, float], theirs: Sequence[dict[str, float]]
) -> list[dict[str, Any]]:
    """The rows of one algorithm.

    Args:
        algo: Its name.
        asked: The settings of both sides.
        ours: Frames of a round and the medians of its seconds.
        theirs: The driver's answers, one a timed round.
    """
    middle = {name: median(answer[name] for answer in theirs) for name in ("frames", "wall_s", "cpu_s")}
    rows: list[dict[str, Any]] = [
        {
            "what": f"{algo.upper()}, {SIDES[side]}",
            "device": asked["device"],
            "settings": said(algo, side, asked),
            "frames_per_s": taken["frames"] / taken["wall_s"],
            "frames_per_cpu_s": taken["frames"] / taken["cpu_s"],
        }
        for side, taken in (("ours", ours), ("theirs", middle))
    ]
    wall, cpu = (rows[0][name] / rows[1][name] for name in ("frames_per_s", "frames_per_cpu_s"))
    what = f"{algo.upper()} ours / BenchMARL, {asked['updates_per_iteration']} updates"
    return [*rows, {"what": what, "ratio": wall, "ratio_of_cpu": cpu}]


def said(algo: str, side: str, asked: dict[str, Any]) -> str:
    """The settings of a side, in the words of the tables."""
    hidden = "-".join(map(str, asked["hidden"]))
    return (
        f"simple_spread N={asked['task']['N']}, {asked['replicas']} replicas, batch {asked['batch']}, "
        f"{asked['updates_per_iteration']} updates per {asked['frames_per_iteration']} frames, {hidden} relu shared, "
        f"Adam {asked['lr']:g}, clip {asked['grad_clip']:g}, gamma {asked['gamma']:g}, "
        f"targets {asked['tau']:g} every {asked['target_network_update_freq']}, {STEPPED[side]}, {DIFFER[algo, side]}"
    )

"""What a checkpoint costs: saving and restoring beside ``torch.save``, beside training, and with a large buffer."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import torch
from scipy.stats import quantile_test

from algos.policy import flat_weights
from algos.replay import TeamReplay
from algos.replay_files import load_replay, snapshot_replay
from algos.rollout import Rollout
from algos.snapshots import Snapshot
from common.intervals import CONFIDENCE
from common.manifests import find_damage, folder_bytes
from experiments.benchmarks.timing import learner_gpus, measure, one_core
from experiments.recovery.checkpoints import TrialCheckpoints
from experiments.recovery.names import RESULT_FILE
from experiments.recovery.writer import CheckpointWriter
from experiments.settings.groups import settings_of_algo
from experiments.settings.run_config import RunConfig, config_to_json
from experiments.tuning.run_trainable import algorithm_class

VERB = str(Path(__file__).resolve().parents[1] / "run.py")
LARGE_HIDDEN = (950, 950)
"""Width that gives five separate agents and their mixer about five million weights."""
PAIRS = 30
"""Pairs of intervals of a whole command, with a save and without."""
DEFAULT_INTERVALS = 4
"""In each, which are over before the next save is due by the clock."""
BESIDE = 3
"""Iterations that are timed after a save: it is published, and then noted as the best or the newest."""
BUFFERS = (62_500, 250_000, 1_000_000)
NEW_STEPS = 2_048
"""Joint steps between two saves of the large buffers: one default interval of 16 episodes of 128 bars."""
REPLICAS, AGENTS, WIDTH, RUNGS, STATE = 16, 5, 32, 5, 40
SMALL = ("--data.synthetic.num-assets", "3", "--data.synthetic.num-bars", "600", "--floor.horizon-bars", "20")


def bench_checkpoint(*, device: str = "cpu", rounds: int = 5) -> list[dict[str, Any]]:
    """Measure what checkpoints cost.

    Args:
        device: Where the teams learn, and their floors are stepped; whole commands take what their machine has.
        rounds: Timed rounds; medians count.

    Returns:
        Rows: two teams, the share of a whole command's time, buffers of three sizes, and the time to the first
        iteration.
    """
    scaling = replace(RunConfig().scaling, num_gpus_per_learner=learner_gpus(device))
    small = RunConfig(algo="qmix", scaling=scaling)
    wide: dict[str, Any] = {"qmix": replace(settings_of_algo(small), hidden=LARGE_HIDDEN, use_shared_networks=False)}
    large = replace(small, **wide)
    teams = [_bench_team("small", small, rounds), _bench_team("5 M parameters", large, rounds)]
    buffers = [_bench_buffer(capacity, rounds) for capacity in BUFFERS]
    for row in buffers:
        row["next_over_smallest"] = row["next_save_s"] / buffers[0]["next_save_s"]
    return [*teams, _bench_run(), *buffers, _bench_restart(rounds)]


def _bench_team(name: str, run: RunConfig, rounds: int) -> dict[str, Any]:
    """Save and verified restore of a team without a buffer, beside ``torch.save`` of weights and moments."""
    own = settings_of_algo(run)
    early: dict[str, Any] = {"qmix": replace(own, learning_starts=own.train_batch_size)}
    with one_core(), tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        team = algorithm_class(run)({"run": config_to_json(replace(run, **early))})
        stack.callback(team.stop)
        for _ in range(5):
            team.train()
        team.replay = TeamReplay(own.replay_capacity)
        checkpoints, plain = TrialCheckpoints(Path(folder) / "trial_0"), Path(folder) / "plain.pt"
        team._checkpoints = checkpoints
        learner = team.learner_group._learner
        state = {
            "weights": {m: module.unwrapped().state_dict() for m, module in learner.module.items()},
            "adam": [o.state_dict() for o in learner._named_optimizers.values()],
        }

        def save() -> None:
            team.save()
            team.finish_saving()

        def restore() -> None:
            newest = checkpoints.newest_whole()
            assert newest is not None
            team.load_checkpoint(str(newest))

        taken = measure(
            {
                "save": save,
                "torch.save": lambda: torch.save(state, plain),
                "restore": restore,
                "torch.load": lambda: torch.load(plain, weights_only=False),
            },
            rounds=rounds,
        )
        return {
            "team": name,
            "parameters": sum(v.size for v in flat_weights(team).values()),
            "save_s": taken["save"].wall_s,
            "restore_s": taken["restore"].wall_s,
            "mb": folder_bytes(checkpoints.published()[-1]) / 1e6,
            "torch_save_s": taken["torch.save"].wall_s,
            "torch_load_s": taken["torch.load"].wall_s,
            "torch_mb": plain.stat().st_size / 1e6,
            "save_ratio": taken["save"].wall_s / taken["torch.save"].wall_s,
        }


def _bench_run() -> dict[str, Any]:
    """What saving costs a whole command at the default interval: the process that Tune runs in, and the best, too.

    The command evaluates after so many episodes, and saves at every second place: each pair of intervals then has one
    of either kind, at the same place and with the same evaluation. A save writes what two intervals have brought, and
    nearly each copies a best checkpoint at first: what a save costs by default is less than this.
    """
    run = RunConfig(algo="qmix")
    every, steps = DEFAULT_INTERVALS * run.checkpoint_interval, run.floor.horizon_bars
    assert steps is not None
    before = -(-settings_of_algo(run).learning_starts // (steps * every)) + 2
    words = ["--episodes", str((2 * PAIRS + before) * every), "--checkpoint-interval", str(2 * every)]
    words += ["--checkpoint-interval-s", "0", "--evaluation-interval", str(every)]
    with tempfile.TemporaryDirectory() as place:
        words += ["--storage", place, "--name", "run"]
        subprocess.run([sys.executable, VERB, *words], check=True, stdout=subprocess.DEVNULL)
        lines = (Path(place) / "run" / "trial_0" / RESULT_FILE).read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    found = cost_in_run(records, after=settings_of_algo(run).learning_starts, every_s=run.checkpoint_interval_s)
    return {"run": f"run.py --checkpoint-interval {2 * every}, episodes of {steps} bars"} | found


def cost_in_run(records: Sequence[Mapping[str, Any]], *, after: int = 0, every_s: float = 0.0) -> dict[str, float]:
    """How much longer an interval of a command takes with a save than without.

    Args:
        records: What each iteration has reported, a save being due at every second evaluation.
        after: Environment steps before which nothing counts: nothing is learned yet.
        every_s: Seconds between two saves of a run by default, at least.

    Returns:
        Seconds of an interval and of waiting between two iterations, with a save and without; how much longer an
        interval is with one as a share of the time between two saves, the median of pairs, with its interval of
        confidence.
    """
    spans: list[tuple[bool, list[Mapping[str, Any]]]] = []
    for record in records:
        if spans:
            spans[-1][1].append(record)
        if record["is_evaluated"] and record["total_steps"] >= after:
            spans.append((bool(record.get("should_checkpoint")), []))
    spans = spans[:-1]
    ends = [_lasted(span[:BESIDE]) for _, span in spans]
    saved = [i for i, (is_saved, _) in enumerate(spans) if is_saved and 0 < i < len(spans) - 1]
    interval = median(_lasted(span) for is_saved, span in spans if not is_saved)
    longer = [(ends[i] - (ends[i - 1] + ends[i + 1]) / 2) / max(interval, every_s) for i in saved]
    sure = quantile_test(longer, p=0.5).confidence_interval(CONFIDENCE)
    waited = {k: median(s[0]["time_waited_s"] for is_saved, s in spans if is_saved == k) for k in (True, False)}
    return {
        "interval_s": interval,
        "waited_s": waited[True],
        "waited_without_s": waited[False],
        "longer": median(longer),
        "longer_low": float(sure.low),
        "longer_high": float(sure.high),
    }


def _lasted(records: Sequence[Mapping[str, Any]]) -> float:
    return sum(float(record["time_waited_s"] + record["time_this_iter_s"]) for record in records)


def _bench_buffer(capacity: int, rounds: int) -> dict[str, Any]:
    """Save a buffer, then save it again after so many new steps: only those are to cost anything."""
    replay, seconds, new_mb = TeamReplay(capacity), list[float](), list[float]()
    while len(replay) < capacity - 128 * REPLICAS:
        replay.add(_rollout(128))
    with tempfile.TemporaryDirectory() as place, closing(CheckpointWriter()) as writer:
        checkpoints = TrialCheckpoints(Path(place) / "trial_0")
        path: Path | None = None
        for _ in range(rounds + 1):
            start, newest, path = time.perf_counter(), path, checkpoints.next_path()
            writer.begin(
                checkpoints, Snapshot(replay=snapshot_replay(replay, previous=newest)), path=path, previous=newest
            )
            writer.finish()
            seconds.append(time.perf_counter() - start)
            new_mb.append(sum(f.stat().st_size for f in path.rglob("*") if f.stat().st_nlink == 1) / 1e6)
            replay.add(_rollout(NEW_STEPS // REPLICAS))
        start = time.perf_counter()
        assert path is not None
        assert not find_damage(path)
        load_replay(TeamReplay(capacity), path)
        return {
            "buffer_steps": capacity,
            "new_steps": NEW_STEPS,
            "mb": folder_bytes(path) / 1e6,
            "first_save_s": seconds[0],
            "next_save_s": median(seconds[1:]),
            "next_mb": median(new_mb[1:]),
            "verified_restore_s": time.perf_counter() - start,
        }


def _rollout(num_steps: int) -> Rollout:
    """Steps of a team that go on from one another, as the default desk makes them."""
    t, b, n = num_steps, REPLICAS, AGENTS
    return Rollout(
        obs=torch.zeros(t + 1, b, n, WIDTH),
        actions=torch.zeros(t, b, n, dtype=torch.int64),
        rewards=torch.zeros(t, b, n),
        terminated=torch.zeros(t, b, dtype=torch.bool),
        truncated=torch.zeros(t, b, dtype=torch.bool),
        final_index=torch.zeros(0, 2, dtype=torch.int64),
        final_obs=torch.zeros(0, n, WIDTH),
        action_mask=torch.ones(t + 1, b, n, RUNGS, dtype=torch.bool),
        final_mask=torch.ones(0, n, RUNGS, dtype=torch.bool),
        state=torch.zeros(t + 1, b, STATE),
        final_state=torch.zeros(0, STATE),
    )


def _bench_restart(rounds: int) -> dict[str, Any]:
    """From the command to its first progress line: of a new run, and of the same command after a kill.

    Its CPU time, that of all its processes together, beside what importing torch, RLlib and Tune takes alone.
    """
    fresh, again, cpu, imports = [], [], [], []
    with tempfile.TemporaryDirectory() as place:
        for i in range(rounds):
            words = [sys.executable, VERB, *SMALL, "--storage", place, "--name", f"run{i}", "--episodes", "100000"]
            wall_s, cpu_s = _until_progress(words, checkpoint=Path(place) / f"run{i}")
            fresh.append(wall_s)
            cpu.append(cpu_s)
            again.append(_until_progress(words)[0])
            imports.append(_cpu_s_of_imports())
    return {
        "restart": "command to first progress line",
        "fresh_s": median(fresh),
        "again_s": median(again),
        "ratio": median(again) / median(fresh),
        "fresh_cpu_s": median(cpu),
        "imports_cpu_s": median(imports),
        "cpu_over_imports": median(cpu) / median(imports),
    }


def _until_progress(words: list[str], *, checkpoint: Path | None = None) -> tuple[float, float]:
    """Seconds until a command shows progress, and CPU seconds; then it is killed, or once it has a checkpoint."""
    start = time.perf_counter()
    with psutil.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            for line in process.stdout:
                if line.startswith("episodes"):
                    taken = time.perf_counter() - start
                    times = [p.cpu_times() for p in (process, *process.children(recursive=True))]
                    while checkpoint is not None and len(TrialCheckpoints(checkpoint / "trial_0").published()) < 2:
                        time.sleep(0.02)
                    return taken, sum(t.user + t.system + t.children_user + t.children_system for t in times)
        finally:
            process.kill()
    raise RuntimeError(f"{' '.join(words)} ended without progress")


def _cpu_s_of_imports() -> float:
    """CPU seconds of a process that imports what a run needs, and does nothing."""
    script = "import time, torch, ray.rllib.algorithms.algorithm, ray.tune; print(time.process_time())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])

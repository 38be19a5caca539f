"""What a checkpoint costs: saving and restoring beside ``torch.save``, beside training, and with a large buffer."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from scipy.stats import quantile_test

from algos.policy import flat_weights
from algos.replay import TeamReplay
from algos.replay_files import load_replay, snapshot_replay
from algos.rollout import Rollout
from algos.snapshots import Snapshot
from common.manifests import find_damage, folder_bytes
from experiments.benchmarks.timing import learner_gpus, measure, one_core
from experiments.recovery.checkpoints import TrialCheckpoints
from experiments.recovery.names import RESULT_FILE
from experiments.recovery.writer import CheckpointWriter
from experiments.reporting.intervals import CONFIDENCE
from experiments.settings.groups import settings_of_algo
from experiments.settings.run_config import RunConfig, config_to_json
from experiments.threads import one_thread
from experiments.tuning.trainables import RunTrainable, trainable_class

LARGE_HIDDEN = (950, 950)
"""Width that gives five separate agents and their mixer about five million weights."""
INTERVALS = 40
"""Pairs of intervals, with a save and without."""
BESIDE = 2
"""Iterations that are timed with a save: while it is published, and after that."""
PAIRS_OF_RUN = 30
"""Pairs of intervals of a whole command."""
INTERVALS_OF_RUN = 4
"""Of so many times the default's episodes, which are over before the next save is due by the clock."""
BESIDE_IN_RUN = 3
"""Iterations of a command that are timed after a save: it is published, and then noted as the best or the newest."""
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
        Rows: two teams, the share of training time, of the team alone and of a whole command, buffers of three sizes,
        and the time to the first iteration.
    """
    scaling = replace(RunConfig().scaling, num_gpus_per_learner=learner_gpus(device))
    small = RunConfig(algo="qmix", scaling=scaling)
    wide: dict[str, Any] = {"qmix": replace(settings_of_algo(small), hidden=LARGE_HIDDEN, use_shared_networks=False)}
    large = replace(small, **wide)
    rows: list[dict[str, Any]] = [_bench_team("small", small, rounds), _bench_team("5 M parameters", large, rounds)]
    return [*rows, _bench_overhead(small), _bench_run(), *_bench_buffers(rounds), _bench_restart(rounds)]


@contextmanager
def _team(run: RunConfig) -> Iterator[tuple[RunTrainable, TrialCheckpoints]]:
    team = trainable_class(run)({"run": config_to_json(run)})
    with tempfile.TemporaryDirectory() as folder:
        try:
            yield team, TrialCheckpoints(Path(folder) / "trial_0")
        finally:
            team.stop()


def _bench_team(name: str, run: RunConfig, rounds: int) -> dict[str, Any]:
    """Save and verified restore of a team without a buffer, beside ``torch.save`` of weights and moments."""
    early = replace(settings_of_algo(run), learning_starts=settings_of_algo(run).train_batch_size)
    settings: dict[str, Any] = {"qmix": early}
    with one_core(), _team(replace(run, **settings)) as (team, checkpoints):
        for _ in range(5):
            team.train()
        team.replay = TeamReplay(settings_of_algo(run).replay_capacity)
        team._checkpoints = checkpoints
        learner = team.learner_group._learner
        state = {
            "weights": {m: module.unwrapped().state_dict() for m, module in learner.module.items()},
            "adam": [o.state_dict() for o in learner._named_optimizers.values()],
        }
        plain = checkpoints.folder.parent / "plain.pt"

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


def _bench_overhead(run: RunConfig) -> dict[str, Any]:
    """What saving costs between two saves as a run takes them by default, beside as much of a run without a save.

    A save is taken, then published by a thread beside the training. So three figures: how long training stands still;
    how much longer an interval takes with a save than without, which is all that a user waits for; and the CPU time of
    saving beside that of training, which is what it costs where there is but one core. All are shares of an interval as
    a run has it, its evaluation included; how much longer, of its learning alone too.

    How much longer: once a checkpoint is published nothing of it is left, so a save where a run saves, with the
    iterations beside it, is timed against as many iterations at the same place of the interval before. Whole intervals
    differ by many times what a save costs.
    """
    with one_thread(), _team(replace(run, episodes=10**9)) as (team, checkpoints):
        while len(team.replay) < 2 * settings_of_algo(run).learning_starts:
            team.train()
        before = team.num_episodes
        while team.num_episodes == before:  # as a run saves when episodes have ended
            team.train()
        before, per_interval, began = team.num_episodes, 0, time.perf_counter()
        is_due = False
        while not is_due:
            known = team.num_episodes
            team.train()
            per_interval += 1
            is_due = team.num_episodes > max(known, before + run.checkpoint_interval - 1)
            is_due = is_due and time.perf_counter() - began >= run.checkpoint_interval_s
        assert per_interval > 2 * BESIDE, "an interval is too short to be compared with the one before"
        episodes = team.num_episodes - before
        team._checkpoints, finish, still = checkpoints, team.finish_saving, [0.0]

        def timed(what: Callable[[], Any]) -> None:
            start = time.perf_counter()
            what()
            still[0] += time.perf_counter() - start

        def window(iterations: int, *, saves: bool = False) -> tuple[float, float]:
            """Seconds that it takes, and CPU seconds."""
            start, start_cpu, still[0] = time.perf_counter(), time.process_time(), 0.0
            if saves:
                timed(team.save)
            for _ in range(iterations):
                team.train()
            return time.perf_counter() - start, time.process_time() - start_cpu

        team.finish_saving = lambda: timed(finish)  # type: ignore[method-assign]
        pairs, rests, standing, interval_cpu = [], [], [], []
        for i in range(INTERVALS + 1):
            without = window(BESIDE)
            team.save()  # outside the clock: a save that is timed writes what one interval has brought, not two
            for _ in range(per_interval - BESIDE):
                team.train()
            team.finish_saving()
            with_save = window(BESIDE, saves=True)
            stood = still[0]
            rest = window(per_interval - BESIDE)
            if i:
                pairs.append((with_save, without))
                rests.append(rest[0])
                standing.append(stood)
                interval_cpu.append(without[1] + rest[1])
    learning = median(without for _, (without, _) in pairs) / BESIDE * per_interval
    interval = median(without + rest for (_, (without, _)), rest in zip(pairs, rests, strict=True))
    longer = [(with_save - without) / interval for (with_save, _), (without, _) in pairs]
    sure = quantile_test(longer, p=0.5).confidence_interval(CONFIDENCE)
    return {
        "overhead": f"save every {episodes} episodes of {run.floor.horizon_bars} bars, "
        f"{settings_of_algo(run).num_envs_per_env_runner} replicas",
        "interval_s": interval,
        "learning_s": learning,
        "standing_still_s": median(standing),
        "share": median(standing) / interval,
        "longer": median(longer),
        "longer_low": float(sure.low),
        "longer_high": float(sure.high),
        "longer_of_learning": median(longer) * interval / learning,
        "cpu_share": median(with_save - without for (_, with_save), (_, without) in pairs) / median(interval_cpu),
    }


def _bench_run() -> dict[str, Any]:
    """What saving costs a whole command at the default interval: the process that Tune runs in, and the best, too.

    The command evaluates after so many episodes, and saves at every second place: each pair of intervals then has one
    of either kind, at the same place and with the same evaluation. A save writes what two intervals have brought, and
    nearly each copies a best checkpoint at first: what a save costs by default is less than this.
    """
    run, command = RunConfig(algo="qmix"), str(Path(__file__).resolve().parents[1] / "run.py")
    every, steps = INTERVALS_OF_RUN * run.checkpoint_interval, run.floor.horizon_bars
    assert steps is not None
    before = -(-settings_of_algo(run).learning_starts // (steps * every)) + 2
    words = ["--episodes", str((2 * PAIRS_OF_RUN + before) * every), "--checkpoint-interval", str(2 * every)]
    words += ["--checkpoint-interval-s", "0", "--evaluation-interval", str(every)]
    with tempfile.TemporaryDirectory() as place:
        words += ["--storage", place, "--name", "run"]
        subprocess.run([sys.executable, command, *words], check=True, stdout=subprocess.DEVNULL)
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
    ends = [_lasted(span[:BESIDE_IN_RUN]) for _, span in spans]
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


def _bench_buffers(rounds: int) -> list[dict[str, Any]]:
    """Save a buffer of each size, then save it again after so many new steps: only those are to cost anything."""
    rows: list[dict[str, Any]] = []
    for capacity in BUFFERS:
        replay = TeamReplay(capacity)
        while len(replay) < capacity - 128 * REPLICAS:
            replay.add(_rollout(128))
        with tempfile.TemporaryDirectory() as place, closing(CheckpointWriter()) as writer:
            checkpoints, newest = TrialCheckpoints(Path(place) / "trial_0"), None
            first, again, new_mb = 0.0, [], []
            for i in range(rounds + 1):
                start = time.perf_counter()
                taken_over = Snapshot(replay=snapshot_replay(replay, previous=newest))
                path = checkpoints.next_path()
                writer.begin(checkpoints, taken_over, path=path, previous=newest)
                writer.finish()
                taken = time.perf_counter() - start
                if i:
                    again.append(taken)
                    new_mb.append(sum(f.stat().st_size for f in path.rglob("*") if f.stat().st_nlink == 1) / 1e6)
                else:
                    first = taken
                newest = path
                replay.add(_rollout(NEW_STEPS // REPLICAS))
            start = time.perf_counter()
            assert newest is not None
            assert not find_damage(newest)
            load_replay(TeamReplay(capacity), newest)
            restore = time.perf_counter() - start
            row: dict[str, Any] = {
                "buffer_steps": capacity,
                "new_steps": NEW_STEPS,
                "mb": folder_bytes(newest) / 1e6,
                "first_save_s": first,
                "next_save_s": median(again),
                "next_mb": median(new_mb),
                "verified_restore_s": restore,
            }
        smallest = rows[0]["next_save_s"] if rows else median(again)
        rows.append(row | {"next_over_smallest": median(again) / smallest})
    return rows


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
    """From the command to its first progress line: of a new run, and of the same command after a kill."""
    verb = str(Path(__file__).resolve().parents[1] / "run.py")
    fresh, again = [], []
    with tempfile.TemporaryDirectory() as place:
        for i in range(rounds):
            words = [sys.executable, verb, *SMALL, "--storage", place, "--name", f"run{i}", "--episodes", "100000"]
            fresh.append(_until_progress(words, checkpoint=Path(place) / f"run{i}"))
            again.append(_until_progress(words))
    ratio = median(again) / median(fresh)
    row = {"restart": "command to first progress line", "fresh_s": median(fresh), "again_s": median(again)}
    return row | {"ratio": ratio}


def _until_progress(words: list[str], *, checkpoint: Path | None = None) -> float:
    """Seconds until a command shows progress; it is killed then, or as soon as it has written a checkpoint."""
    start = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("episodes"):
                taken = time.perf_counter() - start
                while checkpoint is not None and len(TrialCheckpoints(checkpoint / "trial_0").published()) < 2:
                    time.sleep(0.02)
                return taken
    finally:
        process.kill()
        process.wait()
    raise RuntimeError(f"{' '.join(words)} ended without progress")

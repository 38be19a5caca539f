"""A trial as Tune hands it to callbacks, and what it reports."""

import json
from pathlib import Path
from types import SimpleNamespace

from common.manifests import seal


def folder_of(path, **texts):
    path.mkdir(parents=True)
    for name, text in texts.items():
        (path / name).write_text(text)
    return path


def trial_in(folder):
    staging = folder.parent / "staging"
    staging.mkdir(exist_ok=True)
    storage = SimpleNamespace(
        experiment_fs_path=str(folder), trial_fs_path=str(folder / "trial_0"), experiment_driver_staging_path=staging
    )
    return SimpleNamespace(
        trial_id="0",
        storage=storage,
        last_result={},
        status="RUNNING",
        path=storage.trial_fs_path,
        config={},
        run_metadata=SimpleNamespace(num_failures=0),
    )


def report(monitor, trial, number, *, sharpe, is_best, before=None):
    """What Tune does when a checkpoint has been asked for; ``before`` happens before the monitor hears of it."""
    meta = {
        "episode": 10 * number,
        "total_steps": 100 * number,
        "timestamp": f"2026-01-01T00:00:{number:02d}+00:00",
        "weights_sha256": f"hash {number}",
        "is_best": is_best,
        "metric_name": "sharpe",
        "metric_value": sharpe,
    }
    path = Path(trial.storage.trial_fs_path) / f"checkpoint_{number:06d}"
    seal(folder_of(path, **{"checkpoint_meta.json": json.dumps(meta)}))
    trial.last_result = {
        "episodes": 10 * number,
        "target_episodes": 30,
        "total_steps": 100 * number,
        "agent_steps": 300 * number,
        "profit": 0.1,
        "sharpe": sharpe,
        "max_drawdown": 0.2,
        "num_trades": 3,
        "epsilon": None,
        "should_checkpoint": True,
        "is_best": is_best,
        "episode_return": float("nan"),
    }
    monitor.on_trial_result(1, [trial], trial, trial.last_result)
    if before is not None:
        before()
    monitor.on_checkpoint(1, [trial], trial, SimpleNamespace(path=str(path)))
    return path


def go_on(monitor, trial, **result):
    """What Tune does when a trial has reported an iteration after which no checkpoint is due."""
    monitor.on_trial_result(2, [trial], trial, {**trial.last_result, "should_checkpoint": False, **result})
    monitor.on_step_end(2, [trial])


def lines_of(folder):
    return [json.loads(line) for line in (folder / "trial_0" / "result.json").read_text().splitlines()]

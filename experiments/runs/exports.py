"""A trained team for other programs: SafeTensors for each agent, and a summary for people, in a folder of its own."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.disk import to_disk
from common.errors import InputError
from common.files import WriteError, check_folder_writable, plain
from common.manifests import MANIFEST_FILE, MARKER_FILE, find_damage, seal
from common.paths import home_path
from common.provenance import installed_version, utc_now
from experiments.recovery.checkpoints import require_meta
from experiments.recovery.names import RESULT_FILE, SUMMARY_FILE
from experiments.recovery.progress import read_progress
from experiments.recovery.records import read_line
from experiments.runs.folders import check_results_folder
from experiments.runs.models import Model, find_model
from experiments.settings.run_config import config_to_json

SUMMARY_TEXT = "summary.md"
EXPORT_FOLDER = "export"
"""In a run folder: where exports go unless told otherwise."""
_FIGURES = ("profit", "sharpe", "max_drawdown", "num_trades")


def export_model(path: str, out: str | None) -> tuple[Path, dict[str, Any]]:
    """Export the best checkpoint of a run, or the checkpoint that is named.

    The folder gets its name only when every file in it is on the disk; a kill leaves none under that name. One that is
    there already, which may be a link, a mount or where somebody works, stays and gets the files instead.

    Args:
        path: Run folder or checkpoint.
        out: Folder for the export, empty or not there yet; None takes one in the run folder, named after the episode.

    Returns:
        The folder without links in its path, and its summary.

    Raises:
        InputError: if the checkpoint is damaged, or the folder holds something.
        WriteError: if something cannot be written.
    """
    model = find_model(path)
    if damage := find_damage(model.checkpoint):
        raise InputError(f"{model.checkpoint} is damaged, {damage[0]}: name another checkpoint")
    meta = require_meta(model.checkpoint, "episode", "total_steps", "is_best", "weights_sha256")
    folder = Path(os.path.realpath(home_path(out) if out is not None else _default_folder(model, meta)))
    try:
        staged = _staged(folder)
        check_results_folder(folder, setting="--out")
        check_folder_writable(staged.parent, setting="--out" if out is not None else "the run folder")
        return folder, _write(model, meta, folder, staged)
    except OSError as error:
        raise WriteError(error.errno, f"cannot export to {folder}: {error.strerror or error}") from error


def _staged(folder: Path) -> Path:
    """Where an export is written until it is whole: beside its folder, or in it where that is there.

    Raises:
        InputError: if the folder holds something else.
    """
    if not folder.exists():
        return folder.with_name(f".{folder.name}.exporting")
    staged = folder / ".exporting"
    if not folder.is_dir() or any(path != staged for path in folder.iterdir()):
        raise InputError(f"{folder} holds something already, which is not written over: choose another --out")
    return staged


def _write(model: Model, meta: Mapping[str, Any], folder: Path, staged: Path) -> dict[str, Any]:
    """Write all files of an export aside, and put them where they belong; returns the summary."""
    from algos.export import export_networks, shared_owners  # only now: torch and RLlib take seconds to import
    from algos.policy import read_layout

    layout = read_layout(model.checkpoint)
    summary = summarise(model, meta, layout)
    owners = [*layout["agent_ids"], *shared_owners(layout["agent_ids"]).values()]
    headers = {owner: _header(summary, owner) for owner in owners}
    shutil.rmtree(staged, ignore_errors=True)
    try:
        staged.mkdir(parents=True)
        summary["files"] = export_networks(model.checkpoint, staged, layout, headers=headers)
        (staged / SUMMARY_FILE).write_text(json.dumps(plain(summary), indent=2) + "\n", encoding="utf-8")
        (staged / SUMMARY_TEXT).write_text(summary_text(summary), encoding="utf-8")
        seal(staged)
        if staged.parent == folder:
            _move_up(staged)
        else:
            os.rename(staged, folder)
            to_disk(folder.parent)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
    return summary


def _move_up(staged: Path) -> None:
    """Move all files of a folder into the one that it lies in: a manifest first, and the marker that ends it last."""
    names = sorted(os.listdir(staged), key=lambda name: (name == MARKER_FILE, name != MANIFEST_FILE))
    try:
        for name in names:
            os.rename(staged / name, staged.parent / name)
        staged.rmdir()
        to_disk(staged.parent)
    except BaseException:
        for name in names:
            (staged.parent / name).unlink(missing_ok=True)
        raise


def _prices(path: str | tuple[str, ...] | None) -> str:
    return "synthetic" if path is None else path if isinstance(path, str) else ", ".join(path)


def summarise(model: Model, meta: Mapping[str, Any], layout: Mapping[str, Any]) -> dict[str, Any]:
    """Say everything about a checkpoint that is not a weight: who, how far, how well, by which settings.

    What is said of it comes from its ``checkpoint_meta.json``, and of its agents from its ``team.json`` (``layout``).
    """
    state = read_progress(model.checkpoint)
    config, desk = model.config, model.config.desk
    history = _reward_history(model.checkpoint.parent / RESULT_FILE, state.iteration)
    agents = [
        {"name": agent, "network": network, "obs_width": width, "action_space": action}
        for agent, network, width, action in zip(
            layout["agent_ids"], layout["modules"], layout["obs_dims"], layout["actions"], strict=True
        )
    ]
    recent = meta.get("recent_mean_reward")
    return {
        "format": 1,
        "trading_floor": installed_version("trading-floor"),
        "exported_at": utc_now(),
        "run": str(model.record.folder),
        "checkpoint": model.checkpoint.name,
        "which": model.which,
        "algo": config.algo,
        "seed": config.seed,
        "environment": meta.get("environment"),
        "prices": _prices(config.data.path),
        "num_agents": len(agents),
        "agents": agents,
        "action": desk.action,
        "ladder": list(desk.ladder) if desk.action == "discrete" else None,
        "recent_mean_reward": recent
        if recent is not None
        else next((h["reward"] for h in history[::-1] if h["reward"] is not None), None),
        "noise": {"epsilon": meta.get("epsilon")},
        "progress": {
            "episodes": meta["episode"],
            "target_episodes": config.episodes,
            "env_steps": meta["total_steps"],
            "iteration": state.iteration,
            "time_total_s": state.time_total_s,
        },
        "metrics": state.to_json()["last_metrics"],
        "is_best": meta["is_best"],
        "weights_sha256": meta["weights_sha256"],
        "reward_history": history,
        "config": config_to_json(config),
        "scaler": model.record.scaler,
    }


def summary_text(summary: Mapping[str, Any]) -> str:
    """Write a summary for people, as Markdown."""
    progress, metrics = summary["progress"], summary["metrics"]
    epsilon = summary["noise"]["epsilon"]
    rows = {
        "run": f"{summary['run']}, {summary['checkpoint']}{' (best)' if summary['is_best'] else ''}",
        "algorithm": summary["algo"],
        "seed": summary["seed"],
        "environment": f"{summary['environment']}, prices: {summary['prices']}",
        "agents": summary["num_agents"],
        "recent mean reward": _shown(summary["recent_mean_reward"]),
        "noise": "none: drawn from a distribution" if epsilon is None else f"epsilon {epsilon:.4f}",
        "episodes": f"{progress['episodes']} of {progress['target_episodes']}",
        "steps": f"{progress['env_steps']:,}",
        "trained for": f"{progress['time_total_s']:.0f} s",
        **{f"validation {name}": _shown(metrics.get(name)) for name in _FIGURES},
        "weights (SHA-256)": summary["weights_sha256"],
        "trading-floor": summary["trading_floor"],
    }
    lines = ["# A trained team", "", "| | |", "|---|---|", *(f"| {k} | {v} |" for k, v in rows.items())]
    lines += ["", "| agent | network | observes | acts | files |", "|---|---|---|---|---|"]
    for agent in summary["agents"]:
        files = ", ".join(summary["files"][agent["name"]])
        space = agent["action_space"]
        cells = (agent["name"], agent["network"], f"{agent['obs_width']} numbers", space, files)
        lines.append(f"| {' | '.join(' '.join(str(cell).split()).replace('|', '/') for cell in cells)} |")
    others = sorted(set(summary["files"]) - {agent["name"] for agent in summary["agents"]})
    lines += [f"\nBeside them: {', '.join(summary['files'][name])}" for name in others]
    lines += ["", "Settings, reward history and feature scaler: `summary.json`. To act:", "", "```python"]
    lines += ["from experiments.runs.models import load_policy", "", 'policy = load_policy("this folder")']
    lines += ["actions = policy({agent: observation, ...})", "```"]
    return "\n".join(lines) + "\n"


def _default_folder(model: Model, meta: Mapping[str, Any]) -> Path:
    return model.record.folder / EXPORT_FOLDER / f"{model.checkpoint.parent.name}-{meta['episode']:06d}"


def _header(summary: Mapping[str, Any], agent: str) -> dict[str, str]:
    """What stands in the header of an agent's files; SafeTensors knows text only."""
    about = next((a for a in summary["agents"] if a["name"] == agent), {"obs_width": "", "action_space": ""})
    ladder = summary["ladder"]
    header = {
        "agent": agent,
        "algo": summary["algo"],
        "run": summary["run"],
        "episode": summary["progress"]["episodes"],
        "env_steps": summary["progress"]["env_steps"],
        "seed": summary["seed"],
        "obs_width": about["obs_width"],
        "action_space": about["action_space"],
        "ladder": json.dumps(ladder) if ladder is not None and agent == about.get("name") else "",
        "weights_sha256": summary["weights_sha256"],
        "trading_floor": summary["trading_floor"] or "",
    }
    return {name: str(value) for name, value in header.items()}


def _reward_history(path: Path, last_iteration: int) -> list[dict[str, Any]]:
    """What each iteration up to the checkpoint's reported of the team's reward; empty where no records are."""
    history = []
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        found = read_line(line)
        if found is not None and found["training_iteration"] <= last_iteration:
            reward = found.get("episode_return")
            is_known = isinstance(reward, float) and reward == reward
            history.append({"episodes": found.get("episodes"), "reward": reward if is_known else None})
    return history


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"

"""Score a learner on a known market or a benchmark: ``python experiments/score.py --market kyle --algo ippo``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any

import experiments.interrupts  # before what takes seconds to import
from common.files import check_folder_writable
from experiments.command_line import DONE, check_json_flag, main, write_json_flag
from experiments.reporting.tables import rows_table, show
from experiments.scoring.settings import ScoreConfig, parse_score
from experiments.settings.algorithm_flags import of_algo
from experiments.settings.help import asks_for_help, print_help


def run(argv: Sequence[str]) -> int:
    """Train each seed, value it, and show what it reached beside the best; or do so for every row of the table."""
    if asks_for_help(argv):
        about = ScoreConfig.__doc__ or ""
        print_help(ScoreConfig, argv, prog="experiments/score.py", description=about, aliases=of_algo(ScoreConfig.algo))
        return DONE
    config = parse_score(argv)
    check_json_flag(config.json)
    if config.table:
        with experiments.interrupts.leaving_at_once():  # only now: torch and RLlib take seconds to import
            from experiments.scoring.table import run_table
        record = run_table(config, argv)
    else:
        record = _run_one(config)
    write_json_flag(config.json, record)
    return DONE


def _run_one(config: ScoreConfig) -> dict[str, Any]:
    out = Path(config.out or f"results/score-{config.market.replace(':', '-')}-{config.algo}")
    check_folder_writable(out, setting="--out")
    with experiments.interrupts.leaving_at_once():  # only now: torch and RLlib take seconds to import
        from experiments.scoring.plots import PICTURE_FILE, plot_score
        from experiments.scoring.training import RESULT_FILE, score_learner
    yardstick, seeds, record = score_learner(config, out)
    agents = f"{yardstick.num_agents} agent" + "s" * (yardstick.num_agents > 1)
    title = f"{config.algo} on {config.market}, {agents}, {record['steps']:,} steps"
    _show(record, title)
    if record.get("published"):
        print(f"published: {record['published']}")
    picture = plot_score(out / PICTURE_FILE, seeds, record, title=title, are_choices=yardstick.has_choices)
    print(f"picture: {picture}; figures: {out / RESULT_FILE}")
    return record


def _show(record: dict[str, Any], title: str) -> None:
    """Print a row for each seed, their mean, and how sure it is; without an optimum there is no score to show."""
    from experiments.scoring.results import best_of

    def row(name: str, learned: float, score: float | None, distance: float | None) -> dict[str, str]:
        found = {"learned": learned, record["best_is"]: best_of(record), "baseline": record["baseline"]}
        found |= {"score": score} if record["optimum"] is not None else {}
        found |= {"distance": distance} if distance is not None else {}
        return {"seed": name} | {key: "-" if value is None else f"{value:.4f}" for key, value in found.items()}

    rows = [
        row(str(one["seed"]), one["learned"], one["score"], one["distance"] and fmean(chain(*one["distance"])))
        for one in record["seeds"]
    ]
    what, sure = ("score", record["score"]) if record["score"] else ("learned value", record["learned"])
    rows.append(row("mean", record["learned"]["mean"], (record["score"] or {}).get("mean"), record["distance"]))
    show(rows_table(rows, title=title))
    if len(record["seeds"]) > 1:
        print(f"95 % interval of the {what}: {sure['low']:.4f} to {sure['high']:.4f}")


if __name__ == "__main__":
    main(run)

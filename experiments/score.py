"""Score a learner on a known market or a benchmark: ``python experiments/score.py --market kyle --algo ippo``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import experiments.interrupts  # before what takes seconds to import
from common.files import check_folder_writable
from experiments.command_line import DONE, check_json_flag, main, write_json_flag
from experiments.reporting.tables import rows_table, show
from experiments.scoring.settings import ScoreConfig, parse_score
from experiments.settings.help import asks_for_help, print_help

if TYPE_CHECKING:
    from experiments.scoring.results import Scored


def run(argv: Sequence[str]) -> int:
    """Train each seed, value it, and show what it reached beside the best; or do so for every row of the table."""
    if asks_for_help(argv):
        print_help(ScoreConfig, argv, prog="experiments/score.py", description=ScoreConfig.__doc__ or "")
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
    yardstick, result, record = score_learner(config, out)
    best = record["best_is"]
    agents = f"{yardstick.num_agents} agent" + "s" * (yardstick.num_agents > 1)
    title = f"{config.algo} on {config.market}, {agents}, {record['steps']:,} steps"
    _show(result, title=title, best=best)
    if record.get("published"):
        print(f"published: {record['published']}")
    picture = plot_score(out / PICTURE_FILE, result, title=title, best=best, are_choices=yardstick.has_choices)
    print(f"picture: {picture}; figures: {out / RESULT_FILE}")
    return record


def _show(result: Scored, *, title: str, best: str) -> None:
    """Print a row for each seed, their mean, and how sure it is; without an optimum there is no score to show."""

    def row(name: str, learned: float, of_it: float | None, distance: float | None) -> dict[str, str]:
        cells = {
            "seed": name,
            "learned": f"{learned:.4f}",
            best: "-" if result.best is None else f"{result.best:.4f}",
            "baseline": f"{result.baseline:.4f}",
        }
        if result.optimum is not None:
            cells["score"] = "-" if of_it is None else f"{of_it:.4f}"
        return cells if distance is None else cells | {"distance": f"{distance:.4f}"}

    rows = [
        row(str(one.seed), one.mean, result.scores[i] if result.scores else None, one.mean_distance)
        for i, one in enumerate(result.seeds)
    ]
    rows.append(row("mean", result.learned.mean, result.score.mean if result.score else None, result.distance))
    show(rows_table(rows, title=title))
    sure = result.score or result.learned
    if len(result.seeds) > 1:
        print(f"95 % interval of the {'score' if result.score else 'learned value'}: {sure.low:.4f} to {sure.high:.4f}")


if __name__ == "__main__":
    main(run)

"""Several seeds of one learner on one problem, with a lasting record of each."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from envs.errors import InputError
from experiments.algorithm_names import SECTION_OF_ALGO
from experiments.config import RunConfig
from experiments.reporting.files import json_text, read_json, write_json
from experiments.scoring.results import Learned, Scored, as_json, scored
from experiments.scoring.settings import ScoreConfig, asked_for, market_settings
from experiments.scoring.yardsticks import EQUILIBRIUM, Yardstick, make_yardstick

RESULT_FILE = "score.json"


def score_learner(config: ScoreConfig, out: Path) -> tuple[Yardstick, Scored, dict[str, Any]]:
    """Train each seed and value it; what is done is in the folder before the next one begins.

    Args:
        config: Market, algorithm and seeds.
        out: Folder of the record.

    Raises:
        InputError: if a setting cannot be used.
    """
    yardstick = _yardstick(config)
    from experiments.scoring.learning import learn
    from experiments.tuning.session import start_ray

    warnings.simplefilter("ignore")
    groups = {name: getattr(config, name) for name in dict.fromkeys(SECTION_OF_ALGO.values()) if hasattr(config, name)}
    if config.select == "best" and yardstick.best_is == EQUILIBRIUM:
        raise InputError(
            "--select best: these agents play against each other, and their equilibrium is not where they earn most; "
            "use --select last"
        )
    head = _head(config, yardstick)
    steps, num_episodes = head["steps"], head["num_episodes"]
    baseline = yardstick.baseline(num_episodes)
    learned: list[Learned] = []
    start_ray(RunConfig(algo=config.algo, **groups))
    for seed in range(config.seed, config.seed + config.seeds):

        def report(taken: int, mean: float, seed: int = seed) -> None:
            print(f"seed {seed}  steps {taken:>{len(str(steps))},}/{steps:,}  objective {mean:+.4f}", flush=True)

        chosen = RunConfig(algo=config.algo, seed=seed, **groups)
        is_best = config.select == "best"
        one = learn(chosen, yardstick, steps=steps, num_episodes=num_episodes, report=report, takes_best=is_best)
        learned.append(one)
        result = scored(learned, baseline=baseline, optimum=yardstick.optimum, reference=yardstick.reference)
        record = {**head, **as_json(result)}
        write_json(out / RESULT_FILE, record)  # what is done stays, whatever comes after it
    return yardstick, result, record


def _yardstick(config: ScoreConfig) -> Yardstick:
    settings = market_settings(config.settings)
    return make_yardstick(config.market, config.algo, num_agents=config.agents, settings=settings)


def _head(config: ScoreConfig, yardstick: Yardstick) -> dict[str, Any]:
    """What of a record is known before anything is learned."""
    return asked_for(config) | {"agents": yardstick.num_agents} | yardstick.head()


def read_record(folder: Path) -> dict[str, Any] | None:
    """What a folder of results holds; None where nothing has been scored."""
    path = folder / RESULT_FILE
    return {"select": "last"} | read_json(path) if path.is_file() else None  # once there was no other


def is_done(config: ScoreConfig, folder: Path) -> bool:
    """Whether a record is of these settings and seeds."""
    record = read_record(folder)
    if record is None or "seconds_a_seed" not in record:
        return False
    head = json.loads(json_text(_head(config, _yardstick(config))))
    seeds = list(range(config.seed, config.seed + config.seeds))
    return all(record.get(name) == value for name, value in head.items()) and seeds == [
        one["seed"] for one in record["seeds"]
    ]

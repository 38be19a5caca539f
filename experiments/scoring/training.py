"""Several seeds of one learner on one problem, with a lasting record of each."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from algos.registry import TEAM, groups
from common.errors import InputError
from common.files import plain, read_json, write_json
from experiments.scoring.results import Learned, scored
from experiments.scoring.seeds import keep, kept, seeds_folder
from experiments.scoring.settings import ScoreConfig, asked_for, without_none
from experiments.scoring.yardsticks import EQUILIBRIUM, Yardstick, make_yardstick
from experiments.settings.arguments import named_values
from experiments.settings.run_config import RunConfig

RESULT_FILE = "score.json"


def score_learner(config: ScoreConfig, out: Path) -> tuple[Yardstick, list[Learned], dict[str, Any]]:
    """Train each seed and value it; what is done is in the folder at once, and is not done again.

    Args:
        config: Market, algorithm and seeds.
        out: Folder of the record.

    Returns:
        The problem, what each seed has learned, and the record.

    Raises:
        InputError: if a setting cannot be used, or what a seed has learned before is damaged.
    """
    warnings.simplefilter("ignore")
    yardstick = _yardstick(config)
    if config.select == "best" and yardstick.best_is == EQUILIBRIUM:
        raise InputError(
            "--select best: these agents play against each other, and their equilibrium is not where they earn most; "
            "use --select last"
        )
    head = _plain_head(config, yardstick)
    seeds = range(config.seed, config.seed + config.seeds)
    learned = {seed: one for seed in seeds if (one := kept(out, head, seed)) is not None}
    if learned:
        done = ", ".join(map(str, learned))
        print(f"done before: seed {done} (in {out}; another --out has them learn again)", flush=True)
    baseline = yardstick.baseline(head["num_episodes"])

    def write() -> dict[str, Any]:
        ones, optimum = [learned[seed] for seed in sorted(learned)], yardstick.optimum
        record = head | scored(ones, baseline=baseline, optimum=optimum, reference=yardstick.reference)
        write_json(out / RESULT_FILE, record)
        return record

    for one in _learn([seed for seed in seeds if seed not in learned], config, head, out):
        learned[one.seed] = one
        keep(out, head, one)
        write()  # what is done stays, whatever comes after it
    return yardstick, [learned[seed] for seed in seeds], write()


def _learn(seeds: Sequence[int], config: ScoreConfig, head: Mapping[str, Any], out: Path) -> Iterator[Learned]:
    """Have these seeds learn, and say how they do."""
    if not seeds:
        return
    from experiments.scoring.learning import Progress, learn_seeds
    from experiments.tuning.session import start_ray

    own = {name: getattr(config, name) for name in groups(TEAM)}
    runs = [RunConfig(algo=config.algo, seed=seed, **own) for seed in seeds]
    start_ray(runs[0].scaling)
    steps = head["steps"]
    for one in learn_seeds(
        runs,
        partial(_yardstick, config),
        seeds_folder(out),
        jobs=config.jobs,
        steps=steps,
        num_episodes=head["num_episodes"],
        num_evaluation_episodes=head["num_evaluation_episodes"],
        takes_best=config.select == "best",
    ):
        if isinstance(one, Progress):
            taken = f"{one.steps:>{len(str(steps))},}"
            print(f"seed {one.seed}  steps {taken}/{steps:,}  objective {one.mean:+.4f}", flush=True)
        else:
            yield one


def _yardstick(config: ScoreConfig) -> Yardstick:
    settings = named_values(config.settings, flag="--settings")
    return make_yardstick(config.market, config.algo, num_agents=config.agents, settings=settings)


def _plain_head(config: ScoreConfig, yardstick: Yardstick) -> dict[str, Any]:
    """What of a record is known before anything is learned, as JSON gives it back."""
    head: dict[str, Any] = plain(asked_for(config) | {"agents": yardstick.num_agents} | yardstick.head())
    return head


def finished_record(config: ScoreConfig, folder: Path) -> dict[str, Any] | None:
    """What a folder of results holds, as it would be written now; None where it is not of these settings and seeds."""
    path = folder / RESULT_FILE
    if not path.is_file():
        return None
    record: dict[str, Any] = read_json(path)
    record |= {"algo_settings": without_none(record.get("algo_settings", {}))}
    is_of_these = all(record.get(name) == value for name, value in _plain_head(config, _yardstick(config)).items())
    seeds = list(range(config.seed, config.seed + config.seeds))
    return record if is_of_these and seeds == [one["seed"] for one in record["seeds"]] else None

"""Score a learner where the best policy is known: ``python experiments/score.py --market kyle --algo ippo``."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field
from pydantic.dataclasses import dataclass

import experiments.interrupts  # noqa: F401  before what takes seconds to import
from algos.maddpg.config import MADDPGSettings
from algos.mappo.config import MAPPOSettings
from algos.ppo.config import PPOSettings
from algos.qmix.config import QMIXSettings
from algos.settings import STRICT
from envs.errors import InputError
from envs.optima.catalog import make_problem
from experiments.algorithm_names import SECTION_OF_ALGO
from experiments.arguments import parse_flags, print_help
from experiments.cli import DONE, check_json_flag, main, write_json_flag
from experiments.config import MOST_SEED, RunConfig, check_network, scan_algo_flags
from experiments.reporting.files import check_folder_writable, write_json
from experiments.reporting.tables import rows_table, show
from experiments.scoring.recipes import recipe
from experiments.scoring.results import Learned, Scored, as_json, baseline_value, scored
from experiments.settings import settings_of

RESULT_FILE, PICTURE_FILE = "score.json", "score.png"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ScoreConfig:
    """What is learned, by what, how often."""

    market: str = "merton"
    """Market or game: two-step, climbing, penalty, merton, merton-relative, garleanu-pedersen, almgren-chriss, kyle or
    market-making."""
    agents: int | None = Field(default=None, gt=0)
    """How many agents, where that can be chosen; None takes the market's own number."""
    settings: tuple[str, ...] = ()
    """Settings of the market, as name=value: reward=team num_steps=20."""
    algo: Literal["qmix", "vdn", "maddpg", "mappo", "ippo", "ppo"] = "mappo"
    """Learning algorithm. vdn takes its settings from the qmix group, ippo from the mappo group."""
    seeds: int = Field(default=5, gt=0)
    """How many runs."""
    seed: int = Field(default=0, ge=0, le=MOST_SEED)
    """Seed of the first; the others follow."""
    steps: int | None = Field(default=None, gt=0)
    """Environment steps of each run; None takes those of the recipe for this market and algorithm."""
    num_episodes: int = Field(default=4_096, gt=1)
    """Episodes by which the last policy is valued."""
    out: str | None = None
    """Folder for picture and figures. None: results/score-MARKET-ALGO."""
    json: str | None = None
    """File for what is printed, as plain JSON."""
    qmix: QMIXSettings = field(default_factory=QMIXSettings)
    maddpg: MADDPGSettings = field(default_factory=MADDPGSettings)
    mappo: MAPPOSettings = field(default_factory=MAPPOSettings)
    ppo: PPOSettings = field(default_factory=PPOSettings)


def parse_score(argv: Sequence[str]) -> ScoreConfig:
    """Read what is asked for: the recipe of market and algorithm, then flags.

    Raises:
        InputError: one line for the first mistake.
    """
    named = scan_algo_flags(ScoreConfig, argv, ScoreConfig.algo).get("algo", [ScoreConfig.algo])[0]
    flags = scan_algo_flags(ScoreConfig, argv, named)
    plain = parse_flags(ScoreConfig, flags, base={})
    section = SECTION_OF_ALGO[plain.algo]
    if plain.seed + plain.seeds - 1 > MOST_SEED:
        raise InputError(f"--seed {plain.seed} leaves no room for --seeds {plain.seeds}: the largest is {MOST_SEED}")
    for name in flags:
        group = name.split(".")[0]
        if group in SECTION_OF_ALGO.values() and group != section:
            flag = settings_of(ScoreConfig)[name].flag
            raise InputError(f"{flag} has no effect on --algo {plain.algo}, which uses the settings of {section}.*")
    config = parse_flags(ScoreConfig, flags, base={section: recipe(plain.market, plain.algo).settings})
    check_network(section, getattr(config, section), flags)
    return config


def market_settings(words: Sequence[str]) -> dict[str, Any]:
    """Read ``name=value`` words; values as YAML reads them.

    Raises:
        InputError: if a word is not of that form.
    """
    joined: list[str] = []  # the command line parts lists of values at their commas
    for word in words:
        joined[-1:] = [f"{joined[-1]},{word}"] if joined and "=" not in word else [*joined[-1:], word]
    found = {}
    for word in joined:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise InputError(f"--settings {word}: give name=value, as in reward=team")
        try:
            found[name.replace("-", "_")] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise InputError(f"--settings {word}: the value cannot be read") from None
    return found


def run(argv: Sequence[str]) -> int:
    """Train each seed, value it, and show what it reached beside the best."""
    if any(word in ("-h", "--help") for word in argv):
        print_help(ScoreConfig, prog="experiments/score.py", description=ScoreConfig.__doc__ or "")
        return DONE
    config = parse_score(argv)
    settings = market_settings(config.settings)
    problem = make_problem(config.market, num_agents=config.agents, settings=settings)
    out = Path(config.out or f"results/score-{config.market}-{config.algo}")
    check_json_flag(config.json)
    check_folder_writable(out, setting="--out")
    from experiments.reporting.score_plots import plot_score
    from experiments.scoring.learning import learn
    from experiments.tuning.session import start_ray

    warnings.simplefilter("ignore")
    groups = {name: getattr(config, name) for name in dict.fromkeys(SECTION_OF_ALGO.values()) if hasattr(config, name)}
    steps = config.steps or recipe(config.market, config.algo).steps
    env = {"market": config.market, "num_agents": config.agents, "settings": settings}
    best = "equilibrium" if problem.is_nash else "optimum"
    head = {
        "market": config.market,
        "agents": problem.num_agents,
        "market_settings": settings,
        "algo": config.algo,
        "steps": steps,
        "algo_settings": dataclasses.asdict(groups[SECTION_OF_ALGO[config.algo]]),
        "best_is": best,
    }
    baseline = baseline_value(problem, config.num_episodes)
    learned: list[Learned] = []
    start_ray(RunConfig(algo=config.algo, **groups))
    for seed in range(config.seed, config.seed + config.seeds):

        def report(taken: int, mean: float, seed: int = seed) -> None:
            print(f"seed {seed}  steps {taken:>{len(str(steps))},}/{steps:,}  objective {mean:+.4f}", flush=True)

        chosen = RunConfig(algo=config.algo, seed=seed, **groups)
        learned.append(learn(chosen, problem, env, steps=steps, num_episodes=config.num_episodes, report=report))
        result = scored(problem, learned, baseline=baseline)
        record = {**head, **as_json(result)}
        write_json(out / RESULT_FILE, record)  # what is done stays, whatever comes after it
    agents = f"{problem.num_agents} agent" + "s" * (problem.num_agents > 1)
    title = f"{config.algo} on {config.market}, {agents}, {steps:,} steps"
    _show(result, title=title, best=best)
    picture = plot_score(out / PICTURE_FILE, result, title=title, optimum=best, are_choices=bool(problem.num_actions))
    print(f"picture: {picture}; figures: {out / RESULT_FILE}")
    write_json_flag(config.json, record)
    return DONE


def _show(result: Scored, *, title: str, best: str) -> None:
    """Print a row for each seed, their mean, and how sure it is."""

    def row(name: str, learned: float, of_it: float | None, distance: float) -> dict[str, str]:
        return {
            "seed": name,
            "learned": f"{learned:.4f}",
            best: f"{result.optimum:.4f}",
            "baseline": f"{result.baseline:.4f}",
            "score": "-" if of_it is None else f"{of_it:.4f}",
            "distance": f"{distance:.4f}",
        }

    rows = [
        row(str(one.seed), one.value.team_mean, result.scores[i] if result.scores else None, float(one.distance.mean()))
        for i, one in enumerate(result.seeds)
    ]
    rows.append(row("mean", result.learned.mean, result.score.mean if result.score else None, result.distance))
    show(rows_table(rows, title=title))
    sure = result.score or result.learned
    if len(result.seeds) > 1:
        print(f"95 % interval of the {'score' if result.score else 'learned value'}: {sure.low:.4f} to {sure.high:.4f}")


if __name__ == "__main__":
    main(run)

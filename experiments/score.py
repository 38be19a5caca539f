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
from envs.optima.evaluation import value
from experiments.algorithm_names import SECTION_OF_ALGO
from experiments.arguments import parse_flags, print_help, scan_flags
from experiments.cli import DONE, check_json_flag, main, write_json_flag
from experiments.config import MOST_SEED, RunConfig
from experiments.reporting.files import check_folder_writable, write_json
from experiments.reporting.tables import rows_table, show
from experiments.scoring.recipes import recipe
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
    flags = scan_flags(ScoreConfig, argv)
    plain = parse_flags(ScoreConfig, flags, base={})
    section = SECTION_OF_ALGO[plain.algo]
    for name in flags:
        group = name.split(".")[0]
        if group in SECTION_OF_ALGO.values() and group != section:
            flag = settings_of(ScoreConfig)[name].flag
            raise InputError(f"{flag} has no effect on --algo {plain.algo}, which uses the settings of {section}.*")
    return parse_flags(ScoreConfig, flags, base={section: recipe(plain.market, plain.algo).settings})


def market_settings(words: Sequence[str]) -> dict[str, Any]:
    """Read ``name=value`` words; values as YAML reads them.

    Raises:
        InputError: if a word is not of that form.
    """
    found = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise InputError(f"--settings {word}: give name=value, as in reward=team")
        found[name.replace("-", "_")] = yaml.safe_load(text)
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
    from experiments.scoring.results import as_json, scored
    from experiments.tuning.session import start_ray

    warnings.simplefilter("ignore")
    groups = {name: getattr(config, name) for name in dict.fromkeys(SECTION_OF_ALGO.values()) if hasattr(config, name)}
    steps = config.steps or recipe(config.market, config.algo).steps
    env = {"market": config.market, "num_agents": config.agents, "settings": settings}
    start_ray(RunConfig(algo=config.algo, **groups))
    learned = []
    for seed in range(config.seed, config.seed + config.seeds):
        chosen = RunConfig(algo=config.algo, seed=seed, **groups)

        def report(taken: int, mean: float, seed: int = seed) -> None:
            print(f"seed {seed}  steps {taken:>{len(str(steps))},}/{steps:,}  objective {mean:+.4f}", flush=True)

        learned.append(learn(chosen, problem, env, steps=steps, num_episodes=config.num_episodes, report=report))
    exact = problem.baseline_value
    baseline = (
        float(exact.mean())
        if exact is not None
        else value(problem, problem.baseline, num_episodes=config.num_episodes).team_mean
    )
    result = scored(problem, learned, baseline=baseline)
    best = "equilibrium" if problem.is_nash else "optimum"
    agents = f"{problem.num_agents} agent" + "s" * (problem.num_agents > 1)
    title = f"{config.algo} on {config.market}, {agents}, {steps:,} steps"
    rows = [
        {
            "seed": str(one.seed),
            "learned": f"{one.value.team_mean:.4f}",
            best: f"{result.optimum:.4f}",
            "baseline": f"{result.baseline:.4f}",
            "score": f"{result.scores[i]:.4f}" if result.scores else "-",
            "distance": f"{float(one.distance.mean()):.4f}",
        }
        for i, one in enumerate(learned)
    ]
    rows.append(
        {
            "seed": "mean",
            "learned": f"{result.learned.mean:.4f}",
            best: f"{result.optimum:.4f}",
            "baseline": f"{result.baseline:.4f}",
            "score": f"{result.score.mean:.4f}" if result.score else "-",
            "distance": f"{result.distance:.4f}",
        }
    )
    show(rows_table(rows, title=title))
    low, high = (result.score.low, result.score.high) if result.score else (result.learned.low, result.learned.high)
    if config.seeds > 1:
        print(f"95 % interval of the {'score' if result.score else 'learned value'}: {low:.4f} to {high:.4f}")
    record = {
        "market": config.market,
        "agents": problem.num_agents,
        "market_settings": settings,
        "algo": config.algo,
        "steps": steps,
        "algo_settings": dataclasses.asdict(groups[SECTION_OF_ALGO[config.algo]]),
        "best_is": best,
        **as_json(result),
    }
    write_json(out / RESULT_FILE, record)
    picture = plot_score(out / PICTURE_FILE, result, title=title, optimum=best, are_choices=bool(problem.num_actions))
    print(f"picture: {picture}; figures: {out / RESULT_FILE}")
    write_json_flag(config.json, record)
    return DONE


if __name__ == "__main__":
    main(run)

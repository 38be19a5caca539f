"""What comes before training: room on the disk, Ray, devices, a free folder, and lines that say what is trained."""

from __future__ import annotations

from typing import Any

from algos.scaling import ScalingSettings
from envs.market import Market
from experiments.runs.run import Run
from experiments.settings.run_config import RunConfig
from experiments.tuning import session
from experiments.tuning.algorithms import replicas
from experiments.tuning.disk_use import check_disk, predict_disk_use
from experiments.tuning.resume import set_aside


def open_run(run: Run, market: Market) -> ScalingSettings:
    """Start Ray, check the weights that are to be loaded, and move an earlier run aside where a new one is asked for.

    Returns:
        The scaling settings, with the devices that the run learns on.

    Raises:
        InputError: if devices, weights, the folder or the room on the disk do not fit what is asked for.
    """
    config = run.config
    use = predict_disk_use(config, market, run.folder)
    check_disk(config, use)
    session.start_ray(config.scaling, num_trials=config.search.max_concurrent if run.is_search else 1)
    devices = session.with_devices(config.scaling)
    if config.load_model is not None and not run.is_known:
        session.check_fits(config, market)
    if config.resume == "never":
        set_aside(run)
    if run.is_search:
        print(use)
    return devices


def describe_run(run: Run, market: Market) -> dict[str, Any]:
    """What is about to be trained, on what prices, as plain JSON."""
    bars, splits = market.bars, market.splits
    return {
        "folder": str(run.folder.absolute()),
        "algo": run.config.algo,
        "target_episodes": run.config.episodes,
        "prices": {
            "source": bars.source,
            "assets": list(bars.assets),
            "num_bars": bars.num_bars,
            "frequency": bars.frequency,
            "periods_per_year": bars.periods_per_year,
            "notes": list(bars.notes),
        },
        "splits": {
            split.name: {
                "start": str(bars.dates[split.start]),
                "end": str(bars.dates[split.stop - 1]),
                "num_bars": split.num_bars,
            }
            for split in (splits.train, splits.validation, splits.test)
        },
        "agents": {mandate.name: list(mandate.assets) for mandate in market.mandates},
    }


def announce(run: Run, market: Market) -> None:
    """Say what is about to be trained, on what prices."""
    facts, config = describe_run(run, market), run.config
    prices = facts["prices"]
    begins = "carrying on" if run.is_known else "starting"
    print(f"{begins} {run.folder}: {config.algo}, {config.episodes} episodes")
    print(f"prices: {prices['source']}, {len(prices['assets'])} assets, ", end="")
    print(f"{prices['num_bars']} bars of {prices['frequency']}, {prices['periods_per_year']:g} a year")
    for note in prices["notes"]:
        print(f"  {note}")
    for name, split in facts["splits"].items():
        print(f"  {name}: {split['start'][:10]} to {split['end'][:10]}, {split['num_bars']} bars")
    agents = ", ".join(
        f"{name} ({', '.join(assets[:3])}{', ...' if len(assets) > 3 else ''})"
        for name, assets in facts["agents"].items()
    )
    print(f"agents: {agents}")
    if config.preset == "dow" and config.data.path is None:
        print("--preset dow is meant for prices of your own: without --data.path FILE it runs on the built-in market")
    for line in _steps_of_the_clock(config):
        print(line)
    print(predict_disk_use(config, market, run.folder))


def _steps_of_the_clock(config: RunConfig) -> list[str]:
    """Say once that replicas end together, where the target or the checkpoints do not fall on such an end."""
    together, every = replicas(config), config.checkpoint_interval
    due, last = (-(-count // together) * together for count in (every, config.episodes))
    parts = [f"checkpoints come every {due}, not {every}"] if due != every else []
    parts += [f"the run ends at {last} at the earliest, not at {config.episodes}"] if last != config.episodes else []
    return [f"{together} replicas end their episodes together: {'; '.join(parts)}"] if parts else []

"""What comes before training: room on the disk, Ray, devices, a free folder, and lines that say what is trained."""

from __future__ import annotations

from typing import Any

from envs.market import Market
from experiments.settings.run_config import RunConfig, run_folder
from experiments.tuning import session
from experiments.tuning.algorithms import replicas
from experiments.tuning.disk_use import check_disk, predict_disk_use
from experiments.tuning.resume import is_known, set_aside


def open_run(config: RunConfig, market: Market) -> RunConfig:
    """Start Ray, check the weights that are to be loaded, and move an earlier run aside where a new one is asked for.

    Returns:
        The settings, with the devices that the run learns on.

    Raises:
        InputError: if devices, weights, the folder or the room on the disk do not fit what is asked for.
    """
    use = predict_disk_use(config, market)
    check_disk(config, use)
    session.start_ray(config)
    config = session.with_devices(config)
    if config.load_model is not None and not is_known(config):
        session.check_fits(config, market)
    if config.resume == "never":
        set_aside(config)
    if config.search.num_trials:
        print(use)
    return config


def describe_run(config: RunConfig, market: Market) -> dict[str, Any]:
    """What is about to be trained, on what prices, as plain JSON."""
    bars, splits = market.bars, market.splits
    return {
        "folder": str(run_folder(config).absolute()),
        "algo": config.algo,
        "target_episodes": config.episodes,
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


def announce(config: RunConfig, market: Market, *, is_known: bool) -> None:
    """Say what is about to be trained, on what prices."""
    facts = describe_run(config, market)
    prices = facts["prices"]
    print(
        f"{'carrying on' if is_known else 'starting'} {run_folder(config)}: {config.algo}, {config.episodes} episodes"
    )
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
    print(predict_disk_use(config, market))


def _steps_of_the_clock(config: RunConfig) -> list[str]:
    """Say once that replicas end together, where the target or the checkpoints do not fall on such an end."""
    together, every = replicas(config), config.checkpoint_interval
    due, last = (-(-count // together) * together for count in (every, config.episodes))
    parts = [f"checkpoints come every {due}, not {every}"] if due != every else []
    parts += [f"the run ends at {last} at the earliest, not at {config.episodes}"] if last != config.episodes else []
    return [f"{together} replicas end their episodes together: {'; '.join(parts)}"] if parts else []

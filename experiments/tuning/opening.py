"""What comes before training: room on the disk, Ray, devices, a free folder, and lines that say what is trained."""

from __future__ import annotations

from envs.market import Market
from experiments.config import RunConfig, run_folder
from experiments.tuning import session
from experiments.tuning.algorithms import replicas
from experiments.tuning.disk import check_disk, predict_disk_use
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


def announce(config: RunConfig, market: Market, *, is_known: bool) -> None:
    """Say what is about to be trained, on what prices."""
    bars, splits = market.bars, market.splits
    print(
        f"{'carrying on' if is_known else 'starting'} {run_folder(config)}: {config.algo}, {config.episodes} episodes"
    )
    print(f"prices: {bars.source}, {bars.num_assets} assets, {bars.num_bars} bars of {bars.frequency}, ", end="")
    print(f"{bars.periods_per_year:g} a year")
    for note in bars.notes:
        print(f"  {note}")
    for split in (splits.train, splits.validation, splits.test):
        first, last = (str(bars.dates[i])[:10] for i in (split.start, split.stop - 1))
        print(f"  {split.name}: {first} to {last}, {split.stop - split.start} bars")
    agents = ", ".join(
        f"{m.name} ({', '.join(m.assets[:3])}{', ...' if len(m.assets) > 3 else ''})" for m in market.mandates
    )
    print(f"agents: {agents}")
    print(predict_disk_use(config, market))
    together, every = replicas(config), config.checkpoint_interval
    if every % together:
        due = -(-every // together) * together
        print(f"{together} replicas end their episodes together: checkpoints come every {due} episodes, not {every}")

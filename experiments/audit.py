"""Audit look-ahead and books on your own prices and settings: ``python experiments/audit.py --data.path FILE``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any

from pydantic import Field
from pydantic.dataclasses import dataclass

import experiments.interrupts  # before what takes seconds to import
from common.strict import STRICT
from envs.settings import DataConfig, DeskConfig, FloorConfig
from experiments.command_line import DONE, FAILED, check_json_flag, main, write_json_flag
from experiments.reporting.tables import checks_table, pairs_table, show
from experiments.settings.arguments import parse_flags, scan_flags
from experiments.settings.command import ALIASES, read_config_file, read_preset
from experiments.settings.help import asks_for_help, print_help
from experiments.settings.layers import merge
from experiments.settings.run_config import MOST_SEED, RunConfig, floor_spec

TITLES = {
    "lookahead": "Nothing looks ahead",
    "books": "The books balance",
    "round trips": "No path of trades is paid for itself",
}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AuditConfig:
    """What can be set for an audit: prices, agents and rules as in a run, and how much is tried."""

    preset: str | None = None
    """Named differences from the defaults, as in a run."""
    config: str | None = None
    """YAML file of your own, as in a run; only its data, desk and floor are read."""
    seed: int = Field(default=0, ge=0, le=MOST_SEED)
    """Seed of the perturbations and random actions."""
    num_bars_checked: int = Field(default=3, gt=0)
    """Bars of each split after which prices are changed."""
    num_settings: int = Field(default=8, gt=0)
    """Cost settings under which the books are checked; yours is the first."""
    json: str | None = None
    """File for what is printed, as plain JSON."""
    data: DataConfig = field(default_factory=DataConfig)
    desk: DeskConfig = field(default_factory=DeskConfig)
    floor: FloorConfig = field(default_factory=FloorConfig)


def parse_audit(argv: Sequence[str]) -> AuditConfig:
    """Read the settings of an audit: defaults, then the preset, then the file, then flags.

    Raises:
        InputError: one line for the first mistake.
    """
    flags = scan_flags(AuditConfig, argv, aliases=ALIASES)
    asked = {name: words[0] for name, words in flags.items() if words[0] != "None"}
    preset = read_preset(asked["preset"]) if "preset" in asked else {}
    layers = merge(preset, read_config_file(asked.get("config")))
    base: dict[str, Any] = {name: layers[name] for name in ("data", "desk", "floor") if name in layers}
    return parse_flags(AuditConfig, flags, base=base)


def run(argv: Sequence[str]) -> int:
    """Audit what the command line names, and print a table of the checks; 1 if any failed.

    Raises:
        InputError: if prices or settings cannot be used.
    """
    if asks_for_help(argv):
        print_help(AuditConfig, argv, prog="experiments/audit.py", description=__doc__ or "", aliases=ALIASES)
        return DONE
    config = parse_audit(argv)
    check_json_flag(config.json)
    with experiments.interrupts.leaving_at_once():  # only now: torch takes seconds to import
        from envs.audit_books import audit_books, audit_round_trips
        from envs.audit_lookahead import audit_lookahead
        from envs.floor import build_floor
        from envs.market import build_market
        from experiments.backtesting.conditions import fill_in_words
    market = build_market(floor_spec(RunConfig(data=config.data, desk=config.desk, floor=config.floor)))
    build_floor(market)  # refuses what cannot be traded before anything is shown
    bars = market.bars
    facts = {
        "prices": f"{bars.source}: {bars.num_bars} bars of {bars.num_assets} assets, {bars.frequency}",
        "agents": ", ".join(mandate.name for mandate in market.mandates),
        "fills": fill_in_words(market),
    }
    facts |= {f"note {i + 1}": note for i, note in enumerate(bars.notes)}
    show(pairs_table(facts, title="What is audited"))
    results = [
        audit_lookahead(market, num_bars_checked=config.num_bars_checked, seed=config.seed),
        audit_books(market, num_settings=config.num_settings, seed=config.seed),
        audit_round_trips(market, seed=config.seed),
    ]
    for result in results:
        rows = [(row.check, row.passed and row.tried > 0, row.says()) for row in result.rows]
        show(checks_table(rows, title=TITLES.get(result.name, result.name)))
    passed = all(result.passed for result in results)
    show("every check passed" if passed else "an audit FAILED: results on this floor mean nothing until it is mended")
    write_json_flag(
        config.json,
        {
            "passed": passed,
            "agents": {mandate.name: list(mandate.assets) for mandate in market.mandates},
            "fills": facts["fills"],
            "data": {"source": bars.source, "fingerprint": bars.fingerprint, "notes": list(bars.notes)},
            "audits": [result.to_json() for result in results],
        },
    )
    return DONE if passed else FAILED


if __name__ == "__main__":
    main(run)

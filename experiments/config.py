"""Print every setting of a run with its default, or renew the table of them: ``python experiments/config.py``."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic.dataclasses import dataclass

import experiments.interrupts  # noqa: F401  before what takes seconds to import
from common.strict import STRICT
from experiments.command_line import DONE, check_json_flag, main, write_json_flag
from experiments.settings.arguments import parse_flags, scan_flags
from experiments.settings.help import asks_for_help, print_help
from experiments.settings.table import DOCS, list_settings, render_settings, write_docs


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TableConfig:
    """What to do with the table of settings."""

    write_docs: bool = False
    """Write it into docs/configuration.md instead of printing it."""
    json: str | None = None
    """File for what is printed, as plain JSON."""


def run(argv: Sequence[str]) -> int:
    """Print the table of settings, or write it into docs/configuration.md with ``--write-docs``."""
    if asks_for_help(argv):
        print_help(TableConfig, argv, prog="experiments/config.py", description=str(run.__doc__))
        return DONE
    config = parse_flags(TableConfig, scan_flags(TableConfig, argv), base={})
    check_json_flag(config.json)
    if config.write_docs:
        print(f"wrote {DOCS}" if write_docs() else f"{DOCS} is current")
    else:
        print(render_settings())
    write_json_flag(config.json, {"settings": list_settings()})
    return DONE


if __name__ == "__main__":
    main(run)

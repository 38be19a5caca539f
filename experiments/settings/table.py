"""The table of settings in ``docs/configuration.md``, made from the dataclasses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.files import write_text
from experiments.settings.fields import Setting, kind_in_words, settings_of
from experiments.settings.run_config import RunConfig

DOCS = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"
BEGIN, END = "<!-- settings: begin -->", "<!-- settings: end -->"


def render_settings() -> str:
    """Write every setting of a run as Markdown tables, one for each group."""
    groups: dict[str, list[Setting]] = {}
    for name, setting in settings_of(RunConfig).items():
        groups.setdefault(name.rpartition(".")[0], []).append(setting)
    parts = []
    for group, settings in groups.items():
        title = f"### {group}" if group else "### The run"
        rows = ["| flag | type | default | meaning |", "|---|---|---|---|"]
        rows += [
            f"| `{item.flag}` | {_cell(kind_in_words(item.kind))} | {_default(item.default)} | {_cell(item.help)} |"
            for item in settings
        ]
        parts.append("\n".join([title, "", *rows]))
    return "\n\n".join(parts) + "\n"


def list_settings() -> list[dict[str, Any]]:
    """Give every setting of a run as plain values: name, flag, type in words, default, description."""
    return [
        {
            "name": name,
            "flag": item.flag,
            "type": kind_in_words(item.kind),
            "default": item.default,
            "description": item.help,
        }
        for name, item in settings_of(RunConfig).items()
    ]


def write_docs(path: Path = DOCS) -> bool:
    """Put the current table between the two marks of the page; return whether the page changed."""
    text = path.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    fresh = f"{before}{BEGIN}\n\n{render_settings()}\n{END}{after}"
    if fresh == text:
        return False
    write_text(path, fresh)
    return True


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _default(value: object) -> str:
    if isinstance(value, tuple):
        return "`" + " ".join(str(item) for item in value) + "`" if value else "none"
    return f"`{value}`"

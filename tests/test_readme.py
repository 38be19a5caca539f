"""What the README and the documentation name exists: verbs, flags, make targets, links, files and tests."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
from verbs import VERBS

from algos.algorithm import IDLE_LIMIT_S
from common import store
from envs.benchmark_figures import BENCHMARK_FIGURES
from envs.metrics import METRIC_NAMES
from envs.paired_tests import PairedTest, PairedTests
from experiments.evaluation.report import SURE
from experiments.evaluation.results import FIGURES
from experiments.recovery.signals import AGAIN_S
from experiments.remote import lease
from experiments.settings.algorithm_flags import OF_ALGO
from experiments.settings.command import ALIASES, preset_names
from experiments.settings.fields import hyphens, settings_of
from experiments.settings.run_config import RunConfig
from experiments.tuning.ray_folder import KEPT_S

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
ROOMS = ("", "experiments", "algos")
"""Folders that paths of source files may begin in."""
GENERAL = {"--help", "--strict", "--generate"}


@pytest.mark.parametrize("page", PAGES)
def test_flags_exist(page):
    text = (ROOT / page).read_text()
    known = {s.flag for cls in VERBS for s in settings_of(cls).values()}
    known |= {f"--{hyphens(name)}" for name in (*ALIASES, *OF_ALGO)} | GENERAL
    used = set(re.findall(r"(?<![\w-])--[a-z][\w.-]*\w", text))
    used = {re.sub(r"(^--|\.)no-", r"\1", flag) for flag in used}
    assert used - known == set()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text()
    targets = re.findall(r"\]\(([^)#]+)\)", text)
    assert [t for t in targets if "://" not in t and not (ROOT / page).parent.joinpath(t).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_verbs_and_make_targets_exist(page):
    text = (ROOT / page).read_text()
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^make (\S+)", text, re.MULTILINE))
    assert [target for target in targets if f"\n{target}:" not in makefile] == []
    verbs = set(re.findall(r"python (experiments/\w+\.py)", text))
    assert [verb for verb in verbs if not (ROOT / verb).is_file()] == []


def test_every_preset_is_explained():
    text = (ROOT / "docs" / "configuration.md").read_text()
    assert [name for name in preset_names() if f"| `{name}` |" not in text] == []


def test_every_figure_is_explained():
    text = (ROOT / "docs" / "metrics.md").read_text()
    tested = (field.name for of in (PairedTest, PairedTests) for field in fields(of) if field.name != "against")
    searched = ("deflated_sharpe", "hurdle", "num_trials", "intervals")
    names = {*METRIC_NAMES, *BENCHMARK_FIGURES, *FIGURES, *tested, *searched}
    assert [name for name in names if f"`{name}`" not in text] == []
    assert [title for title, _ in SURE.values() if title != "deflated" and f"| {title} |" not in text] == []


@pytest.mark.parametrize("page", PAGES)
def test_source_files_that_are_named_exist(page):
    named = re.findall(r"`((?:\w+/)+\w+\.(?:py|yaml))`", (ROOT / page).read_text())
    named = [path for path in named if "NAME" not in path]
    assert [path for path in named if not any((ROOT / room / path).is_file() for room in ROOMS)] == []


@pytest.mark.parametrize(
    ("page", "num_promises"), [("CONTRIBUTING.md", 12), ("docs/recovery.md", 38), ("docs/security.md", 15)]
)
def test_tests_that_are_named_exist(page, num_promises):
    """And every promise, a row of a table whose last column is that of tests, names one."""
    text = (ROOT / page).read_text()
    defined = {
        name for path in (ROOT / "tests").rglob("*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    assert [name for name in re.findall(r"`(test_\w+)`", text) if name not in defined] == []
    tables = re.findall(r"^\|.*\| tests? \|\n\|[-|]+\|\n((?:\|.*\|\n)+)", text, re.MULTILINE)
    promises = [row.rsplit("|", 2) for table in tables for row in table.splitlines()]
    assert [promise for promise, tests, _ in promises if not re.search(r"`test_\w+`", tests)] == []
    assert len(promises) >= num_promises


@pytest.mark.parametrize(
    ("words", "seconds", "found"),
    [
        ("what comes within half a second of the first", 0.5, AGAIN_S),
        ("says so after 5 seconds", 5, store._SAID_S),
        ("gives up after 30", 30, store._FIRST_S),
        ("A save tries again for a minute", 60, store.PATIENCE_S),
        ("It is renewed every 15 seconds", 15, lease._RENEWED_S),
        ("after a minute without that it may be taken over", 60, lease.LEASE_S),
        ("After `--hang-timeout-s` (60; 0: never)", 60, RunConfig.hang_timeout_s),
        ("no runner is left to sample for five minutes", 300, IDLE_LIMIT_S),
        ("after a failure it stays for a day", 86_400, KEPT_S),
    ],
)
def test_times_that_recovery_promises_are_those_of_the_code(words, seconds, found):
    assert words in " ".join((ROOT / "docs" / "recovery.md").read_text().split())
    assert found == seconds

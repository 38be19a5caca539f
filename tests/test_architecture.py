"""The walls between the rooms: who may import whom, read from the source and not from what happens to be loaded."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("common", "envs", "algos", "experiments")
FORBIDDEN = {
    "common": {"envs", "algos", "experiments"},
    "envs": {"algos", "experiments"},
    "algos": {"envs", "experiments"},
    "experiments": set(),
}
PURE = (
    "algos/distributions.py",
    "algos/dqn/config.py",
    "algos/impala/config.py",
    "algos/indq/config.py",
    "algos/losses.py",
    "algos/maddpg/config.py",
    "algos/mappo/config.py",
    "algos/minibatches.py",
    "algos/network_settings.py",
    "algos/ppo/config.py",
    "algos/priorities.py",
    "algos/q_settings.py",
    "algos/qmix/config.py",
    "algos/replay_settings.py",
    "algos/returns.py",
    "algos/running.py",
    "algos/sac/config.py",
    "algos/scaling.py",
    "algos/schedules.py",
    "algos/step_size.py",
    "common/counted.py",
    "common/disk.py",
    "common/errors.py",
    "common/files.py",
    "common/intervals.py",
    "common/manifests.py",
    "common/pace.py",
    "common/paths.py",
    "common/provenance.py",
    "common/store.py",
    "common/strict.py",
    "envs/accounts.py",
    "envs/actions.py",
    "envs/agents.py",
    "envs/attribution.py",
    "envs/audit_books.py",
    "envs/audit_draws.py",
    "envs/audit_lookahead.py",
    "envs/audit_rows.py",
    "envs/bar_data.py",
    "envs/bar_lengths.py",
    "envs/bars.py",
    "envs/baseline_names.py",
    "envs/baselines.py",
    "envs/benchmark_figures.py",
    "envs/calendars.py",
    "envs/closings.py",
    "envs/cost_tables.py",
    "envs/costs.py",
    "envs/execution.py",
    "envs/features.py",
    "envs/folds.py",
    "envs/frequencies.py",
    "envs/identities.py",
    "envs/liquidity.py",
    "envs/mandates.py",
    "envs/metrics.py",
    "envs/observations.py",
    "envs/outcomes.py",
    "envs/online_portfolios.py",
    "envs/optima/almgren_chriss.py",
    "envs/optima/catalog.py",
    "envs/optima/games.py",
    "envs/optima/garleanu_pedersen.py",
    "envs/optima/kyle.py",
    "envs/optima/market_making.py",
    "envs/optima/merton.py",
    "envs/optima/merton_relative.py",
    "envs/optima/problem.py",
    "envs/price_adjustments.py",
    "envs/price_assets.py",
    "envs/price_checks.py",
    "envs/paired_tests.py",
    "envs/portfolio_optimisers.py",
    "envs/portfolio_rules.py",
    "envs/price_columns.py",
    "envs/price_dates.py",
    "envs/price_excel.py",
    "envs/price_faults.py",
    "envs/price_fields.py",
    "envs/price_files.py",
    "envs/price_jumps.py",
    "envs/price_names.py",
    "envs/price_numbers.py",
    "envs/price_sources.py",
    "envs/price_relatives.py",
    "envs/price_tables.py",
    "envs/price_text.py",
    "envs/rewards.py",
    "envs/rolling.py",
    "envs/settings.py",
    "envs/sharpe.py",
    "envs/steps.py",
    "envs/synthetic.py",
    "envs/tape.py",
    "envs/trading.py",
    "envs/universe.py",
    "experiments/command_line.py",
    "experiments/interrupts.py",
    "experiments/recovery/checkpoints.py",
    "experiments/recovery/lock.py",
    "experiments/recovery/names.py",
    "experiments/recovery/records.py",
    "experiments/recovery/signals.py",
    "experiments/recovery/tune_files.py",
    "experiments/recovery/writer.py",
    "experiments/remote/addresses.py",
    "experiments/remote/lease.py",
    "experiments/remote/mirror.py",
    "experiments/remote/small_files.py",
    "experiments/reporting/plots.py",
    "experiments/reporting/tables.py",
    "experiments/runs/folders.py",
    "experiments/runs/models.py",
    "experiments/runs/record.py",
    "experiments/settings/algorithm_flags.py",
    "experiments/settings/arguments.py",
    "experiments/settings/fields.py",
    "experiments/settings/help.py",
    "experiments/settings/layers.py",
    "experiments/settings/metric_names.py",
    "experiments/settings/old_names.py",
    "experiments/settings/run_config.py",
    "experiments/settings/table.py",
)
"""Parts that import neither Ray nor Gymnasium, so that they can be tested and used without either."""

SOURCES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def imported_modules(path):
    """Full names of all modules that a file imports, also inside functions; ``from a import b`` counts as a and a.b."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(), filename=str(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


def roots(path):
    return {name.partition(".")[0] for name in imported_modules(path)}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_have_one_door(path):
    room = path.relative_to(ROOT).parts[0]
    assert roots(path) & FORBIDDEN[room] == set()


@pytest.mark.parametrize("name", PURE)
def test_pure_parts_import_neither_ray_nor_gymnasium(name):
    assert roots(ROOT / name) & {"ray", "gymnasium", "pettingzoo", "gym"} == set()


@pytest.mark.parametrize("name", PURE)
def test_pure_parts_lean_on_nothing_impure_of_their_own_room_at_import(name):
    """A pure part may not reach Ray or Gymnasium through a neighbour either."""
    impure = reach(ROOT / name) & {"ray", "gymnasium", "pettingzoo"}
    if name not in (
        "envs/audit_books.py",
        "envs/audit_lookahead.py",
    ):  # audits are pure of Ray, but they step floors, which have Gymnasium spaces
        assert impure == set()
    assert "ray" not in impure


def reach(path, seen=None):
    """Root packages that a file reaches through modules of this repository that it imports when it is loaded."""
    seen = set() if seen is None else seen
    found = set()
    for name in imported_when_loaded(path):
        root = name.partition(".")[0]
        if root not in ROOMS:
            found.add(root)
            continue
        target = ROOT.joinpath(*name.split(".")).with_suffix(".py")
        if target.is_file() and target not in seen:
            seen.add(target)
            found |= reach(target, seen)
    return found


def imported_when_loaded(path):
    """Modules imported at the top level of a file, outside ``if TYPE_CHECKING``."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("verb", ["run", "backtest", "audit", "bench", "checkpoints"])
def test_nothing_leans_on_a_verb(verb):
    """A verb parses, calls and prints; what two of them need lies below them."""
    assert [path.name for path in SOURCES if f"experiments.{verb}" in imported_modules(path)] == []


def test_there_is_no_drawer_for_odds_and_ends():
    names = {path.stem for path in SOURCES}
    assert names & {"utils", "util", "helpers", "misc"} == set()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_readable_in_one_sitting(path):
    assert len(path.read_text().splitlines()) <= 450


def test_no_imports_run_in_a_circle():
    """Neither at the top of files nor inside functions; what is imported for its types alone does not count."""
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in SOURCES}
    graph = {name: {other for other in imported_when_run(path) if other in modules} for name, path in modules.items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(modules)


def imported_when_run(path):
    """Modules that a file imports at its top or inside functions, outside ``if TYPE_CHECKING``."""
    tree = ast.parse(path.read_text())
    for_types = [
        statement
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
    ]
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node not in for_types:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_walk_finds_imports_inside_functions(tmp_path, monkeypatch):
    monkeypatch.setattr("test_architecture.ROOT", tmp_path)
    (tmp_path / "envs").mkdir()
    path = tmp_path / "envs" / "x.py"
    path.write_text("def f():\n    from algos.nets import build\n    import ray.tune\n    from . import bars\n")
    assert imported_modules(path) == {"algos.nets", "algos.nets.build", "ray.tune", "envs", "envs.bars"}
    assert {"algos", "ray"} <= roots(path)

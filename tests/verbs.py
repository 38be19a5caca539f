"""What can be set for each verb."""

from experiments.audit import AuditConfig
from experiments.backtest import BacktestConfig
from experiments.bench import BenchConfig
from experiments.checkpoints import CheckpointsConfig
from experiments.config import TableConfig
from experiments.evaluate import WalkConfig
from experiments.scoring.settings import ScoreConfig
from experiments.settings.run_config import RunConfig

VERBS = (
    RunConfig, BacktestConfig, AuditConfig, BenchConfig, CheckpointsConfig, TableConfig, ScoreConfig, WalkConfig
)  # fmt: skip

"""What is trained, and in what: algorithms and environments, made from the settings of a run."""

import os

# Ray reads these when its parts are imported, in this process and in its workers.
# Nothing in Tune's own files is newer than our checkpoints, and writing them after every iteration slows a small team.
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "10")
os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")
os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # RecordLogger writes where a kill loses nothing
os.environ.setdefault("PYTHONHASHSEED", "0")  # RLlib draws in the order of sets of agents, else another in each process
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # Tune would print a box of its own beside our progress
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

"""Tune's own files of a run, as far as anything is read from them."""

import json
import pickle

from ray.tune import FailureConfig, RunConfig

from experiments.tuning.loggers import RecordLogger
from experiments.tuning.monitor import RunMonitor

STATE = "experiment_state-2026-01-02_00-00-00.json"
OLDER = "experiment_state-2026-01-01_00-00-00.json"
DRAWN = "basic-variant-state-2026-01-02_00-00-00.json"
NAMES = ("tuner.pkl", STATE, DRAWN)


SETTINGS = {"algo": "vdn", "seed": 7, "max_failures": 2, "address": None}
TRIAL = [
    json.dumps({"config": {"run": {"scaling": {"num_env_runners": 2}}}, "relative_logdir": "trial_0"}),
    json.dumps({"last_result": {"training_iteration": 5}}),
]
ENDED = [json.dumps(json.loads(TRIAL[0]) | {"status": "TERMINATED"}), TRIAL[1]]


def plan(*, max_failures=2, **monitored):
    """Tune's plan of a run, as far as anything is read from it."""
    monitor = RunMonitor(**{"algo": "vdn", "seed": 7, "address": None} | monitored)
    failures = FailureConfig(max_failures=max_failures)
    return pickle.dumps({"_run_config": RunConfig(failure_config=failures, callbacks=[RecordLogger(), monitor])})


def write_tune_files(folder, *, trials=(TRIAL,), state=STATE):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tuner.pkl").write_bytes(plan())
    (folder / state).write_text(json.dumps({"trial_data": list(trials)}))
    (folder / DRAWN).write_bytes(pickle.dumps({"drawn": 1}))


def write_config(folder, *, num_env_runners=2):
    config = SETTINGS | {"episodes": 40, "scaling": {"num_env_runners": num_env_runners}}
    (folder / "config.json").write_text(json.dumps({"config": config}))

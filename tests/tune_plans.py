"""Tune's own files of a run, as far as anything is read from them."""

import json

STATE = "experiment_state-2026-01-02_00-00-00.json"
OLDER = "experiment_state-2026-01-01_00-00-00.json"
DRAWN = "basic-variant-state-2026-01-02_00-00-00.json"
NAMES = ("tuner.pkl", STATE, DRAWN)


CONFIG = {"algo": "vdn", "seed": 7, "max_failures": 2, "scaling": {"num_env_runners": 2}}
PLAN = CONFIG | {"address": None}
TRIAL = [json.dumps({"relative_logdir": "trial_0"}), json.dumps({"last_result": {"training_iteration": 5}})]
ENDED = [json.dumps(json.loads(TRIAL[0]) | {"status": "TERMINATED"}), TRIAL[1]]


def write_tune_files(folder, *, trials=(TRIAL,), state=STATE):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tuner.pkl").write_bytes(b"a plan of Tune's")
    (folder / state).write_text(json.dumps({"trial_data": list(trials)}))
    (folder / DRAWN).write_bytes(b"what is drawn")


def write_config(folder, *, num_env_runners=2):
    config = CONFIG | {"episodes": 40, "scaling": {"num_env_runners": num_env_runners}}
    (folder / "config.json").write_text(json.dumps({"format": 1, "config": config, "provenance": {}}))

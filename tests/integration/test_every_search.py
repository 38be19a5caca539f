"""Each algorithm's own search space, with every scheduler, in a folder and in a store: searched, used, carried on."""

import json
import shutil
from itertools import product

import pytest
from commands import APPO, CLOCK, IMPALA, INDQ, MADDPG, MAPPO, MARKET, PPO, QMIX, SAC, TQC
from stores import endpoint

from algos.policy import load_policy
from algos.registry import algorithm, algorithms
from common.store import is_remote, join
from experiments import checkpoints
from experiments.backtesting.compare import backtest_models
from experiments.command_line import exit_code
from experiments.recovery.checkpoints import require_meta
from experiments.recovery.signals import ask_to_stop
from experiments.remote.addresses import working_folder
from experiments.run import run
from experiments.runs.models import find_models
from experiments.search.summary import SearchMonitor
from experiments.settings.fields import value_of

pytestmark = pytest.mark.usefixtures("ray_session")
DQN = [*MARKET, *CLOCK, "--algo", "dqn", "--dqn.learning-starts", "64", "--dqn.num-envs-per-env-runner", "8"]
WORDS = {
    "appo": APPO, "dqn": DQN, "impala": IMPALA, "indq": INDQ, "ippo": [*MAPPO, "--algo", "ippo"], "maddpg": MADDPG,
    "mappo": MAPPO, "ppo": PPO, "qmix": QMIX, "sac": SAC, "tqc": TQC, "vdn": [*QMIX, "--algo", "vdn"],
}  # fmt: skip
SCHEDULERS = {
    "asha": ["--search.grace-episodes", "8", "--search.reduction-factor", "2"],
    "pbt": ["--search.perturbation-interval", "8"],
    "none": [],
}
PLACES = ("folder", "store")
SEED = 5
"""The first two trials by it draw different networks, where an algorithm's space has any."""
EPISODES = 16


EVERY = list(product(sorted(algorithms()), PLACES, SCHEDULERS))
SPREAD = ("pbt", "asha", "none", "asha", "none", "asha")
"""A population starts each member twice, and costs most."""
EACH = [(algo, PLACES[i % 2], SPREAD[i // 2 % 6]) for i, algo in enumerate(sorted(algorithms()))]
"""Each algorithm once, and each scheduler in each place."""
OFTEN = ("dqn", "indq", "mappo", "qmix")
"""Both algorithms whose spaces draw networks, each scheduler, both places, both runners."""


@pytest.fixture(scope="module")
def store():
    with endpoint() as server:
        yield server


class Search:
    """A search of two trials, as its commands see it."""

    def __init__(self, storage, algo, scheduler):
        self.storage, self.name, self.algo, self.scheduler = storage, f"{algo}-{scheduler}", algo, scheduler
        self.folder = working_folder(storage, self.name)
        self.words = [*WORDS[algo], "--seed", SEED, "--episodes", EPISODES]

    def begin(self):
        return self.run("--search.num-trials", 2, "--search.scheduler", self.scheduler, *SCHEDULERS[self.scheduler])

    def run(self, *words, name=None):
        """Give a command to a machine that has nothing of what is kept in a store."""
        if is_remote(self.storage):
            shutil.rmtree(self.folder, ignore_errors=True)
        place = ["--storage", self.storage, "--name", name or self.name]
        return exit_code(run, [*place, *map(str, [*self.words, *words])])

    def trials(self):
        return json.loads((self.folder / "search.json").read_text())["trials"]

    def check(self, out):
        """It has drawn other networks for each trial, and whoever reads their models makes these and no others."""
        trials, declared = self.trials(), algorithm(self.algo)
        assert {trial["state"] for trial in trials} <= {"COMPLETE", "PRUNED"}
        shaping = [f"{self.algo}.{name}" for name in declared.ranges if not declared.may_change(name)]
        drawn = [[trial["drawn"][name] for name in shaping] for trial in trials if self.scheduler != "pbt"]
        assert not shaping or drawn == [] or drawn[0] != drawn[1]
        assert (self.folder / "backtest" / "backtest.json").is_file()
        for trial in trials:
            place = join(self.storage, self.name, f"trial_{trial['trial_id']}")
            (model,) = find_models([place])
            backtest_models([model], load=load_policy)
            of_its_time = require_meta(model.checkpoint)["overrides"]  # the best may be an earlier one
            wanted = of_its_time if self.scheduler == "pbt" else trial["overrides"]
            assert wanted.keys() == trial["overrides"].keys()
            assert {name: value_of(model.config, name) for name in wanted} == wanted
            assert exit_code(checkpoints.run, ["export", place, "--out", str(out / trial["trial_id"])]) == 0
            load_policy(out / trial["trial_id"])

    def check_more_trials(self, capsys):
        """It is complete until more trials are asked for, which only a population does not take."""
        assert self.run() == 0
        assert "search already complete" in capsys.readouterr().out
        code = self.run("--search.num-trials", 3)
        if self.scheduler == "pbt":
            assert (code, "newcomers cannot join" in capsys.readouterr().err) == (2, True)
        else:
            assert (code, len(self.trials())) == (0, 3)


@pytest.fixture
def search(algo, place, scheduler, request, tmp_path):
    root = tmp_path if place == "folder" else request.getfixturevalue("store").storage
    storage = join(str(root), tmp_path.name)  # one store serves all tests
    return Search(storage, algo, scheduler)


@pytest.mark.parametrize(
    ("algo", "place", "scheduler"),
    [pytest.param(*case, marks=[] if case[0] in OFTEN else pytest.mark.slow) for case in EACH],
)
def test_search_of_each_algorithm_ends_well(search, tmp_path):
    assert search.begin() == 0
    search.check(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("algo", "place", "scheduler"), EVERY)
def test_every_search_is_carried_on_and_its_best_settings_train_a_run(search, tmp_path, capsys, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(SearchMonitor, "on_trial_start", stops_at("00001", search.folder))
        assert search.begin() == 130
    assert search.begin() == 0, "carried on"
    search.check(tmp_path)
    search.check_more_trials(capsys)
    best, source = shutil.copy(search.folder / "best_config.yaml", tmp_path), join(search.storage, search.name)
    for way in (["--config", best], ["--load-model", source], ["--branch-from", source, "--episodes", 3 * EPISODES]):
        name = f"{search.name}{way[0]}"
        assert search.run(*way, name=name) == 0
        assert (working_folder(search.storage, name) / "backtest" / "backtest.json").is_file()


def stops_at(trial_id, folder):
    """Ask the search to stop when a trial starts."""

    def on_trial_start(self, iteration, trials, trial, **info):
        if trial.trial_id == trial_id:
            ask_to_stop(folder, "SIGTERM")

    return on_trial_start

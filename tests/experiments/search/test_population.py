import json
from types import SimpleNamespace

import numpy as np
import pytest
from ray import tune

from algos.registry import algorithms
from common.errors import InputError
from common.manifests import find_damage
from experiments.recovery.checkpoints import TrialCheckpoints
from experiments.remote.mirror import Mirror
from experiments.search.population import PopulationBasedTraining, apply_exploits, copy_checkpoint, explore
from experiments.search.reconcile import reconcile
from experiments.search.record import SearchRecord, TrialRecord
from experiments.search.spaces import search_space
from experiments.settings.run_config import SearchConfig

SPACE = {"lr": tune.loguniform(1e-4, 1e-1), "clip": tune.choice([0.1, 0.2, 0.3]), "n": tune.randint(1, 9)}
START = {"lr": 1e-2, "clip": 0.2, "n": 5}


class Runner:
    """Tune's controller, as a scheduler sees it."""

    def __init__(self, record):
        self.trials = [Member(trial) for trial in record.trials]
        self.stopped = []

    def get_trials(self):
        return self.trials

    def _set_trial_status(self, trial, status):
        self.stopped.append(trial.trial_id)
        trial.status = status


class Member(SimpleNamespace):
    def __init__(self, trial):
        super().__init__(trial_id=trial.trial_id, status="PAUSED", config={"overrides": trial.overrides, "run": 1})

    def is_finished(self):
        return self.status in ("ERROR", "TERMINATED")

    def set_config(self, config):
        self.config = config


def publish(record, trial_id, *, episodes, score, best=None, extra=None):
    def write(folder):
        (folder / "checkpoint_meta.json").write_text(json.dumps({"episode": episodes, "is_best": True}))
        state = {"last_metrics": {"search_score": score}, "best": best, "iteration": episodes, "time_total_s": episodes}
        (folder / "run_state.json").write_text(json.dumps(state))
        (folder / "weights").write_text(extra or trial_id)

    return TrialCheckpoints(record.folder / f"trial_{trial_id}").publish(write)


def population(tmp_path, scores, *, episodes=10, mirror=None, **changes):
    record = SearchRecord.read(tmp_path)
    for score in scores if not record.trials else ():
        trial = TrialRecord(record.next_id(), dict(START), dict(START))
        record.trials.append(trial)
        publish(record, trial.trial_id, episodes=episodes, score=score, best=score)
    record.save()
    given = SearchConfig(perturbation_interval=10, **changes)
    return record, PopulationBasedTraining(record, SPACE, given, seed=3, mirror=mirror), Runner(record)


def newest(record, trial_id):
    return TrialCheckpoints(record.folder / f"trial_{trial_id}").published()[-1]


def test_a_choice_asks_each_member_once_how_far_it_is_and_nobody_where_none_may_start(tmp_path, monkeypatch):
    record, scheduler, runner = population(tmp_path, [0.1, 0.9, -0.5, 0.3], episodes=8)
    asked, real = [], PopulationBasedTraining._reached
    monkeypatch.setattr(PopulationBasedTraining, "_reached", lambda *args: asked.append(args[1]) or real(*args))
    assert scheduler.choose_trial_to_run(runner) is runner.trials[0]
    assert asked == runner.trials
    runner.trials[0].status = "RUNNING"
    assert scheduler.choose_trial_to_run(runner) is None
    assert asked == runner.trials
    runner.trials[0].status = "PAUSED"
    for trial in record.trials:
        publish(record, trial.trial_id, episodes=10, score=0.5)
    assert scheduler.choose_trial_to_run(runner) is runner.trials[0]
    assert (record.boundary, asked) == (10, 2 * runner.trials)


def test_worst_goes_on_from_best_with_settings_that_differ(tmp_path):
    record, scheduler, runner = population(tmp_path, [0.1, 0.9, -0.5, 0.3])
    assert scheduler.choose_trial_to_run(runner) is runner.trials[0]
    (exploit,) = record.exploits
    assert (exploit.trial_id, exploit.source, exploit.episodes) == ("00002", "00001", 10)
    assert (newest(record, "00002") / "weights").read_text() == "00001"
    assert runner.trials[2].config == {"run": 1, "overrides": exploit.overrides}
    assert exploit.overrides != START
    assert record.trials[2].drawn == START, "what was drawn stays what it was"
    assert record.trials[2].overrides == exploit.overrides
    assert [runner.trials[i].config["overrides"] for i in (0, 1, 3)] == [START] * 3


def test_copy_keeps_what_is_the_members_own(tmp_path):
    record, _, _ = population(tmp_path, [0.1, 0.9])
    target = TrialCheckpoints(tmp_path / "trial_00000")
    publish(record, "00000", episodes=12, score=0.2, best=0.4)
    copy_checkpoint(newest(record, "00001"), target)
    copy = newest(record, "00000")
    state, meta = (json.loads((copy / f).read_text()) for f in ("run_state.json", "checkpoint_meta.json"))
    assert (state["best"], state["iteration"], state["time_total_s"]) == (0.4, 12, 12)
    assert state["last_metrics"] == {"search_score": 0.9}
    assert (meta["is_best"], meta["copied_from"]) == (False, "trial_00001/checkpoint_000000")
    assert copy.name == "checkpoint_000002"
    assert find_damage(copy) == []


@pytest.mark.parametrize(("count", "quantile", "exploited"), [(2, 0.25, 1), (3, 0.25, 1), (4, 0.5, 2), (8, 0.3, 3)])
def test_as_many_as_tune_would_exchange_are_exchanged(tmp_path, count, quantile, exploited):
    record, scheduler, runner = population(tmp_path, [float(i) for i in range(count)], quantile_fraction=quantile)
    scheduler.choose_trial_to_run(runner)
    assert [e.trial_id for e in record.exploits] == [f"{i:05d}" for i in range(exploited)]
    assert {int(e.source) for e in record.exploits} <= set(range(count - exploited, count))


def test_member_without_a_score_counts_as_the_worst(tmp_path):
    record, scheduler, runner = population(tmp_path, [0.1, None, 0.2, 0.3])
    scheduler.choose_trial_to_run(runner)
    assert [exploit.trial_id for exploit in record.exploits] == ["00001"]
    assert SearchRecord.read(tmp_path).exploits == record.exploits


def test_members_wait_for_the_slowest(tmp_path):
    record, scheduler, runner = population(tmp_path, [0.1, 0.9, 0.5])
    publish(record, "00002", episodes=9, score=0.5)  # a save at the boundary has failed
    assert scheduler.choose_trial_to_run(runner) is runner.trials[2]
    assert record.exploits == []
    runner.trials[2].status = "RUNNING"
    assert scheduler.choose_trial_to_run(runner) is None
    assert scheduler.on_trial_result(runner, runner.trials[2], {"episodes": 9}) == "CONTINUE"
    assert scheduler.on_trial_result(runner, runner.trials[2], {"episodes": 11}) == "PAUSE"
    publish(record, "00002", episodes=11, score=-0.5)
    runner.trials[2].status = "PAUSED"
    scheduler.choose_trial_to_run(runner)
    assert [exploit.trial_id for exploit in record.exploits] == ["00002"]
    assert scheduler.boundary == 20


def test_no_more_members_train_at_once_than_may(tmp_path):
    _, scheduler, runner = population(tmp_path, [0.1, 0.9, 0.5], max_concurrent=2)
    for expected in (0, 1):
        chosen = scheduler.choose_trial_to_run(runner)
        assert chosen is runner.trials[expected]
        chosen.status = "RUNNING"
    assert scheduler.choose_trial_to_run(runner) is None


def test_members_that_have_ended_are_neither_waited_for_nor_exchanged(tmp_path):
    record, scheduler, runner = population(tmp_path, [-9.0, 0.9, 0.5])
    runner.trials[0].status = "ERROR"
    scheduler.choose_trial_to_run(runner)
    assert [exploit.trial_id for exploit in record.exploits] == ["00002"]


def test_decision_is_the_same_whenever_it_is_made(tmp_path):
    found = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        record, scheduler, runner = population(tmp_path / name, [0.1, 0.9, -0.5, 0.3])
        scheduler.choose_trial_to_run(runner)
        found.append(record.exploits)
    assert found[0] == found[1]


def test_copies_that_a_kill_has_prevented_are_made_up_for_once(tmp_path, monkeypatch):
    _, scheduler, runner = population(tmp_path, [0.1, 0.9, -0.5, 0.3], quantile_fraction=0.5)
    with monkeypatch.context() as patch:
        patch.setattr(
            "experiments.search.population.apply_exploits", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            scheduler.choose_trial_to_run(runner)
    again = SearchRecord.read(tmp_path)
    assert again.num_pending == 2
    copy_checkpoint(
        newest(again, again.exploits[0].source), TrialCheckpoints(tmp_path / f"trial_{again.exploits[0].trial_id}")
    )
    apply_exploits(again)
    apply_exploits(SearchRecord.read(tmp_path))
    for exploit in again.exploits:
        folder = tmp_path / f"trial_{exploit.trial_id}"
        assert [p.name for p in TrialCheckpoints(folder).published()] == ["checkpoint_000000", exploit.checkpoint]


def test_damaged_source_is_not_copied(tmp_path, capsys):
    record, scheduler, runner = population(tmp_path, [0.1, 0.9])
    (newest(record, "00001") / "weights").write_text("other")
    scheduler.choose_trial_to_run(runner)
    assert "is damaged, weights" in capsys.readouterr().out
    assert (newest(record, "00000") / "weights").read_text() == "00000"


@pytest.fixture
def mirror(tmp_path):
    """Of a search on this machine, whose folder is ``first/search``."""
    folder = tmp_path / "first" / "search"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return Mirror(f"file://{tmp_path}/store/search", folder, patience_s=0)


def refuse(*_):
    """What a store does that does not answer."""
    raise OSError("no answer")


def stored_population(mirror, scores=(0.1, 0.9, -0.5, 0.3)):
    """A population of which the store holds all, and which is about to be compared."""
    record, scheduler, runner = population(mirror.folder, scores, mirror=mirror)
    for trial in record.trials:
        mirror.push_checkpoint(newest(record, trial.trial_id))
    mirror.push_files()
    return record, scheduler, runner


def elsewhere(mirror, tmp_path):
    """The record of another machine, which goes on from what the store holds."""
    other = Mirror(mirror.address, tmp_path / "second" / "search", patience_s=0)
    other.pull(pytest.fail)
    record = SearchRecord.read(other.folder)
    reconcile(record, mirror=other)
    return record


def weights(record, trial_id):
    return (newest(record, trial_id) / "weights").read_text()


def test_exchange_outlives_the_machine(mirror, tmp_path):
    record, scheduler, runner = stored_population(mirror)
    scheduler.choose_trial_to_run(runner)
    mirror.push_files()  # as the next save of any member does
    again = elsewhere(mirror, tmp_path)
    assert (again.num_pending, again.exploits) == (0, record.exploits)
    assert again.trials[2].overrides == record.exploits[0].overrides
    assert weights(again, "00002") == "00001"


def test_exchange_is_in_the_store_before_its_copies(mirror, tmp_path, monkeypatch):
    record, scheduler, runner = stored_population(mirror)

    def push_and_die(self, checkpoint, real=Mirror.push_checkpoint):
        real(self, checkpoint)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Mirror, "push_checkpoint", push_and_die)
        with pytest.raises(KeyboardInterrupt):
            scheduler.choose_trial_to_run(runner)
    again = elsewhere(mirror, tmp_path)
    assert (again.boundary, again.exploits) == (10, record.exploits), "a copy is not compared as its member's own"
    assert [path.name for path in TrialCheckpoints(again.folder / "trial_00002").published()] == ["checkpoint_000001"]


@pytest.fixture
def unstored(mirror, monkeypatch, capsys):
    """A population that has been compared while the store took no checkpoints; it takes them again."""
    record, scheduler, runner = stored_population(mirror)

    with monkeypatch.context() as patch:
        patch.setattr(Mirror, "push_checkpoint", refuse)
        assert scheduler.choose_trial_to_run(runner) is runner.trials[0], "training goes on"
    assert "not brought to the store (no answer); training goes on" in capsys.readouterr().err
    assert weights(record, "00002") == "00001"
    return record, scheduler, runner


def train(record, *, episodes, scores):
    """Let all members come to the next comparison, and keep no older checkpoint."""
    for trial, score in zip(record.trials, scores, strict=True):
        publish(record, trial.trial_id, episodes=episodes, score=score, extra=f"{trial.trial_id} at {episodes}")
        TrialCheckpoints(record.folder / trial.folder_name).prune(1)


@pytest.mark.parametrize("has_source_gone_on", [False, True])
def test_copies_that_the_store_lacks_are_made_up_for_on_another_machine(unstored, mirror, tmp_path, has_source_gone_on):
    record, _, _ = unstored
    mirror.push_files()
    if has_source_gone_on:
        mirror.push_checkpoint(publish(record, "00001", episodes=15, score=0.8, extra="later"))
    for _ in range(2):
        again = elsewhere(mirror, tmp_path)
        assert (again.num_pending, weights(again, "00002")) == (0, "00001")
        assert newest(again, "00002").name == "checkpoint_000001", "they are made once"


def test_copies_that_the_store_lacks_are_made_up_for_at_the_next_comparison(unstored, mirror, tmp_path):
    record, scheduler, runner = unstored
    assert SearchRecord.read(mirror.folder).num_pending == 1
    train(record, episodes=20, scores=[-0.5, 0.9, 0.5, 0.3])
    scheduler.choose_trial_to_run(runner)
    assert [exploit.trial_id for exploit in record.exploits] == ["00002", "00000"]
    assert weights(record, "00002") == "00002 at 20", "what it has trained since stays"
    mirror.push_files()
    again = elsewhere(mirror, tmp_path)
    assert again.num_pending == 0
    assert (weights(again, "00002"), weights(again, "00000")) == ("00002 at 20", "00001 at 20")


def test_source_that_a_silent_store_has_is_waited_for(unstored, mirror, tmp_path, monkeypatch):
    record, _, _ = unstored
    mirror.push_files()
    mirror.push_checkpoint(publish(record, "00001", episodes=15, score=0.8))

    with monkeypatch.context() as patch:
        patch.setattr(Mirror, "fetch", refuse)
        with pytest.raises(InputError, match="store/search cannot be read: no answer"):
            elsewhere(mirror, tmp_path)
    assert weights(elsewhere(mirror, tmp_path), "00002") == "00001"


def test_signal_ends_members_that_wait_once_none_trains(tmp_path):
    _, scheduler, runner = population(tmp_path, [0.1, 0.9])
    (tmp_path / "stop_requested").touch()
    runner.trials[0].status = "RUNNING"
    assert scheduler.choose_trial_to_run(runner) is None
    assert runner.stopped == []
    runner.trials[0].status = "TERMINATED"
    assert scheduler.choose_trial_to_run(runner) is None
    assert runner.stopped == ["00001"]


def test_settings_stay_in_their_domains():
    rng, overrides, seen = np.random.default_rng(0), dict(START), set()
    for _ in range(300):
        overrides = explore(overrides, SPACE, rng, resample_probability=0.1)
        assert 1e-4 <= overrides["lr"] <= 1e-1
        assert overrides["clip"] in (0.1, 0.2, 0.3)
        assert overrides["n"] in range(1, 9)
        assert [type(value) for value in overrides.values()] == [float, float, int]
        seen.add(overrides["clip"])
    assert seen == {0.1, 0.2, 0.3}


def test_without_resampling_a_number_moves_by_a_factor_and_a_choice_to_its_neighbour():
    changed = explore(START, SPACE, np.random.default_rng(0), resample_probability=0)
    assert changed["lr"] / START["lr"] in (pytest.approx(0.8), pytest.approx(1.2))
    assert changed["clip"] in (0.1, 0.3)
    assert changed["n"] in (4, 6)


@pytest.mark.parametrize("algo", sorted(algorithms()))
def test_population_perturbs_nothing_that_shapes_the_networks(algo):
    space = search_space(algo, fixed=(), network="mlp", is_population=True)
    assert not set(space) & {"qmix.mixing_embed_dim", "qmix.dueling"}
    assert any(name.endswith("lr") for name in space)

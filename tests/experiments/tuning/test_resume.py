"""What may change when a run or a search is carried on, and what it is carried on from."""

import shutil
from dataclasses import replace

import pytest
from sample_runs import SMALL, make_run

from common.errors import InputError
from common.manifests import find_damage
from experiments.command_line import exit_code
from experiments.recovery.names import SEARCH_FILE
from experiments.run import run as start
from experiments.runs.folders import has_begun
from experiments.runs.record import name_of_run, read_run_record, write_run_record
from experiments.runs.repair import check_checkpoints
from experiments.runs.run import Run, find_run
from experiments.runs.summary import write_summary
from experiments.search.record import SearchRecord, TrialRecord
from experiments.settings.run_config import config_to_json
from experiments.tuning import resume


def folder_at(config):
    return Run.of(config).folder


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "dow")


def asked(run, **by_hand):
    words = ["--storage", run.storage, "--name", run.name]
    for name, value in by_hand.items():
        words += [
            f"--{name.replace('__', '.').replace('_', '-')}",
            *map(str, value if isinstance(value, list) else [value]),
        ]
    return find_run(words)


@pytest.mark.parametrize(
    "changes",
    [
        {"episodes": 999},
        {"checkpoint_interval": 3},
        {"evaluation_interval": 3},
        {"capital": 5e6},
        {"keep": 9},
        {"scaling__num_env_runners": 3},
        {"scaling__num_gpus_per_learner": 0},
        {"scaling__floor_device": "cpu"},
        {"qmix__lr": 5e-4},
        {"desk__ladder": [-1, -0.5, 0, 0.5, 1]},
    ],
)
def test_target_intervals_and_capital_may_change_and_the_rest_may_be_repeated(run, changes):
    resume.check_changes(asked(run, **changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"qmix__lr": 0.1}, "--qmix.lr was 0.0005 and is now 0.1"),
        ({"seed": 3}, "--seed was 0 and is now 3"),
        ({"desk__ladder": [0, 1]}, r"--desk.ladder was \[.*\] and is now \[0.0, 1.0\]"),
        ({"search__num_trials": 3}, "--search.num-trials was 0 and is now 3"),
        ({"desk__num_agents": 2}, "--desk.num-agents was .* and is now 2"),
        ({"qmix__hidden": 32}, r"--qmix.hidden was \[.*\] and is now \[32\]"),
        ({"seed": 9, "algo": "vdn"}, "--seed was 0 and is now 9; --algo was qmix and is now vdn"),
    ],
)
def test_other_changes_are_refused_with_what_was_and_what_is(run, changes, words):
    with pytest.raises(InputError, match=words) as caught:
        resume.check_changes(asked(run, **changes))
    for way in ("--load-model", "--branch-from"):
        assert f"{way} {folder_at(run)} --name NEW" in str(caught.value)


def test_what_only_training_could_use_is_refused_where_all_is_done(run):
    for same in ({"keep": run.keep}, {"episodes": 1}, {"json": "out.json"}, {}):
        resume.check_of_use(asked(run, **same))
    for changes, words in [
        ({"keep": 1}, r"so --keep was 5 and is now 1 has no effect: raise --episodes as well, or delete .* --keep 1"),
        ({"floor__capital": 7.0}, r"--floor.capital was .* is now 7.0 has no effect: raise .*, or backtest with it: "),
        ({"scaling__num_env_runners": 2}, r"--scaling.num-env-runners was 0 and is now 2 has no effect: raise --ep"),
    ]:
        with pytest.raises(InputError, match=words):
            resume.check_of_use(asked(run, **changes))


@pytest.fixture
def search(tmp_path):
    """A search of four trials, of which three have begun."""
    config = make_run(tmp_path / "found", SMALL | {"search": {"num_trials": 4}})
    begin(config, 3)
    return config


def begin(config, count):
    record = SearchRecord(folder_at(config))
    record.trials = [TrialRecord(f"{i:05d}", {}, {}) for i in range(count)]
    record.save()


def test_search_of_which_no_checkpoint_has_come_keeps_its_plan(search):
    for path in folder_at(search).glob("checkpoint_*"):
        shutil.rmtree(path)
    (folder_at(search) / "summary.json").unlink()
    assert not has_begun(folder_at(search))
    with pytest.raises(InputError, match="--seed was 0 and is now 3"):
        resume.check_changes(asked(search, seed=3))


def test_search_is_not_told_to_branch(search):
    with pytest.raises(InputError, match="another search: with another --name, or a run: --load-model") as caught:
        resume.check_changes(asked(search, keep=9))
    assert "--branch-from" not in str(caught.value)


def test_search_keeps_the_weights_that_its_trials_start_from(search, tmp_path):
    other = folder_at(make_run(tmp_path / "other"))
    with pytest.raises(InputError, match=f"--load-model was None and is now {other}"):
        resume.check_changes(asked(search, load_model=str(other)))


@pytest.mark.parametrize("num_trials", [3, 4, 8])
def test_search_may_be_given_as_many_trials_as_have_begun_or_more(search, num_trials):
    resume.check_changes(asked(search, search__num_trials=num_trials))


def test_search_is_not_given_fewer_trials_than_have_begun(search):
    for damage in (False, True):
        if damage:  # their folders tell
            (folder_at(search) / SEARCH_FILE).write_text("[]")
            for i in range(3):
                (folder_at(search) / f"trial_0000{i}").mkdir()
        with pytest.raises(
            InputError, match=r"--search.num-trials is 2, but 3 trials of .*found have begun: ask for 3"
        ):
            resume.check_changes(asked(search, search__num_trials=2))
    assert (folder_at(search) / SEARCH_FILE).read_text() == "[]", "nothing is touched"


def test_population_keeps_its_size_once_it_has_begun(tmp_path):
    config = make_run(tmp_path / "found", SMALL | {"search": {"num_trials": 4, "scheduler": "pbt"}})
    resume.check_changes(asked(config, search__num_trials=6))
    begin(config, 4)
    resume.check_changes(asked(config, search__num_trials=4))
    for num_trials in (3, 6):
        with pytest.raises(InputError, match="is a population of 4, which newcomers cannot join"):
            resume.check_changes(asked(config, search__num_trials=num_trials))


def test_search_is_complete_when_it_has_the_trials_that_are_asked_for(search):
    folder = folder_at(search)
    for status, begun, answer in [("complete", 4, True), ("complete", 3, False), ("running", 4, False)]:
        write_summary(folder, {"status": status, "episodes": 9999})
        begin(search, begun)
        assert resume.is_complete(Run.of(search)) is answer


@pytest.mark.parametrize("words", [[], ["--search.num-trials", "6"]])
def test_search_that_is_carried_on_keeps_its_checkpoint_metric(search, monkeypatch, words):
    seen = []
    monkeypatch.setattr("experiments.search.search.search", lambda run, market: seen.append(run.config) or 0)
    config = replace(search, checkpoint_metric="turnover", checkpoint_mode="min")
    record = read_run_record(folder_at(config))
    write_run_record(**{**vars(record), "folder": record.folder, "config": config_to_json(config)})
    assert start(["--storage", config.storage, "--name", config.name, *words]) == 0
    assert (seen[0].checkpoint_metric, seen[0].checkpoint_mode) == ("turnover", "min")


def test_complete_means_that_nothing_is_left_to_train(run):
    folder = folder_at(run)
    for status, episodes, answer in [("complete", 400, True), ("complete", 399, False), ("running", 400, False)]:
        write_summary(folder, {"status": status, "episodes": episodes})
        assert resume.is_complete(Run.of(run)) is answer


def test_named_checkpoint_is_recorded_relative_to_its_run(run):
    folder = folder_at(run)
    found = resume.named_checkpoint(Run.of(replace(run, resume=str(folder / "checkpoint_000001"))))
    again = resume.named_checkpoint(Run.of(replace(run, resume=str(folder / "checkpoint_000001"))))
    assert found["checkpoint"] == "checkpoint_000001"
    assert found != again, "naming it once more goes back to it once more"
    for word in ("auto", "never", str(folder)):
        assert resume.named_checkpoint(Run.of(replace(run, resume=word))) is None


def test_same_command_again_does_not_go_back_once_more_before_the_run_is_complete(run, capsys):
    folder = folder_at(run)
    named = replace(run, resume=str(folder / "checkpoint_000001"))
    record = read_run_record(folder)
    for status, is_there in (("running", True), ("interrupted", False)):
        before = resume.named_checkpoint(Run.of(named))
        assert before is not None
        write_run_record(**{**vars(record), "resume_from": before})
        write_summary(folder, {"status": status})
        if not is_there:  # retention has deleted it meanwhile
            (folder / "checkpoint_000001").rename(folder / "aside")
        assert resume.named_checkpoint(Run.of(named)) is None
        assert "was gone back to before: carrying on from what has followed it" in capsys.readouterr().out
        if not is_there:
            (folder / "aside").rename(folder / "checkpoint_000001")
        write_summary(folder, {"status": "complete"})


def test_named_checkpoint_that_is_damaged_is_refused(run):
    checkpoint = folder_at(run) / "checkpoint_000001"
    (checkpoint / "checkpoint_meta.json").write_text("{}")
    with pytest.raises(InputError, match=r"is damaged, checkpoint_meta.json: has 2 bytes .*: name another"):
        resume.named_checkpoint(Run.of(replace(run, resume=str(checkpoint))))


def test_naming_the_run_folder_is_asking_for_nothing_special(run):
    folder = folder_at(run)
    assert [Run.of(replace(run, resume=word)).is_automatic for word in ("auto", "never", str(folder))] == [
        True,
        False,
        True,
    ]
    assert not Run.of(replace(run, resume=str(folder / "checkpoint_000001"))).is_automatic
    words = ["--resume", str(folder), "--keep", "1"]
    write_summary(folder, {"status": "complete", "episodes": 9999})
    assert exit_code(start, words) == 2


def test_default_names_are_as_sources_are_spelled(run, tmp_path):
    (tmp_path / "latest").symlink_to(folder_at(run))
    for flag, name in (("--load-model", "from-latest"), ("--branch-from", "branch-of-latest")):
        assert find_run(["--storage", str(tmp_path / "new"), flag, str(tmp_path / "latest")]).config.name == name
    for address in ("s3://bucket/results/dow?endpoint_override=host:9000", "s3://b/dow/trial_0/checkpoint_000001"):
        assert name_of_run(address) == "dow", "nobody is asked"


def test_run_outlives_what_its_weights_came_from(run, tmp_path):
    source, words = tmp_path / "source" / "trial_0" / "checkpoint_000001", ["--storage", run.storage]
    made = replace(make_run(tmp_path / "from-source", SMALL | {"load_model": str(source), "seed": 7}))
    for named in (["--name", made.name], []):
        found = find_run([*words, *named, "--load-model", str(source)])
        assert (found.config.name, found.config.seed) == ("from-source", 7)
        resume.check_changes(found)
    with pytest.raises(InputError, match="does not exist"):
        find_run([*words, "--name", "new", "--load-model", str(source)])


def test_branch_of_a_name_that_nothing_has_come_of_takes_over_all_of_its_parent(run, tmp_path):
    parent = folder_at(make_run(tmp_path / "parent", SMALL | {"qmix": {"lr": 1e-4}}))
    for path in folder_at(run).glob("checkpoint_*"):
        shutil.rmtree(path)
    (folder_at(run) / "summary.json").unlink()
    words = ["--storage", run.storage, "--name", run.name]
    assert find_run([*words, "--branch-from", str(parent)]).config.qmix.lr == 1e-4
    assert find_run(words).config.qmix.lr == run.qmix.lr


def test_named_checkpoint_of_another_run_is_refused(run, tmp_path):
    other = make_run(tmp_path / "other")
    with pytest.raises(InputError, match=r"names a checkpoint of .*dow, but the run is .*other"):
        resume.named_checkpoint(Run.of(replace(other, resume=str(folder_at(run) / "checkpoint_000001"))))


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """A run in a store, which here is a folder, and the address of one of its checkpoints."""
    monkeypatch.setenv("TRADING_FLOOR_WORK", str(tmp_path / "work"))
    run = replace(make_run(tmp_path / "dow"), storage=f"file://{tmp_path}/store")
    mirror = Run.of(run).mirror
    for path in (tmp_path / "dow").glob("checkpoint_*"):
        shutil.move(path, tmp_path / "dow" / "trial_0" / path.name)
    shutil.copytree(tmp_path / "dow", mirror.folder)
    write_summary(mirror.folder, {"status": "running", "latest_checkpoint": "trial_0/checkpoint_000003"})
    record = read_run_record(mirror.folder)
    write_run_record(**{**vars(record), "config": config_to_json(run)})
    mirror.push_files()
    for path in sorted(mirror.folder.glob("trial_0/checkpoint_*")):
        mirror.push_checkpoint(path)
    return mirror, f"{mirror.address}/trial_0/checkpoint_000001"


def test_same_command_again_goes_on_where_the_named_checkpoint_is_in_a_store(stored, capsys):
    mirror, named = stored
    found = find_run(["--resume", named])
    assert (found.config.storage, found.config.name) == (mirror.address.removesuffix("/dow"), "dow")
    before = resume.named_checkpoint(found)
    assert before["checkpoint"] == "trial_0/checkpoint_000001"
    write_run_record(**{**vars(read_run_record(mirror.folder)), "resume_from": before})
    mirror.push_files()
    for is_there in (True, False):  # at last retention has deleted it, here and in the store
        if not is_there:
            shutil.rmtree(mirror.folder / before["checkpoint"])
            mirror.store.delete_all(before["checkpoint"])
        assert resume.named_checkpoint(find_run(["--resume", named])) is None
        assert "was gone back to before" in capsys.readouterr().out
    assert resume.named_checkpoint(find_run(["--resume", mirror.address])) is None, "the run itself"


def test_named_checkpoint_in_a_store_is_brought_to_another_machine_until_one_follows_it(stored, tmp_path, monkeypatch):
    mirror, named = stored
    before = resume.named_checkpoint(find_run(["--resume", named]))
    write_run_record(**{**vars(read_run_record(mirror.folder)), "resume_from": before})
    mirror.push_files()
    monkeypatch.setenv("TRADING_FLOOR_WORK", str(tmp_path / "other"))
    for words in (["--resume", named], ["--storage", mirror.address.removesuffix("/dow"), "--name", "dow"]):
        found = find_run(words)
        there = found.folder / before["checkpoint"]
        assert find_damage(there) == []
        (there / "checkpoint_meta.json").write_text("{}")
        said = check_checkpoints(found.folder, mirror=found.mirror)
        assert find_damage(there) == []
        assert f"{there.name} is brought back from {mirror.address}, where it is whole" in said
        assert (there.with_name(f"damaged-{there.name}") / "checkpoint_meta.json").read_text() == "{}"
        shutil.rmtree(tmp_path / "other")


def test_run_of_a_named_checkpoint_is_found_when_that_is_gone(run):
    named = folder_at(run) / "checkpoint_000001"
    shutil.rmtree(named)
    found = find_run(["--resume", str(named)])
    assert found.folder == folder_at(run)
    with pytest.raises(InputError, match="checkpoint_000001 does not exist"):
        resume.named_checkpoint(found)
    with pytest.raises(InputError, match="nowhere does not exist"):
        find_run(["--resume", str(named.parents[1] / "nowhere")])


@pytest.mark.parametrize("spelled", ["{}/../dow/checkpoint_000001", "{}/trial/checkpoint_000001"])
def test_named_checkpoint_is_the_same_however_it_is_spelled(run, spelled):
    folder = folder_at(run)
    (folder / "trial").symlink_to(folder)
    record = read_run_record(folder)
    before = resume.named_checkpoint(Run.of(replace(run, resume=str(folder / "checkpoint_000001"))))
    write_run_record(**{**vars(record), "resume_from": before})
    write_summary(folder, {"status": "running"})
    assert resume.named_checkpoint(Run.of(replace(run, resume=spelled.format(folder)))) is None

import json

import pytest
from sample_runs import make_run

from common.errors import InputError
from experiments.runs.models import find_model
from experiments.runs.record import find_run_folder, read_run_record
from experiments.runs.run import Run


@pytest.fixture
def folder(tmp_path):
    return Run.of(make_run(tmp_path / "dow")).folder


def foreign(path, content='{"format": 3, "model_type": "bert"}'):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def test_run_is_found_from_itself_its_trial_and_its_checkpoint(folder):
    checkpoint = folder / "trial_0" / "checkpoint_000000"
    checkpoint.mkdir(parents=True)
    for path in (folder, folder / "trial_0", checkpoint, folder / "checkpoint_000001"):
        assert find_run_folder(path) == folder


def test_config_of_another_program_in_between_is_passed_over(folder):
    checkpoint = folder / "trial_0" / "checkpoint_000000"
    foreign(checkpoint / "config.json")
    foreign(folder / "trial_0" / "config.json", "[]")
    assert find_run_folder(checkpoint) == folder


@pytest.mark.parametrize("content", ['{"format": 3, "model_type": "bert"}', "[]", "{}", '{"config": {}}'])
def test_config_of_another_program_is_no_run(tmp_path, content):
    foreign(tmp_path / "config.json", content)
    (tmp_path / "below").mkdir()
    for path in (tmp_path, tmp_path / "below"):
        with pytest.raises(
            InputError, match=r"is neither a run folder .*config.json was not written by a run$"
        ) as caught:
            find_run_folder(path)
        assert "\n" not in str(caught.value)


def test_run_is_not_looked_for_above_where_its_checkpoints_lie(folder):
    deep = folder / "trial_0" / "checkpoint_000000" / "learner_group"
    deep.mkdir(parents=True)
    with pytest.raises(InputError, match=r"is neither a run folder .*no config.json in it or in the folders of"):
        find_run_folder(deep)


def test_run_whose_record_is_torn_is_called_damaged(folder):
    (folder / "config.json").write_text('{"format": 1, "con')
    for path in (folder, folder / "checkpoint_000001"):
        with pytest.raises(InputError, match=r"config.json is damaged: not JSON at line 1"):
            find_run_folder(path)


def test_run_of_another_format_is_said_to_be_one(folder):
    record = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(record | {"format": 99}))
    with pytest.raises(InputError, match="has format 99, but this version reads format 2"):
        find_model(folder)


def test_record_of_iql_is_read_under_todays_names(folder):
    content = json.loads((folder / "config.json").read_text())
    own = content["config"].pop("indq")
    content["config"] |= {"algo": "iql", "qmix": content["config"]["qmix"] | own | {"lr": 0.1}}
    content["drawn_names"] = ["qmix.lr", "qmix.dueling"]
    (folder / "config.json").write_text(json.dumps(content | {"format": 1}))  # which has no checksum
    record = read_run_record(folder)
    assert (record.config["algo"], record.config["indq"]["lr"]) == ("indq", 0.1)
    assert record.drawn_names == ["indq.lr", "indq.dueling"]


@pytest.mark.parametrize("key", ["scaler", "config", "provenance"])
def test_record_that_was_changed_since_is_refused(folder, key):
    content = json.loads((folder / "config.json").read_text())
    assert read_run_record(folder)
    content[key] = {"mean": [1.0], "std": [1000.0]} if key != "config" else {**content["config"], "seed": 7}
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"config\.json is not what was written: .* \(SHA-256 differs\)"):
        read_run_record(folder)


@pytest.mark.parametrize(
    ("key", "value"), [("agents", [3]), ("branch_of", ["x"]), ("scaler", []), ("resume_from", ["x"])]
)
def test_record_of_other_kinds_is_damaged(folder, key, value):
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, key: value, "format": 1}))
    with pytest.raises(InputError, match=rf"config\.json is damaged: its {key} "):
        read_run_record(folder)


@pytest.mark.parametrize("resumes", [3, [3], {"a": 1}])
def test_record_whose_resumes_are_none_is_damaged(folder, resumes):
    content = json.loads((folder / "config.json").read_text())
    content["provenance"]["resumes"] = resumes
    (folder / "config.json").write_text(json.dumps({**content, "format": 1}))
    with pytest.raises(InputError, match=r"config\.json is damaged: its resumes are not described"):
        read_run_record(folder)


def test_record_may_be_written_in_other_words(folder):
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(dict(reversed(content.items()))))
    assert read_run_record(folder)

import csv
import json

import pytest

from experiments.recovery.records import saved_after, truncate_records


def line(iteration, value=0.0):
    return json.dumps({"training_iteration": iteration, "value": value})


@pytest.fixture
def trial(tmp_path):
    """Iterations 1 to 5; 3 stands twice, as after a resume, and the last line is cut."""
    lines = [line(1), line(2), line(3, 0.0), line(3, 1.0), line(4), line(5)]
    (tmp_path / "result.json").write_text("\n".join(lines) + "\n" + line(6)[:9])
    rows = ["training_iteration,value", "1,0", "2,0", "3,0", "3,1", "4,0", "5,0", "6"]
    (tmp_path / "progress.csv").write_text("\n".join(rows))
    return tmp_path


def results(trial):
    return [json.loads(text) for text in (trial / "result.json").read_text().splitlines()]


def test_each_iteration_stands_once_and_the_later_one_counts(trial):
    truncate_records(trial, 4)
    assert [(r["training_iteration"], r["value"]) for r in results(trial)] == [(1, 0), (2, 0), (3, 1), (4, 0)]
    with (trial / "progress.csv").open() as file:
        assert list(csv.reader(file))[1:] == [["1", "0"], ["2", "0"], ["3", "1"], ["4", "0"]]


def test_what_is_written_next_begins_on_a_line_of_its_own(trial):
    truncate_records(trial, 9)
    with (trial / "result.json").open("a") as file:
        file.write(line(6) + "\n")
    assert [r["training_iteration"] for r in results(trial)] == [1, 2, 3, 4, 5, 6]


def test_nothing_is_left_of_a_run_without_a_checkpoint(trial):
    truncate_records(trial, 0)
    assert results(trial) == []
    assert (trial / "progress.csv").read_text() == "training_iteration,value\n"


def test_doing_it_again_changes_nothing(trial):
    truncate_records(trial, 4)
    before = (trial / "result.json").read_bytes(), (trial / "progress.csv").read_bytes()
    truncate_records(trial, 4)
    assert ((trial / "result.json").read_bytes(), (trial / "progress.csv").read_bytes()) == before


def test_records_that_are_missing_empty_or_no_records_are_fine(tmp_path):
    truncate_records(tmp_path, 3)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "result.json").write_text("")
    (tmp_path / "progress.csv").write_text("")
    truncate_records(tmp_path, 3)
    assert results(tmp_path) == []
    (tmp_path / "result.json").write_text('[]\n{"other": 1}\n\x00\x00\n')
    truncate_records(tmp_path, 3)
    assert results(tmp_path) == []


def changed(content, start, end):
    """The content with the highest bit set in each byte of a line in turn, and with a quote at its beginning."""
    yield from (content[:at] + bytes([content[at] | 0x80]) + content[at + 1 :] for at in range(start, end))
    yield content[:start] + b'"' + content[start + 1 :]


def test_line_that_has_changed_on_the_disk_goes_and_no_other(trial):
    truncate_records(trial, 4)
    whole = (trial / "result.json").read_bytes()
    start = whole.index(b"\n") + 1  # of the line of the second iteration
    end = whole.index(b"\n", start)
    for content in changed(whole, start, end):
        (trial / "result.json").write_bytes(content)
        truncate_records(trial, 4)
        assert (trial / "result.json").read_bytes() == whole[:start] + whole[end + 1 :]


def test_row_that_has_changed_on_the_disk_is_made_up_for(trial):
    truncate_records(trial, 4)
    whole = (trial / "progress.csv").read_bytes()
    start = whole.index(b"\n") + 1  # of the row of the first iteration
    for content in changed(whole, start, whole.index(b"\n", start)):
        (trial / "progress.csv").write_bytes(content)
        truncate_records(trial, 4)
        assert (trial / "progress.csv").read_text() == "training_iteration,value\n1,0.0\n2,0\n3,1\n4,0\n"


@pytest.mark.parametrize(
    "damage",
    [lambda table: b"\xf4" + table[1:], lambda table: table.replace(b"\n", b"", 1), lambda table: b""],
    ids=["a byte of its header", "the end of its header", "all of it"],
)
def test_table_without_a_header_is_set_aside_and_written_anew(trial, damage):
    damaged = damage((trial / "progress.csv").read_bytes())
    (trial / "progress.csv").write_bytes(damaged)
    for _ in range(2):
        truncate_records(trial, 4)
        with (trial / "progress.csv").open() as file:
            assert [row["training_iteration"] for row in csv.DictReader(file)] == ["1", "2", "3", "4"]
    aside = [path.read_bytes() for path in trial.glob("damaged-*")]
    assert aside == ([damaged] if damaged else [])


def test_replacement_that_is_cut_short_keeps_the_old_records(trial, monkeypatch):
    def killed(*args):
        raise KeyboardInterrupt

    before = (trial / "result.json").read_bytes()
    monkeypatch.setattr("common.files.os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        truncate_records(trial, 2)
    assert (trial / "result.json").read_bytes() == before
    assert sorted(path.name for path in trial.iterdir()) == ["progress.csv", "result.json"]


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ({}, 4),
        ({5: "could not save a checkpoint (full)"}, 2),  # what was due after the fourth
        ({3: "could not save a checkpoint (full)", 5: "could not save a checkpoint (full)"}, None),
        ({4: "could not save a checkpoint (full)"}, 4),  # of another one
        ({5: "the checkpoint is not in the store yet (no answer)"}, 4),  # but here
        ({5: None}, 2),  # this line is cut
    ],
)
def test_newest_iteration_that_was_saved_is_known_from_the_records_alone(tmp_path, told, found):
    lines = [{"training_iteration": i, "should_checkpoint": i % 2 == 0} for i in range(1, 7)]
    for iteration, reason in told.items():
        lines[iteration - 1]["save_error"] = reason
    texts = [json.dumps(line)[: None if line.get("save_error", "") is not None else 9] + "\n" for line in lines]
    (tmp_path / "result.json").write_text("".join(texts))
    assert saved_after(tmp_path) == found
    (tmp_path / "save_error.txt").write_text("")
    assert saved_after(tmp_path) is None


def test_kill_while_a_table_is_written_anew_loses_no_row(trial, monkeypatch):
    damaged = b"\xf4" + (trial / "progress.csv").read_bytes()[1:]
    (trial / "progress.csv").write_bytes(damaged)

    def killed(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("experiments.recovery.records.write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            truncate_records(trial, 4)
    assert (trial / "progress.csv").read_bytes() == damaged
    truncate_records(trial, 4)
    with (trial / "progress.csv").open() as file:
        assert [row["training_iteration"] for row in csv.DictReader(file)] == ["1", "2", "3", "4"]


def test_first_row_that_a_kill_has_cut_is_no_damage(trial):
    (trial / "progress.csv").write_text("training_iteration,value\n1,0.")
    truncate_records(trial, 1)
    assert (trial / "progress.csv").read_text() == "training_iteration,value\n1,0.0\n"
    assert list(trial.glob("damaged-*")) == []

"""What is said beside BenchMARL, by drivers that stand in for it; nothing is installed here."""

import json
import subprocess
import sys

import pytest

from common.errors import InputError
from envs.benchmarks.replicas import BenchmarkReplicas
from experiments import bench
from experiments.benchmarks import benchmarl, training
from experiments.benchmarks.benchmarl import NotMeasuredError, bench_benchmarl, comparison, driver

ASKED = {**benchmarl.SHARED, **benchmarl.OWN["qmix"], "algo": "qmix", "device": "cpu", "updates_per_iteration": 8}
SPEAKS = """
import json, sys
asked = json.loads(sys.stdin.readline())
print("a library says hello")
print(json.dumps({"ready": True, "algo": asked["algo"]}), flush=True)
for line in sys.stdin:
    if int(line) > 9:
        sys.exit("KeyError: no such task")
    print(json.dumps({"frames": 256 * int(line), "wall_s": 2.0, "cpu_s": 1.0}), flush=True)
"""


COMMAND = [sys.executable, "-c", SPEAKS]


def test_driver_trains_when_it_is_told_and_ends_with_the_block(tmp_path):
    started = []
    with pytest.MonkeyPatch.context() as patch:
        real = subprocess.Popen
        patch.setattr(benchmarl.subprocess, "Popen", lambda *a, **k: started.append(real(*a, **k)) or started[-1])
        with driver(COMMAND, ASKED) as train:
            assert [train(iterations)["frames"] for iterations in (2, 1)] == [512, 256]
            assert started[0].poll() is None
    assert started[0].poll() is not None


def test_driver_that_ends_says_why_in_one_line():
    with (
        pytest.raises(NotMeasuredError, match=r"^BenchMARL ended: KeyError: no such task$"),
        driver(COMMAND, ASKED) as train,
    ):
        train(10)


def test_missing_interpreter_is_said_and_not_raised_through(tmp_path):
    command = [str(tmp_path / "python")]
    with pytest.raises(NotMeasuredError, match="BenchMARL could not be started"), driver(command, ASKED):
        pytest.fail("started")


def test_ratio_is_of_frames_by_the_clock_and_by_the_processor():
    ours = {"frames": 512, "wall_s": 1.0, "cpu_s": 0.5}
    theirs = [{"frames": 512, "wall_s": w, "cpu_s": c} for w, c in ((4.0, 2.0), (2.0, 1.0), (9.0, 1.5))]
    mine, other, ratio = comparison("qmix", ASKED, ours, theirs)
    assert (mine["frames_per_s"], other["frames_per_s"], other["frames_per_cpu_s"]) == (512, 128, 512 / 1.5)
    assert (ratio["ratio"], ratio["ratio_of_cpu"]) == (4.0, 3.0)
    assert "batch 128" in mine["settings"]
    *shared, stepped, own = other["settings"].split(", ")
    assert mine["settings"].split(", ")[: len(shared)] == shared
    assert (stepped, own) == ("replicas stepped one by one", "hypernetworks of one layer")


def ran(failing, said, calls):
    def run(command, **_):
        calls.append(command)
        fails = failing is not None and failing in command
        return subprocess.CompletedProcess(command, int(fails), "", said if fails else "")

    return run


def test_environment_is_made_once_without_torchvision(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(benchmarl.subprocess, "run", ran(None, "", calls))
    folder = tmp_path / "theirs"
    python = benchmarl.benchmarl_python(folder)
    assert [c[-1] for c in calls[1:2]] == ["torch==2.13.0"]
    assert calls[-1][-3:] == ["uninstall", "--yes", "torchvision"]
    assert benchmarl.benchmarl_python(folder) == python
    assert len(calls) == 4
    (folder / benchmarl.STAMP).write_text(json.dumps({"packages": ["benchmarl==1.4"]}))
    benchmarl.benchmarl_python(folder)
    assert len(calls) == 8


def test_failed_install_is_one_line_and_one_row_and_is_tried_again(monkeypatch, tmp_path):
    calls, said = [], "WARNING: Retrying\nERROR: No matching distribution found for torch==2.13.0\n\n"
    monkeypatch.setattr(benchmarl.subprocess, "run", ran("install", said, calls))
    for tried in (1, 2):
        (row,) = bench_benchmarl(str(tmp_path / "theirs"))
        assert row["not measured"].endswith("ERROR: No matching distribution found for torch==2.13.0")
        assert len(calls) == 2 * tried


def test_driver_that_fails_marks_its_rows_and_the_others_are_measured(monkeypatch, tmp_path):
    def compare(python, algo, asked, rounds):
        if algo == "qmix":
            raise NotMeasuredError("BenchMARL ended: why")
        return [{"what": "measured"}]

    monkeypatch.setattr(benchmarl, "benchmarl_python", lambda folder: folder)
    monkeypatch.setattr(benchmarl, "_compare", compare)
    marked = {"what": "QMIX beside BenchMARL", "not measured": "BenchMARL ended: why"}
    count = len(benchmarl.UPDATES)
    assert bench_benchmarl(str(tmp_path)) == [marked] * count + [{"what": "measured"}] * count


@pytest.mark.parametrize("algo", ["qmix", "maddpg"])
def test_ours_trains_on_the_same_task_with_the_settings_of_both(algo, ray_session):
    pytest.importorskip("mpe2")
    asked = {**ASKED, **benchmarl.OWN[algo], "updates_per_iteration": 2, "batch": 16, "frames_per_iteration": 32}
    ours = benchmarl.our_config(algo, asked).build_algo()
    ours.training_step()
    learner = ours.learner_group._learner
    assert len(ours.replay) == 32
    assert learner._num_updates == 2
    assert ours.env_runner.env.num_agents == 3
    assert ours.env_runner.env.num_replicas == asked["replicas"]
    assert isinstance(ours.env_runner.env, BenchmarkReplicas)
    ours.stop()


def test_missing_task_is_said(monkeypatch):
    def refused(config):
        raise InputError("market mpe:simple_spread needs the package mpe2")

    monkeypatch.setattr(benchmarl, "BenchmarkEnv", refused)
    with pytest.raises(NotMeasuredError, match="needs the package mpe2"):
        benchmarl.our_config("qmix", {**ASKED, **benchmarl.OWN["qmix"]})


@pytest.mark.parametrize(("words", "folder"), [([], "build/benchmarl"), (["--no-use-benchmarl"], None)])
def test_benchmarl_can_be_left_out(monkeypatch, words, folder):
    asked = []
    monkeypatch.setattr(training, "bench_training", lambda **kwargs: asked.append(kwargs) or [])
    for name in ("start_local_ray", "stop_local_ray"):  # the session that other tests share stays
        monkeypatch.setattr(f"experiments.tuning.local_ray.{name}", lambda **_: None)
    assert bench.run(["training", *words]) == 0
    assert asked[0]["benchmarl"] == folder


def test_last_line_is_the_one_that_says_something():
    assert benchmarl.last_line("a\nb \n\n") == "b"
    assert benchmarl.last_line(" \n") == "it said nothing"

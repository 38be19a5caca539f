import os
import sys

import pytest
import torch
from ray.rllib.core.learner.training_data import TrainingData
from teams import TwoStepGame, maddpg_config, qmix_config

from common.errors import InputError
from common.files import read_json
from envs.settings import DeskConfig, FloorConfig, FloorSpec
from experiments import bench
from experiments.benchmarks import checkpoint, files, games, sampling, training
from experiments.benchmarks import floor as floor_benchmark
from experiments.benchmarks.bare import bare_update
from experiments.benchmarks.timing import measure, one_core, stopwatch
from experiments.settings.run_config import RunConfig

PARTS = [
    "sampling",
    "data",
    "transfer",
    "forward",
    "backward",
    "targets",
    "optimiser",
    "rest of the update",
    "rest of the step",
]
SPEC = FloorSpec(desk=DeskConfig(num_agents=2, feature_groups=("momentum",)), floor=FloorConfig(horizon_bars=8))


def test_unknown_subject_is_named_with_what_there_is():
    with pytest.raises(InputError, match=r"'flor' cannot be measured.*'?floor'?.*sampling, training"):
        bench.run(["flor"])


def test_gpu_that_is_not_there_is_refused_before_anything_is_measured(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(bench, "_measure", lambda config: pytest.fail("measured"))
    with pytest.raises(InputError, match="--device cuda: torch sees no GPU"):
        bench.run(["floor", "--device", "cuda"])


@pytest.mark.parametrize("words", [["--rounds", "0"], ["floor", "--round", "3"], ["floor", "sampling"]])
def test_flag_that_makes_no_sense_is_refused_before_anything_is_measured(monkeypatch, words):
    monkeypatch.setattr(bench, "_measure", lambda config: pytest.fail("measured"))
    with pytest.raises((InputError, ValueError)):
        bench.run(words)


@pytest.mark.parametrize("words", [["sampling"], ["--subject", "sampling"]])
def test_subject_is_the_first_word_or_a_flag_and_json_holds_what_is_printed(monkeypatch, tmp_path, capsys, words):
    asked = []
    monkeypatch.setattr(bench, "_measure", lambda config: asked.append(config) or [{"what": "it", "ratio": 2.5}])
    assert bench.run([*words, "--rounds", "2", "--json", str(tmp_path / "bench.json")]) == 0
    assert (asked[0].subject, asked[0].rounds, asked[0].device) == ("sampling", 2, "cpu")
    assert "2.5" in capsys.readouterr().out
    expected = {"subject": "sampling", "device": "cpu", "rows": [{"what": "it", "ratio": 2.5}]}
    assert read_json(tmp_path / "bench.json") == expected


def test_neighbouring_rows_with_the_same_columns_share_a_table(monkeypatch, capsys):
    a, b, c, d = {"x": 11, "y": 12}, {"x": 13, "y": 14}, {"y": 15}, {"x": 16, "y": 17}
    monkeypatch.setattr(bench, "_measure", lambda config: [a, b, c, d])
    assert bench.run([]) == 0
    _, *lines = (line.split() for line in capsys.readouterr().out.splitlines() if line.strip(" ─"))
    assert lines == [["x", "y"], ["11", "12"], ["13", "14"], ["y"], ["15"], ["x", "y"], ["16", "17"]]


def test_calls_are_timed_in_turn_and_warm_ups_do_not_count(monkeypatch):
    now, order = [0.0], []
    clock = type("Clock", (), {"perf_counter": lambda: now[0], "process_time": lambda: now[0] / 2})
    monkeypatch.setattr("experiments.benchmarks.timing.time", clock)

    def call(name, seconds):
        def takes():
            order.append(name)
            now[0] += next(seconds)

        return takes

    calls = {"a": call("a", iter([100.0, 1.0, 2.0, 9.0])), "b": call("b", iter([100.0, 5.0, 5.0, 5.0]))}
    taken = measure(calls, rounds=3)
    assert order == ["a", "b"] * 4
    assert (taken["a"].wall_s, taken["a"].cpu_s, taken["b"].wall_s) == (2.0, 1.0, 5.0)


def test_stopwatch_adds_up_calls_and_takes_itself_off_again(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("experiments.benchmarks.timing.time", type("Clock", (), {"perf_counter": lambda: now[0]}))

    class Worker:
        def work(self, seconds):
            now[0] += seconds
            if seconds == 4.0:
                raise KeyError
            return seconds

    honest = Worker.work
    with stopwatch({"work": (Worker, "work")}) as spent:
        assert Worker().work(3.0) == 3.0
        with pytest.raises(KeyError):
            Worker().work(4.0)
    assert Worker.work is honest
    Worker().work(5.0)
    assert spent == {"work": 7.0}


def test_one_core_is_given_back_even_after_a_failure():
    torch.set_num_threads(2)
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None

    def fail_on_one_core():
        with one_core():
            assert torch.get_num_threads() == 1
            assert before is None or len(os.sched_getaffinity(0)) == 1
            raise KeyError

    with pytest.raises(KeyError):
        fail_on_one_core()
    assert torch.get_num_threads() == 2
    assert before is None or os.sched_getaffinity(0) == before
    torch.set_num_threads(1)


def test_floor_is_measured_against_the_memory(monkeypatch):
    monkeypatch.setattr(floor_benchmark, "AGENT_STEPS", 64)
    monkeypatch.setattr(floor_benchmark, "ENV_STEPS", 20)
    monkeypatch.setattr(floor_benchmark, "COPIED_BYTES", 1 << 16)
    bandwidth = floor_benchmark.copy_bandwidth(rounds=1)
    row = floor_benchmark.floor_speed(4, use_compile=False, bandwidth=bandwidth, rounds=1, spec=SPEC)
    assert (row["replicas"], row["agents"], row["assets"]) == (4, 2, 8)
    steps_per_s = row["agent_steps_per_s"] / (4 * 2)
    assert row["share_of_bandwidth_bound"] == pytest.approx(row["bytes_per_step"] * steps_per_s / bandwidth)
    env = floor_benchmark.env_speed(rounds=1, spec=SPEC)
    assert env["agent_steps_per_s"] == pytest.approx(2 * env["env_steps_per_s"])


def test_games_are_measured_both_ways_under_the_same_actions(monkeypatch):
    monkeypatch.setattr(games, "GAMES", ("mpe:simple_speaker_listener", "lbf:8x8-2p-2f-coop"))
    for name, number in (("REPLICAS", 3), ("BATCH_STEPS", 30), ("PACKAGE_STEPS", 2)):
        monkeypatch.setattr(games, name, number)
    rows = games.bench_games(rounds=1)
    assert [row["what"] for row in rows[:2]] == [
        f"mpe:simple_speaker_listener, {w}" for w in ("all at once", "one by one")
    ]
    assert [(row["replicas"], row["agents"]) for row in rows if "ratio" not in row] == [(3, 2)] * 4
    for whole, package, ratio in (rows[:3], rows[3:]):
        assert ratio["ratio"] == pytest.approx(whole["steps_per_s"] / package["steps_per_s"])


@pytest.mark.filterwarnings("ignore:.*Overriding environment")  # RLlib registers it for every runner
def test_runners_are_measured_on_the_same_floor(monkeypatch, ray_session):
    for name in ("RLLIB_ENVS", "TEAM_ENVS", "TEAM_STEPS", "RLLIB_STEPS"):
        monkeypatch.setattr(sampling, name, 2)
    team, rllib, ratio = sampling.bench_sampling(rounds=1)
    assert (team["agents"], rllib["agents"], team["replicas"]) == (5, 5, 2)
    assert ratio["ratio"] == pytest.approx(team["agent_steps_per_s"] / rllib["agent_steps_per_s"])


@pytest.mark.parametrize("algo", ["qmix", "maddpg"])
def test_parts_of_an_update_sum_to_the_whole_and_stand_beside_bare_torch(monkeypatch, ray_session, algo):
    monkeypatch.setattr(training, "UPDATE_ROUNDS", 1)
    rows = training._bench_off_policy(algo, "cpu", 1)
    parts = {row["what"].rpartition(": ")[2]: row for row in rows[1:-1]}
    assert list(parts) == PARTS
    assert sum(row["share"] for row in parts.values()) == pytest.approx(1.0)
    assert all(parts[name]["ms"] > 0 for name in PARTS if name != "targets" or algo == "maddpg")
    assert rows[0]["replicas"] == getattr(RunConfig(), algo).num_envs_per_env_runner
    assert rows[-1]["ratio"] == pytest.approx(rows[-1]["ms"] / rows[-1]["bare_torch_ms"])


@pytest.mark.parametrize("double_q", [True, False])
def test_bare_torch_takes_the_gradient_steps_of_qmix(ray_session, double_q):
    settings = {"double_q": double_q, "lr": 0.01, "grad_clip": 0.05, "tau": 0.3, "target_network_update_freq": 2}
    assert_same_steps(qmix_config(TwoStepGame, num_updates=3, train_batch_size=12, **settings).build_algo())


def test_bare_torch_takes_the_gradient_steps_of_maddpg(ray_session):
    settings = {"actor_lr": 0.01, "critic_lr": 0.02, "grad_clip": 0.05, "tau": 0.3, "logit_penalty": 0.1}
    assert_same_steps(maddpg_config(TwoStepGame, num_updates=3, train_batch_size=12, **settings).build_algo())


def assert_same_steps(algorithm):
    """Three gradient steps on one batch, by the learner and by bare torch."""
    for _ in range(3):
        algorithm.observe(algorithm.env_runner.sample()[0])
    learner = algorithm.learner_group._learner
    module, joint = learner.module["team"].unwrapped(), algorithm._draw()[0]
    noise = None
    if hasattr(module, "draw_noise"):
        noise = module.draw_noise(joint.discounts.numel(), torch.Generator().manual_seed(0))
        module.draw_noise = lambda *_: noise
    step, weights = bare_update(module, joint, noise)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    learner.update(training_data=TrainingData(batch=[joint] * 3))
    for _ in range(3):
        step()
    for name, p in module.named_parameters():
        torch.testing.assert_close(weights[name], p, rtol=1e-4, atol=1e-5, check_device=False)
        assert not torch.equal(before[name], p), name


@pytest.mark.filterwarnings("ignore:.*Overriding environment")  # RLlib registers it for every runner
def test_ppo_and_mappo_are_measured_beside_rllibs_ppo(monkeypatch, ray_session):
    monkeypatch.setattr(training, "BATCH_AGENT_STEPS", 640)
    monkeypatch.setattr(training, "MINIBATCH", 64)
    monkeypatch.setattr(training, "EPOCHS", 1)
    monkeypatch.setattr(training, "TEAM_ENVS", 4)
    monkeypatch.setattr(training, "RLLIB_ENVS", 4)
    team, mappo, rllib, *ratios = training._bench_ppo("cpu", 1)
    for ours, row in zip((team, mappo), ratios, strict=True):
        assert row["ratio"] == pytest.approx(rllib["iteration_s"] / ours["iteration_s"])
        assert row["ratio_of_cpu"] == pytest.approx(ours["agent_steps_per_cpu_s"] / rllib["agent_steps_per_cpu_s"])


def test_cost_of_saves_in_a_command_is_what_they_add_at_their_place():
    records = []
    for interval in range(24):
        is_saved, before_was_saved = interval % 2 == 0, interval % 2 == 1
        for i in range(8):
            waited = 0.01 + (0.03 if i == 0 and before_was_saved else 0.0)  # the save, and what it is waited for
            taken = 0.1 + (0.02 if i == 1 and before_was_saved else 0.0) + (0.2 if i == 7 else 0.0)  # an evaluation
            slower = 1.0 + 0.01 * interval  # a machine whose speed drifts
            records.append(
                {
                    "total_steps": 100 * (8 * interval + i),
                    "is_evaluated": i == 7,
                    "should_checkpoint": i == 7 and is_saved,
                    "time_waited_s": waited * slower,
                    "time_this_iter_s": taken * slower,
                }
            )
    records[0]["is_evaluated"] = True  # as a run's first result is
    found = checkpoint.cost_in_run(records, after=1)
    assert found["longer"] == pytest.approx(0.05 / (8 * 0.11 + 0.2), rel=0.01)
    assert found["longer_low"] <= found["longer"] <= found["longer_high"]
    assert found["interval_s"] == pytest.approx(1.08 * 1.12, rel=0.02)
    assert found["waited_s"] == pytest.approx(0.04 * 1.12, rel=0.03)
    assert found["waited_without_s"] == pytest.approx(0.01 * 1.12, rel=0.03)


def test_files_are_read_beside_pandas_with_their_time_and_memory(monkeypatch):
    readers, read = files.READERS, []

    def told(name):
        return lambda path: read.append((name, len(readers[name](path).close)))

    monkeypatch.setattr(files, "READERS", {name: told(name) for name in readers})
    monkeypatch.setattr(files, "_peak_of_its_own", lambda name, path: files._peak_mb(name, path) + len(name))
    rows = files.bench_files(rounds=2, num_bars=20_000)
    assert read == [(name, 20_000) for name in readers] * 3 + [(name, 20_000) for name in readers]
    assert [row["what"] for row in rows] == ["load_bars", "pandas.read_csv", "load_bars / pandas.read_csv"]
    ours, theirs, ratio = rows
    assert ratio["ratio"] == pytest.approx(ours["load_s"] / theirs["load_s"])
    assert ratio["ratio_of_peak"] == pytest.approx(ours["peak_mb"] / theirs["peak_mb"])
    assert 0.9 < ours["file_mb"] < 1.2


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell the most memory that a process has held")
def test_memory_of_a_reader_is_what_it_adds_to_the_most_that_was_ever_held(tmp_path):
    """In a process of its own: what other tests have held here would hide it."""
    found = files._peak_of_its_own("pandas.read_csv", files._written(tmp_path / "x.csv", 200_000))
    assert 200_000 * 5 * 8 / 1e6 < found < 300

from dataclasses import replace
from pathlib import Path

import pytest
from commands import APPO, CLOCK, INDQ, MADDPG, MAPPO, MARKET, PPO, QMIX, SAC, TQC, run_here

from common.errors import InputError
from experiments.builders.environments import environment_of
from experiments.runs.run import read_run_config
from experiments.settings.run_config import config_from_json
from experiments.tuning.disk_use import DiskUse, check_disk, disk_bytes, predict_disk_use, size

pytestmark = pytest.mark.usefixtures("ray_session")
LONG = [*MARKET, "--qmix.num-envs-per-env-runner", "64", "--qmix.num-updates", "1", "--qmix.replay-capacity", "6000"]
SAVES = ["--checkpoint-interval", "64", "--checkpoint-interval-s", "0"]
RUNS = {
    "qmix": [*QMIX, "--episodes", "40"],
    "qmix with a full buffer": [*LONG, *SAVES, "--keep", "3", "--episodes", "832"],
    "vdn": [*QMIX, "--algo", "vdn", "--keep", "4", "--qmix.optimizer", "rmsprop", "--episodes", "40"],
    "indq by priority": [*INDQ, "--indq.prioritised-replay", "True", "--keep", "4", "--episodes", "40"],
    "ppo": [*PPO, "--keep", "4", "--episodes", "64"],
    "ppo of separate networks": [*PPO, "--ppo.use-shared-networks", "False", "--keep", "4", "--episodes", "64"],
    "mappo": [*MAPPO, "--keep", "4", "--episodes", "64"],
    "maddpg": [*MADDPG, "--desk.action", "continuous", "--maddpg.reward", "own", "--keep", "4", "--episodes", "40"],
    "dqn": [*MARKET, *CLOCK, "--algo", "dqn", "--dqn.learning-starts", "64", "--episodes", "32"],
    "sac": [*SAC, "--episodes", "32"],
    "tqc": [*TQC, "--episodes", "32"],
    "appo": [*APPO, "--episodes", "32"],
}
LONGER = ("vdn", "indq by priority", "ppo of separate networks", "mappo", "maddpg", "dqn", "tqc", "appo")
"""Those that add least to the others."""


def config_of(algo, **settings):
    market = {"data": {"synthetic": {"num_assets": 4, "num_bars": 400}}, "floor": {"horizon_bars": 20}}
    return config_from_json({**market, "algo": algo, **settings})


def predicted(config):
    return predict_disk_use(config, environment_of(config), Path(config.storage) / str(config.name))


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in LONGER else n for n in RUNS])
def test_room_is_told_before_the_run_and_within_half_of_what_it_really_took(tmp_path, name, capsys):
    folder = tmp_path / "run"
    assert run_here(folder, *RUNS[name]) == 0
    told = predicted(read_run_config(folder))
    assert f"checkpoints: about {size(told.each)} each, {size(told.total)} in all; " in capsys.readouterr().out
    scratch = tmp_path / "checkpoints"  # without the records of the trial
    scratch.mkdir()
    for path in folder.glob("trial_0/*checkpoint*"):
        path.rename(scratch / path.name)
    newest = sorted(scratch.glob("checkpoint_*"))[-1]
    assert disk_bytes(newest) / 1.5 < told.each < 1.5 * disk_bytes(newest)
    assert disk_bytes(scratch) / 1.5 < told.total < 1.5 * disk_bytes(scratch)


def test_more_checkpoints_and_larger_networks_and_buffers_need_more():
    small = {"qmix": {"replay_capacity": 20_000}, "episodes": 4000}
    base = predicted(config_of("qmix", **small)).total
    assert predicted(config_of("qmix", **small, keep=20)).total > base
    assert predicted(config_of("qmix", **small, keep_every=2)).total > base
    assert predicted(config_of("qmix", **small, search={"num_trials": 3})).total == 3 * base
    assert predicted(config_of("qmix", qmix={"replay_capacity": 60_000}, episodes=4000)).total > 1.5 * base
    assert (
        predicted(config_of("qmix", qmix={"replay_capacity": 20_000, "hidden": [512, 512]}, episodes=4000)).total > base
    )
    short = predicted(config_of("qmix", qmix={"replay_capacity": 20_000}, episodes=16)).total
    assert short < base / 5, "a buffer that is never filled takes no room"


@pytest.mark.parametrize(("name", "values"), [("qmix.mixing_embed_dim", (16, 32, 64)), ("indq.dueling", (False, True))])
def test_search_needs_room_for_the_largest_networks_that_it_may_draw(name, values):
    algo, setting = name.split(".")

    def total(drawn=(), **own):
        config = config_of(algo, episodes=400, search={"num_trials": 3}, **{algo: own})
        use = predict_disk_use(config, environment_of(config), Path("results"), drawn=drawn)
        return use.total

    each = [total(**{setting: value}) for value in values]
    assert each == sorted(set(each)), "else there is nothing to choose"
    assert total([f"{algo}.lr", name]) == total([name], **{setting: values[0]}) == each[-1]
    assert total([f"{algo}.lr"]) == total() in each


def test_what_a_run_holds_already_is_not_needed_again():
    use, where = DiskUse(each=10, total=90, in_flight=10, free=40, used=60), {"algo": "ppo", "storage": "results"}
    check_disk(use, **where)
    with pytest.raises(InputError, match="lower --keep, or choose another --storage"):
        check_disk(DiskUse(each=10, total=90, in_flight=10, free=40, used=59), **where)
    check_disk(DiskUse(each=10, total=90, in_flight=10, free=None, used=0), **where)


def test_only_checkpoints_that_stay_or_make_room_are_counted_as_held(tmp_path):
    config = replace(config_of("ppo"), storage=str(tmp_path), name="dow")
    for name in ("checkpoint_000001", "best_checkpoint", "damaged-checkpoint_000000"):
        (tmp_path / "dow" / "trial_0" / name).mkdir(parents=True)
        (tmp_path / "dow" / "trial_0" / name / "weights").write_bytes(b"x" * 100)
    (tmp_path / "dow" / "train.log").write_bytes(b"x" * 100)
    assert predicted(config).used == 200
    assert predicted(replace(config, resume="never")).used == 0, "what is moved aside stays on the disk"


def test_sizes_are_short():
    assert [size(v) for v in (999, 1_234_567, 31.4e9, 2e12)] == ["1 KB", "1.2 MB", "31 GB", "2.0 TB"]


def test_linked_files_are_counted_once(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 100)
    Path(tmp_path / "b").hardlink_to(tmp_path / "a")
    assert disk_bytes(tmp_path) == 100

import json

import pytest
from commands import MARKET, PPO, QMIX, checkpoints, meta, run_here, summary

pytestmark = pytest.mark.usefixtures("ray_session")


def test_every_so_manieth_checkpoint_stays_for_the_record(tmp_path):
    folder = tmp_path / "kept"
    words = [*QMIX, "--keep", "1", "--keep-every", "3"]
    assert run_here(folder, *words, "--episodes", "64") == 0
    assert [int(path.name[-6:]) for path in checkpoints(folder)] == [0, 3, 6, 7]
    assert run_here(folder, "--keep-every", "None", "--episodes", "72") == 0
    assert len(checkpoints(folder)) == 1, "it may be changed"


@pytest.mark.parametrize(("mode", "choose"), [("max", max), ("min", min)])
def test_best_checkpoint_is_by_the_return_of_training_episodes(tmp_path, mode, choose):
    folder = tmp_path / mode
    name = "env_runners/episode_return_mean"
    words = [*PPO, "--checkpoint-metric", name, "--checkpoint-mode", mode, "--keep", "99", "--episodes", "80"]
    assert run_here(folder, *words) == 0
    lines = [json.loads(line) for line in (folder / "trial_0" / "result.json").read_text().splitlines()]
    values = {r["episodes"]: r["env_runners"]["episode_return_mean"] for r in lines if r.get("should_checkpoint")}
    found = meta(folder / summary(folder)["best_checkpoint"])
    assert len(values) > 3
    assert found["metric_value"] == choose(values.values()) == values[found["episode"]]
    assert summary(folder)["best_metric"] == {"name": name, "value": found["metric_value"]}
    assert found["metric_value"] != lines[-1]["sharpe"]


def test_metric_that_no_result_has_is_refused_with_the_nearest(tmp_path, capsys):
    words = [*PPO, "--checkpoint-metric", "env_runners/episode_reward_mean", "--episodes", "80"]
    assert run_here(tmp_path / "run", *words) == 2
    err = capsys.readouterr().err
    assert "is in none of the" in err
    assert "the nearest are env_runners/episode_return_mean" in err
    assert err.count("\n") == 1
    assert run_here(tmp_path / "other", *MARKET, "--checkpoint-metric", "calmer") == 2
    assert "did you mean 'calmar'" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()

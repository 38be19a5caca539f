"""The judge of `make faults` sees what differs, and lets pass only what an accident of that kind may change."""

import json

import pytest
from comparing import differences, of_places, of_saves

LINE = {"training_iteration": 1, "sharpe": 0.5, "is_best": True, "loss": 2.0, "evaluation": {"x": 1}, "time_total_s": 1}
SUMMARY = {
    "episodes": 8,
    "env_steps": 80,
    "agent_steps": 160,
    "weights_sha256": "ab",
    "metrics": {"sharpe": 0.5},
    "best_metric": {"name": "sharpe", "value": 0.5},
    "latest_checkpoint": "trial_0/checkpoint_000001",
    "best_checkpoint": "trial_0/best_checkpoint",
}


def run_of(folder, *lines, best="ab", **summary):
    checkpoint = folder / "trial_0" / "best_checkpoint"
    checkpoint.mkdir(parents=True)
    (checkpoint / "checkpoint_meta.json").write_text(json.dumps({"weights_sha256": best, "timestamp": folder.name}))
    text = "".join(json.dumps(LINE | line) + "\n" for line in lines or ({},))
    (folder / "trial_0" / "result.json").write_text(text)
    (folder / "summary.json").write_text(json.dumps(SUMMARY | summary))
    return folder


@pytest.mark.parametrize(
    ("line", "summary", "exact", "saves", "places"),
    [
        ({"time_total_s": 7}, {}, [], [], []),
        ({"save_error": "the checkpoint is not in the store yet"}, {}, [], [], []),
        ({"loss": 2.1}, {}, ["/loss"], ["/loss"], ["/loss"]),
        ({"sampled_lifetime": 7}, {}, *([["/sampled_lifetime"]] * 3)),
        ({"timesteps_total": 7}, {}, *([["/timesteps_total"]] * 3)),
        ({"sampled_lifetime_throughput": 7, "sampling_timer": 7}, {}, [], [], []),
        ({"training_iteration": 2}, {}, ["iterations"], ["iterations"], ["iterations"]),
        ({"is_best": False}, {}, ["/is_best"], [], []),
        ({"sharpe": 0.6}, {}, ["/sharpe"], ["/sharpe"], []),
        ({"evaluation": {"x": 2}}, {}, ["/evaluation/x"], ["/evaluation/x"], []),
        ({}, {"latest_checkpoint": "trial_0/checkpoint_000002"}, ["summary latest_checkpoint"], [], []),
        ({}, {"weights_sha256": "cd"}, *([["summary weights_sha256"]] * 3)),
        ({}, {"metrics": {"sharpe": 0.6}}, *([["summary metrics"]] * 3)),
        ({}, {"best": "cd"}, ["best checkpoint"], [], []),
    ],
)
def test_what_differs_is_seen_but_for_what_the_accident_may_change(tmp_path, line, summary, exact, saves, places):
    reference, run = run_of(tmp_path / "a"), run_of(tmp_path / "b", line, **summary)
    found = [sorted(differences(run, reference, but=but)) for but in (None, of_saves, of_places)]
    if "iterations" in exact:
        found = [[name for name in names if name != "/training_iteration"] for names in found]
    assert found == [exact, saves, places]


@pytest.mark.parametrize("but", [None, of_saves, of_places])
def test_iteration_that_stands_twice_or_is_missing_is_seen(tmp_path, but):
    reference = run_of(tmp_path / "a", {"training_iteration": 1}, {"training_iteration": 2})
    for name, numbers in (("b", (1, 1)), ("c", (1, 2, 2)), ("d", (1,))):
        run = run_of(tmp_path / name, *({"training_iteration": number} for number in numbers))
        assert "iterations" in differences(run, reference, but=but)

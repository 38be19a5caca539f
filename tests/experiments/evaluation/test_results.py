import json
from dataclasses import asdict

import numpy as np
import pytest
from scipy.stats import norm

from common.intervals import interval
from envs.bar_data import Bars
from envs.folds import CrossValidation, Fold
from envs.paired_tests import paired_tests
from envs.sharpe import expected_max_sharpe, sharpe_ratio, sharpe_standard_error
from experiments.evaluation.report import Walk, write_evaluation
from experiments.evaluation.results import Course, evaluated, figures, series_name
from experiments.evaluation.runs import Job, trial_sharpes
from experiments.settings.run_config import RunConfig

YEAR = 252


def course(seed, mean):
    returns = np.random.default_rng(seed).normal(mean, 0.01, 300)
    return Course(np.datetime64("2020-01-01") + np.arange(300), returns)


def named(seeds):
    return {str(k): own for k, own in enumerate(seeds)}


def test_figures_are_those_of_each_seed_with_an_interval_over_them():
    seeds = {"3": course(3, 0.001), "4": course(4, 0.0005), "5": course(5, 0.0)}
    found = evaluated(seeds, {"buy_and_hold": course(9, 0.0004)}, periods_per_year=YEAR, risk_free=0.0)
    sharpes = [sharpe_ratio(one.returns, periods_per_year=YEAR) for one in seeds.values()]
    assert [own["sharpe"] for own in found["seeds"].values()] == pytest.approx(sharpes)
    mean = found["intervals"]["sharpe"]
    assert mean["mean"] == pytest.approx(np.mean(sharpes))
    assert mean["low"] < mean["mean"] < mean["high"]
    assert found["seeds"]["3"]["total_return"] == pytest.approx(np.prod(1 + seeds["3"].returns) - 1)
    assert found["seeds"]["4"]["sharpe"] == pytest.approx(sharpes[1])


def test_intervals_stay_within_what_can_be():
    """Seeds that differ as much as these made Student's intervals of a return below -100 %, of a drawdown above 0."""
    seeds = {str(k): course(k, mean) for k, mean in enumerate([-0.02, -0.001, 0.004])}
    found = evaluated(seeds, {"random": course(9, 0.0)}, periods_per_year=YEAR, risk_free=0.0)["intervals"]
    for low, name, high in (
        (-1.0, "total_return", np.inf),
        (-1.0, "annual_return", np.inf),
        (0.0, "annual_volatility", np.inf),
        (0.0, "sharpe_se", np.inf),
        (-1.0, "max_drawdown", 0.0),
    ):
        student = interval([figures(own, periods_per_year=YEAR, risk_free=0.0)[name] for own in seeds.values()])
        assert found[name]["mean"] == pytest.approx(student.mean)
        assert low <= found[name]["low"] < found[name]["high"] <= high, name
        if name in ("total_return", "max_drawdown"):
            assert student.low < low, "the test would not notice"


def test_an_interval_is_of_the_luck_of_the_seeds_and_of_the_history():
    """One seed has an interval by the history alone, as wide as its ratio's error; seeds that differ, a wider one."""
    year, rivals = {"periods_per_year": YEAR, "risk_free": 0.0}, {"random": course(9, 0.0)}
    alone = evaluated({"0": course(3, 0.0005)}, rivals, **year)
    width = (alone["intervals"]["sharpe"]["high"] - alone["intervals"]["sharpe"]["low"]) / (2 * 1.96)
    assert width == pytest.approx(alone["seeds"]["0"]["sharpe_se"], rel=0.1)
    same = evaluated({str(k): course(3, 0.0005) for k in range(3)}, rivals, **year)["intervals"]["sharpe"]
    assert same == pytest.approx(alone["intervals"]["sharpe"], abs=1e-9), "seeds share the bars that are drawn"
    own = course(3, 0.0005)
    apart = {str(k): Course(own.dates, own.returns + edge) for k, edge in enumerate([-2e-3, 0.0, 2e-3])}
    wide = evaluated(apart, rivals, **year)["intervals"]["sharpe"]
    assert wide["high"] - wide["low"] > 1.3 * 2 * 1.96 * width


def test_seeds_together_are_tested_for_the_luck_of_seeds_and_of_history():
    """One seed: as by its own paired test. Several alike: surer than one. Several that differ: less sure."""
    year, best = {"periods_per_year": YEAR, "risk_free": 0.0}, course(9, 0.0004)
    edge = 0.0004 + 0.004 * np.random.default_rng(1).standard_normal((5, 300))
    edge += 0.0004 - edge.mean(axis=1, keepdims=True)
    seeds = [Course(best.dates, best.returns + noise) for noise in edge]
    alone = evaluated({"0": seeds[0]}, {"random": best}, **year)
    own, together = alone["paired_tests"]["0"]["against"]["random"], alone["seeds_together"]
    assert together["mean_confidence"] == pytest.approx(own["mean_confidence"], abs=0.02)
    assert together["sharpe_confidence"] == pytest.approx(own["sharpe_confidence"], abs=0.03)
    assert alone["intervals"]["mean_difference"]["mean"] == pytest.approx(own["mean_difference"])
    assert alone["intervals"]["sharpe_difference"]["mean"] == pytest.approx(own["sharpe_difference"])
    many = evaluated(named(seeds), {"random": best}, **year)["seeds_together"]["mean_confidence"]
    apart = [Course(best.dates, one.returns + 0.002 * (k - 2)) for k, one in enumerate(seeds)]
    lucky = evaluated(named(apart), {"random": best}, **year)["seeds_together"]["mean_confidence"]
    assert 0.5 < lucky < together["mean_confidence"] < many


def test_the_best_baseline_is_by_its_sharpe_ratio_and_never_cash():
    flat = Course(course(1, 0.0).dates, np.zeros(300))
    losing = course(2, -0.002)
    found = evaluated({"0": course(3, 0.001)}, {"cash": flat, "momentum": losing}, periods_per_year=YEAR, risk_free=0.0)
    assert found["best_baseline"] == "momentum"


def test_every_seed_is_tested_against_every_baseline():
    seeds = {"0": course(3, 0.001), "1": course(4, -0.004)}
    rivals = {"cash": Course(course(1, 0.0).dates, np.zeros(300)), "random": course(2, -0.002)}
    found = evaluated(seeds, rivals, periods_per_year=YEAR, risk_free=0.02)["paired_tests"]
    returns = {name: one.returns for name, one in rivals.items()}
    for seed, own in seeds.items():
        expected = paired_tests(own.returns, returns, periods_per_year=YEAR, risk_free=0.02)
        assert found[seed] == asdict(expected)
    assert found["0"]["against"]["random"]["mean_confidence"] > 0.99
    assert found["1"]["not_beaten_p"] < 0.1
    json.dumps(found)


def test_the_table_says_how_sure_each_seed_is_and_of_nothing_else():
    seeds, rivals = {"7": course(3, 0.001)}, {"cash": course(1, 0.0), "momentum": course(2, 0.0)}
    search = {"7": [[0.1, 1.2]]}
    found = evaluated(seeds, rivals, periods_per_year=YEAR, risk_free=0.0, trial_sharpes=search)
    rows = Walk(RunConfig(), CrossValidation((), (), ((),)), Bars, found, {}).rows()
    best = found["paired_tests"]["7"]["against"][found["best_baseline"]]
    assert [rows[0][title] for title in ("mean > best", "sharpe > best", "unbeaten p", "deflated")] == [
        f"{best['mean_confidence']:.2f}",
        f"{best['sharpe_confidence']:.2f}",
        f"{found['paired_tests']['7']['not_beaten_p']:.2f}",
        f"{found['deflated_sharpe']['7']:.2f}",
    ]
    together = found["seeds_together"]
    assert [rows[1][title] for title in ("mean > best", "sharpe > best", "unbeaten p")] == [
        f"{together['mean_confidence']:.2f}",
        f"{together['sharpe_confidence']:.2f}",
        "-",
    ]
    assert {row["mean > best"] for row in rows[2:]} == {"-"}


def test_a_search_deflates_the_ratio_by_its_trials_and_without_one_nothing_is_deflated():
    own, tried, others = course(3, 0.001), [0.1, 1.2, -0.4, 2.0], {"random": course(4, 0.0)}
    found = evaluated(
        {"0": own},
        {"random": course(4, 0.0)},
        periods_per_year=YEAR,
        risk_free=0.0,
        trial_sharpes={"0": [tried, [0.7]]},
    )
    ratio = sharpe_ratio(own.returns, periods_per_year=YEAR)
    error = sharpe_standard_error(own.returns, periods_per_year=YEAR)
    assert found["hurdle"] == pytest.approx(expected_max_sharpe(tried))
    assert found["deflated_sharpe"]["0"] == pytest.approx(norm.cdf((ratio - expected_max_sharpe(tried)) / error))
    assert found["num_trials"] == 4
    plain = evaluated({"0": own}, others, periods_per_year=YEAR, risk_free=0.0, trial_sharpes={"0": [[], []]})
    assert (plain["deflated_sharpe"], plain["hurdle"], plain["num_trials"]) == ({}, None, 0)


def test_every_checkpoint_of_every_trial_is_one_that_was_chosen_among(tmp_path):
    job = Job(None, 0, tmp_path)
    for i, sharpes in enumerate([[0.1, 0.5], [-0.2]]):
        (tmp_path / f"trial_0000{i}").mkdir()
        lines = [{"training_iteration": n, "is_evaluated": True, "sharpe": s} for n, s in enumerate(sharpes)]
        lines.append({"training_iteration": 9, "is_evaluated": False, "sharpe": sharpes[-1]})
        (tmp_path / f"trial_0000{i}" / "result.json").write_text("\n".join(map(json.dumps, lines)))
    assert trial_sharpes(job) == [], "no search, as long as none has ended"
    (tmp_path / "trials.json").write_text("[]")
    assert sorted(trial_sharpes(job)) == [-0.2, 0.1, 0.5]


def test_figures_are_of_what_was_earned_above_cash():
    own, cash = course(3, 0.001), Course(course(3, 0.0).dates, np.full(300, 0.05 / YEAR))
    mixed = Course(own.dates, 0.1 * own.returns + 0.9 * cash.returns)
    found = evaluated(
        {"0": own, "1": mixed}, {"random": course(4, 0.0), "cash": cash}, periods_per_year=YEAR, risk_free=0.05
    )
    whole, part = found["seeds"].values()
    assert part["sharpe"] == pytest.approx(whole["sharpe"])
    assert part["sharpe_se"] == pytest.approx(whole["sharpe_se"])
    assert found["baselines"]["cash"]["sharpe"] == 0
    whole, part = (found["paired_tests"][seed]["against"]["cash"] for seed in ("0", "1"))
    assert part["sharpe_confidence"] == pytest.approx(whole["sharpe_confidence"])
    assert part["mean_difference"] == pytest.approx(0.1 * whole["mean_difference"])


def test_paths_are_told_each_by_itself_and_as_a_distribution():
    paths = {series_name(seed, p, 3): course(10 * seed + p, 0.0003 * p) for seed in (4, 5) for p in range(3)}
    assert list(paths)[:4] == ["4, path 1", "4, path 2", "4, path 3", "5, path 1"]
    found = evaluated(paths, {"random": course(9, 0.0002)}, num_paths=3, periods_per_year=YEAR, risk_free=0.0)
    ratios = [sharpe_ratio(own.returns, periods_per_year=YEAR) for own in paths.values()]
    assert [own["sharpe"] for own in found["seeds"].values()] == pytest.approx(ratios)
    of, hurdle = found["sharpe_of_paths"], found["baselines"]["random"]["sharpe"]
    assert of["median"] == pytest.approx(np.median(ratios))
    assert (of["min"], of["max"]) == pytest.approx((min(ratios), max(ratios)))
    assert (of["mean"], of["std"]) == pytest.approx((np.mean(ratios), np.std(ratios, ddof=1)))
    assert of["below_best_baseline"] == np.mean([ratio < hurdle for ratio in ratios])
    assert of["below_zero"] == np.mean([ratio < 0 for ratio in ratios])
    alone = evaluated({"4": course(3, 0.0)}, {"random": course(9, 0.0)}, periods_per_year=YEAR, risk_free=0.0)
    assert alone["sharpe_of_paths"] is None


def test_paths_of_a_seed_are_no_further_seeds():
    """Were they, an interval would shrink with the number of paths, which share the models' luck."""
    year, rivals, own = {"periods_per_year": YEAR, "risk_free": 0.0}, {"random": course(9, 0.0)}, course(3, 0.0)
    apart = [Course(own.dates, own.returns + edge) for edge in (-2e-3, 2e-3)]
    alone = evaluated(named(apart), rivals, **year)
    many = {series_name(seed, p, 8): one for seed, one in enumerate(apart) for p in range(3)}
    found = evaluated(many, rivals, num_paths=3, **year)
    assert found["intervals"]["sharpe"] == pytest.approx(alone["intervals"]["sharpe"])
    assert found["seeds_together"] == pytest.approx(alone["seeds_together"])


def test_picture_and_page_of_paths_say_how_they_are_spread(tmp_path):
    paths = {series_name(seed, p, 2): course(10 * seed + p, 0.0003) for seed in (4, 5) for p in range(2)}
    rivals = {"random": course(9, 0.0002)}
    found = evaluated(paths, rivals, num_paths=2, periods_per_year=YEAR, risk_free=0.0)
    folds = tuple(Fold(i + 1, (), {"test_groups": (i + 1,)}) for i in range(2))
    dates = course(9, 0.0).dates
    parts = CrossValidation(folds, ("2020-01-01", "2020-06-01"), ((0, 1), (1, 0)))
    prices = np.ones((300, 1))
    bars = Bars(dates=dates, assets=("x",), open=prices, high=prices, low=prices, close=prices)
    walk = Walk(RunConfig(), parts, bars, found, rivals | paths)
    record = write_evaluation(walk, tmp_path, command="evaluate")
    assert record["folds"] == [{"number": i, "tests": (), "test_groups": (i,)} for i in (1, 2)]
    assert record["paths"] == [[1, 2], [2, 1]]
    page = (tmp_path / "evaluation.md").read_text()
    assert "2 tests in a row, 2020-01-01 to 2020-10-26, out of sample, 2 folds joined to 2 paths" in page
    assert "2 seeds of" in page
    assert f"Sharpe ratio of 4 paths: median {found['sharpe_of_paths']['median']:.2f}, half of them" in page
    assert (tmp_path / "evaluation.png").stat().st_size > 10_000

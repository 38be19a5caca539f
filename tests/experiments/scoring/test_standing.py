"""The standing table: what counts as reached, and what readers are shown."""

import dataclasses
import math
from types import SimpleNamespace

import pytest

from algos.registry import algorithm
from common.errors import InputError
from common.files import write_json
from common.intervals import interval
from envs.optima.catalog import make_problem
from envs.optima.evaluation import best_action_size
from envs.optima.floor_merton import FloorMertonConfig
from envs.optima.merton import MertonConfig
from experiments import score
from experiments.scoring import learning, settings, table, training
from experiments.scoring.page import FROM, PAGE, TO, no_cells, publish, scores_page, settings_digest
from experiments.scoring.standing import GAMES, KNOWN, SEEDS, STANDING, Goal, Row, judge
from experiments.scoring.table import table_cells
from experiments.scoring.training import RESULT_FILE, finished_record
from experiments.scoring.yardsticks import make_yardstick
from experiments.settings.arguments import named_values
from experiments.settings.layers import merge


def record_of(learned):
    seeds = [
        {"seed": i, "learned": v, "score": v, "of_each_agent": [v, v], "distance": [[v], [v]]}
        for i, v in enumerate(learned)
    ]
    best = {"optimum": 4.0, "optimum_of_each": [4.0, 2.0], "size_of_best_actions": [2.0, 1.0]}
    return best | {"steps": 10, "seeds": seeds}


@pytest.mark.parametrize(
    ("goal", "values", "met"),
    [
        (Goal("return", 1.0), [1.2, 1.3, 1.25], True),
        (Goal("return", 1.0), [0.9, 1.3, 1.25], False),  # the mean is above, the lower end of the interval is not
        (Goal("return", None, 1.0), [0.9, 0.9, 0.92], True),
        (Goal("return", 3.1, 3.3), [3.2, 3.21, 3.19], True),
        (Goal("return", 3.1, 3.3), [3.2, 3.31, 3.19], False),
        (Goal("return", 8.0, None, 2), [8.0, 8.0, 7.0], True),
        (Goal("return", 8.0, None, 3), [8.0, 8.0, 7.0], False),
        (Goal("return", 7.0, 7.0, 3), [7.0, 7.0005, 6.9995], True),
        (Goal("return", 7.0, 7.0, 3), [7.0, 7.0, 8.0], False),
        (Goal("return", 1.0), [2.0], False),  # one seed has no interval
    ],
)
def test_a_goal_is_met_by_the_end_of_the_interval_that_matters_or_by_so_many_seeds(goal, values, met):
    assert goal.is_met_by(values) is met


def test_measures_are_of_each_seed():
    row = Row("x", ("--algo", "ppo"), Goal("cost", None, 6.0))
    found = judge(row, record_of([-4.0, -4.2]))
    assert found.found == interval([4.0, 4.2])
    assert found.is_met
    assert judge(Row("x", ("--algo", "ppo"), Goal("of optimum", 0.5)), record_of([3.0, 3.0])).found.mean == 0.75
    worst = judge(Row("x", ("--algo", "ppo"), Goal("profit error", None, 1.0)), record_of([3.0, 3.0]))
    assert worst.found.mean == pytest.approx(0.5), "of the agent whose best is 2"
    farthest = judge(Row("x", ("--algo", "ppo"), Goal("weight error", None, 1.0)), record_of([0.1, 0.1]))
    assert farthest.found.mean == pytest.approx(0.1), "of the agent whose best action has size 1"


def test_a_row_without_a_goal_is_shown_and_not_judged():
    row = Row("climbing", ("--market", "climbing", "--algo", "vdn"))
    cells = table_cells(row, record_of([5.0, 5.0]))
    assert (cells["found"], cells["goal"], cells["met"]) == ("5.0000", "-", "")
    assert table_cells(row, None)["found"] == "not run"


def test_seeds_that_meet_the_goal_by_themselves_are_counted():
    row = Row("two-step game", ("--algo", "qmix"), Goal("return", 8.0, None, 3))
    assert table_cells(row, record_of([8.0, 8.0, 7.0]))["met"] == "no, 2 of 3"


@pytest.mark.parametrize("row", [*GAMES, *KNOWN], ids=lambda row: row.slug)
def test_every_row_can_be_run_and_its_command_says_how(row):
    config = settings.parse_score(row.words)
    market = {"num_agents": config.agents, "settings": named_values(config.settings, flag="--settings")}
    assert math.isfinite(make_yardstick(config.market, config.algo, **market).optimum)
    assert row.command.startswith("python experiments/score.py --market ")
    assert row.command.endswith("--seeds 5")


@pytest.mark.usefixtures("ray_session")
def test_interrupted_table_carries_on_with_the_seed_that_it_was_at(tmp_path, monkeypatch, capsys):
    short = ("--steps", "300", "--num-episodes", "64", "--qmix.num-updates", "1")
    rows = [Row("two-step game", ("--market", "two-step", "--algo", algo, *short)) for algo in ("qmix", "vdn")]
    monkeypatch.setattr(table, "STANDING", rows)
    words = ["--table", "--seeds", "2", "--out", str(tmp_path)]
    real, learned = learning.learn, []

    def learn(run, *args, **kwargs):
        if len(learned) == 1 and "stopped" not in learned:
            learned.append("stopped")
            raise KeyboardInterrupt
        learned.append((run.algo, run.seed))
        yield from real(run, *args, **kwargs)

    monkeypatch.setattr(learning, "learn", learn)
    with pytest.raises(KeyboardInterrupt):
        score.run(words)
    assert score.run(words) == score.run(words) == 0
    assert learned == [("qmix", 0), "stopped", ("qmix", 1), ("vdn", 0), ("vdn", 1)]
    printed = " ".join(capsys.readouterr().out.split())
    assert "row 2 of 2: two-step game, vdn: done before" in printed
    assert (tmp_path / "score.png").stat().st_size > 10_000


def test_rows_have_folders_of_their_own():
    assert len({row.slug for row in STANDING}) == len(STANDING)


def test_the_page_has_a_line_and_a_command_for_every_row():
    page = scores_page({})
    for row in STANDING:
        assert f"| {row.problem} | {row.algo} |" in page
        assert row.command in page


def test_sizes_of_best_actions_are_those_of_the_closed_form():
    assert best_action_size(make_problem("merton-relative")) == pytest.approx([1.35, 3.0, 2.25, 5.4])
    assert best_action_size(make_problem("merton")) == pytest.approx([0.5])


def cells_of(row, found):
    return no_cells(row) | {"measure": "score", "found": found, "95 %": "", "met": "yes"}


def line_of(page, row):
    return next(line for line in page.read_text().splitlines() if f"| {row.problem} | {row.algo} |" in line)


def test_rows_that_are_run_one_by_one_stand_on_one_page(tmp_path):
    page, (first, second, third) = tmp_path / "scores.md", STANDING[:3]
    publish({first.slug: cells_of(first, "0.11")}, page=page)
    publish({second.slug: cells_of(second, "0.22")}, page=page)
    publish({first.slug: cells_of(first, "0.33")}, page=page)
    assert "| 0.33 |" in line_of(page, first)
    assert "| 0.22 |" in line_of(page, second)
    assert "| not run |" in line_of(page, third)


def test_what_was_found_with_other_settings_or_another_goal_is_not_shown(tmp_path, monkeypatch):
    page, (first, second) = tmp_path / "scores.md", STANDING[:2]
    publish({first.slug: cells_of(first, "0.11"), second.slug: cells_of(second, "0.22") | {"goal": ">= 2"}}, page=page)
    assert "| not run |" in line_of(page, second)
    real = settings.recipe
    monkeypatch.setattr(settings, "recipe", lambda *a: real(*a)._replace(steps=1))
    publish({}, page=page)
    assert "| not run |" in line_of(page, first)
    monkeypatch.undo()
    publish({}, page=page)
    assert "| 0.11 |" in line_of(page, first), "what was found is kept"


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": 1}'])
def test_figures_that_cannot_be_read_are_not_written_over(tmp_path, text):
    page = tmp_path / "scores.md"
    page.with_suffix(".json").write_text(text)
    with pytest.raises(InputError, match=r"scores\.json is (damaged|not what score.py --table has written)"):
        publish({}, page=page)
    assert page.with_suffix(".json").read_text() == text
    assert not page.exists()


def test_rows_with_other_settings_have_other_digests():
    assert len({settings_digest(row) for row in (*GAMES, *KNOWN)}) == len((*GAMES, *KNOWN))


SEEDS_DONE = [{"seed": seed} for seed in range(SEEDS)]


def test_an_option_that_is_off_leaves_what_was_found_valid(tmp_path, monkeypatch):
    row = next(row for row in KNOWN if row.algo == "mappo")
    found = settings_digest(row)
    asked = settings.parse_score(row.words)
    write_json(tmp_path / RESULT_FILE, training._plain_head(asked, training._yardstick(asked)) | {"seeds": SEEDS_DONE})
    assert finished_record(asked, tmp_path)

    def has_option(value):
        with_option = SimpleNamespace(asdict=lambda tree: dataclasses.asdict(tree) | {"new": value})
        monkeypatch.setattr(settings, "dataclasses", with_option)

    has_option(None)
    assert settings_digest(row) == found
    assert finished_record(asked, tmp_path)
    has_option(0)
    assert settings_digest(row) != found
    assert not finished_record(asked, tmp_path)


def test_a_record_that_names_options_that_are_off_is_one_that_does_not(tmp_path):
    asked = settings.parse_score(next(row for row in KNOWN if row.algo == "mappo").words)
    head = training._plain_head(asked, training._yardstick(asked))
    older = merge(head, {"algo_settings": {"critic_lr": None}}) | {"seeds": SEEDS_DONE}
    write_json(tmp_path / RESULT_FILE, older)
    assert finished_record(asked, tmp_path)


@pytest.mark.parametrize(("market", "config"), [("merton", MertonConfig), ("floor:merton", FloorMertonConfig)])
def test_what_was_found_with_other_defaults_of_a_market_is_of_another_one(market, config, tmp_path, monkeypatch):
    row = next(row for row in KNOWN if row.words[1] == market)
    found, asked = settings_digest(row), settings.parse_score(row.words)
    write_json(tmp_path / RESULT_FILE, training._plain_head(asked, training._yardstick(asked)) | {"seeds": SEEDS_DONE})
    assert finished_record(asked, tmp_path)
    real = settings.dataclasses.asdict
    has_other = SimpleNamespace(asdict=lambda it: real(it) | ({"rate": 0.5} if isinstance(it, config) else {}))
    monkeypatch.setattr(settings, "dataclasses", has_other)
    assert settings_digest(row) != found
    assert not finished_record(asked, tmp_path)


def test_what_was_found_with_longer_evaluations_on_the_way_is_another_row(tmp_path):
    row = next(row for row in KNOWN if row.algo == "mappo")
    longer = dataclasses.replace(row, words=(*row.words, "--num-evaluation-episodes", "257"))
    asked = settings.parse_score(row.words)
    write_json(tmp_path / RESULT_FILE, training._plain_head(asked, training._yardstick(asked)) | {"seeds": SEEDS_DONE})
    assert finished_record(asked, tmp_path)
    assert not finished_record(settings.parse_score(longer.words), tmp_path)
    assert settings_digest(row) != settings_digest(longer)


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("row", [row for row in STANDING if row not in GAMES], ids=lambda row: row.slug)
def test_whoever_has_learned_nothing_meets_no_goal(row, tmp_path):
    """Where a policy's middle action happens to be the best one, a score says nothing of the learner."""
    rates = {"qmix": ["lr"], "maddpg": ["actor-lr", "critic-lr"], "mappo": ["lr"], "ppo": ["lr"]}
    section = algorithm(row.algo).group
    none = [word for name in rates[section] for word in (f"--{section}.{name}", "1e-9")]
    asked = settings.parse_score([*row.words, "--seeds", "1", "--steps", "1", "--num-episodes", "256", *none])
    _, _, record = training.score_learner(asked, tmp_path)
    reached = judge(row, record).found.mean
    assert math.isfinite(reached)
    assert not row.goal.is_met_by([reached] * SEEDS), f"{row.goal.says()}: {reached:.4f} without learning"


def test_learners_of_a_problem_stand_side_by_side_the_best_first(tmp_path):
    page, advice = tmp_path / "scores.md", tmp_path / "algorithms.md"
    advice.write_text(f"# Before\n{FROM}old\n{TO}after\n")
    publish({}, page=page)
    assert "No problem has been given to two learners yet." in advice.read_text()
    told = {"qmix": "2.40", "vdn": "2.42", "mappo": "2.39"}
    rows = {row.slug: row for row in STANDING if row.problem in ("Almgren-Chriss, team of 4", "climbing")}
    cells = {
        slug: cells_of(row, told.get(row.algo, "9")) | {"95 %": "1 to 2", "steps": "10", "s a seed": "3"}
        for slug, row in rows.items()
        if row.algo in told
    }
    publish(cells, page=page)
    text = advice.read_text()
    assert text.startswith("# Before\n")
    assert text.endswith("after\n")
    costs, returns = sorted(line for line in text.splitlines() if " (10 steps, 3 s)" in line)
    assert [costs.index(algo) for algo in ("mappo 2.39", "qmix 2.40", "vdn 2.42")] == sorted(
        costs.index(algo) for algo in told
    )
    assert returns.index("vdn 2.42") < returns.index("qmix 2.40"), "a return is the better the larger it is"
    assert "Merton" not in text
    advice.write_text("# Before\nafter\n")
    with pytest.raises(InputError, match=r"algorithms\.md has lost the line"):
        publish(cells, page=tmp_path / "scores.md")
    page.unlink()
    with pytest.raises(InputError):
        publish({}, page=page)
    assert not page.exists(), "nothing is written where not all can be"


def test_page_in_the_repository_is_what_its_figures_make(tmp_path):
    copy, advice = tmp_path / "scores.md", PAGE.with_name("algorithms.md")
    copy.with_suffix(".json").write_bytes(PAGE.with_suffix(".json").read_bytes())
    copy.with_name(advice.name).write_text(advice.read_text())
    publish({}, page=copy)
    assert copy.read_text() == PAGE.read_text()
    assert copy.with_name(advice.name).read_text() == advice.read_text()
    assert copy.with_suffix(".json").read_bytes() == PAGE.with_suffix(".json").read_bytes()

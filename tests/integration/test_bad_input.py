"""Every mistake of a user: one clear line, exit code 2, and nothing is started or written over."""

import re

import numpy as np
import pandas as pd
import pytest
from commands import CLOCK, MARKET, tree

from experiments.backtest import run as backtest
from experiments.checkpoints import run as checkpoints
from experiments.recovery.lock import run_lock
from experiments.run import run

pytestmark = pytest.mark.usefixtures("no_ray")


def prices(num_bars=300, tics=("AAA", "BBB", "CCC")):
    """A long table of prices, in the order of dates."""
    rng = np.random.default_rng(0)
    dates = pd.bdate_range("2020-01-01", periods=num_bars)
    frames = []
    for tic in tics:
        close = 100 * np.exp(np.cumsum(0.01 * rng.standard_normal(num_bars)))
        columns = {"open": close * 0.999, "high": close * 1.01, "low": close * 0.99, "close": close, "volume": 1e6}
        frames.append(pd.DataFrame({"date": dates, "tic": tic, **columns}))
    return pd.concat(frames).sort_values(["date", "tic"], ignore_index=True)


def without(column):
    return lambda table: table.drop(columns=column)


def renamed(old, new):
    return lambda table: table.rename(columns={old: new})


def with_cell(row, column, value):
    def change(table):
        table.loc[row, column] = value
        return table

    return change


FILES = [
    (without("close"), "close"),
    (renamed("close", "clsoe"), "clsoe"),
    (lambda table: pd.concat([table, table.iloc[[7]]]), "the same date"),
    (with_cell(5, "close", np.nan), "close"),
    (with_cell(5, "open", 0.0), "open"),
    (with_cell(5, "low", -1.0), "low"),
    (with_cell(5, "high", 1.0), "high"),
    (lambda table: table.head(90), "bars"),
]


@pytest.mark.parametrize(("change", "word"), FILES)
def test_price_file_is_refused(mistake, tmp_path, change, word):
    change(prices()).to_csv(tmp_path / "prices.csv", index=False)
    line = mistake("--data.path", "prices.csv", "--name", "new", "--floor.horizon-bars", 20)
    assert word in line
    assert not (tmp_path / "results" / "new").exists()


def test_empty_price_file_is_refused(mistake, tmp_path):
    (tmp_path / "prices.csv").write_text("")
    assert "prices.csv is empty: it needs a row of names of columns" in mistake("--data.path", "prices.csv")


def test_short_history_is_told_how_many_bars_are_enough(mistake, tmp_path):
    prices(num_bars=200).to_csv(tmp_path / "prices.csv", index=False)
    words = ["--data.path", "prices.csv", "--name", "new", "--floor.horizon-bars", 20]
    (enough,) = re.findall(r"\((\d+) bars are enough\)", mistake(*words))
    prices(num_bars=int(enough) - 10).to_csv(tmp_path / "prices.csv", index=False)
    assert "bars are enough" in mistake(*words)
    prices(num_bars=int(enough)).to_csv(tmp_path / "prices.csv", index=False)
    with pytest.raises(AssertionError, match="before Ray was started"):
        run([str(word) for word in words])


def test_calendars_that_differ_are_refused_where_that_was_asked_for(mistake, tmp_path):
    prices().drop(index=[40]).to_csv(tmp_path / "prices.csv", index=False)
    line = mistake("--data.path", "prices.csv", "--data.calendar", "strict")
    assert "BBB" in line


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--data.path", "nowhere.csv"], "nowhere.csv"),
        (["--data.path", "."], "is a folder without a price file"),
        (["--data.assets", "ALFA", "BRAVVO"], "did you mean"),
        (["--capital", "0"], "--floor.capital is '0'"),
        (["--capital", "-5"], "--floor.capital is '-5'"),
        (["--capital", "1e300"], "--floor.capital is '1e300': input should be less than or equal to"),
        (["--seed", "99999999999"], "--seed is '99999999999': input should be less than or equal to 2147483647"),
        (["--episodes", "9" * 24], "input should be less than or equal to 1000000000000"),
        (["--storage", ""], "--storage is '': it is empty"),
        (["--config", ""], "--config is '': it is empty"),
        (["--config", "."], "cannot read .: Is a directory"),
        (["--captal", "5"], "did you mean '--capital'"),
        (["--algo", "qmixx"], "did you mean 'qmix'"),
        (["--data.synthetic.num-bars", "100"], "bars"),
        (["--floor.horizon-bars", "100000"], "bars"),
        (["--desk.action", "continuous"], "use impala, appo, maddpg, mappo, ippo, ppo, sac or tqc"),
        (["--qmix.hidden", "64", "0"], "--qmix.hidden is '0'"),
        (["--algo", "ppo", "--ppo.hidden", "-5"], "--ppo.hidden is '-5'"),
        (
            ["--qmix.num-layers", "1000000"],
            "--qmix.num-layers is '1000000': input should be less than or equal to 1000",
        ),
        (["--algo", "tqc", "--tqc.n-critics", "1001"], "--tqc.n-critics is '1001'"),
        (["--algo", "dqn", "--dqn.hidden", "0"], "--dqn.hidden is '0'"),
        (["--algo", "dqn", "--dqn.training-intensity", "-1"], "--dqn.training-intensity is '-1'"),
        (["--algo", "ppo", "--ppo.grad-clip", "0"], "--ppo.grad-clip is '0'"),
        (["--algo", "ppo", "--ppo.minibatch-size", "5000"], "--ppo.minibatch-size is 5000, more than the batch"),
        (
            ["--algo", "ppo", "--ppo.train-batch-size-per-learner", "8"],
            "raise --ppo.train-batch-size-per-learner above",
        ),
        (["--scaling.num-env-runners", "-1"], "--scaling.num-env-runners is '-1'"),
        (["--scaling.num-envs-per-env-runner", "0"], "--scaling.num-envs-per-env-runner is '0'"),
        (["--scaling.num-learners", "-1"], "--scaling.num-learners is '-1'"),
        (["--scaling.num-gpus-per-learner", "-1"], "--scaling.num-gpus-per-learner is '-1'"),
        (["--scaling.num-gpus-per-env-runner", "-1"], "--scaling.num-gpus-per-env-runner is '-1'"),
        (["--scaling.num-cpus-per-env-runner", "-1"], "--scaling.num-cpus-per-env-runner is '-1'"),
        (["--load-model", "nowhere"], "nowhere does not exist"),
        (["--skip-training", "--name", "nowhere"], "nowhere"),
        (["--resume", "nowhere"], "nowhere does not exist"),
        (["--json", "."], "--json"),
    ],
)
def test_setting_is_refused(mistake, tmp_path, argv, words):
    name = [] if "--name" in argv else ["--name", "new"]
    assert words in mistake(*argv, *name)
    assert not (tmp_path / "results" / "new").exists()


@pytest.mark.parametrize("algo", ["qmix", "ppo", "dqn"])
def test_networks_without_layers_are_refused(mistake, tmp_path, algo):
    (tmp_path / "mine.yaml").write_text(f"{algo}:\n  hidden: []\n")
    assert f"{algo}.hidden is []" in mistake("--config", "mine.yaml", "--algo", algo)


def test_key_that_does_not_exist_is_refused_with_the_nearest(mistake, tmp_path):
    (tmp_path / "mine.yaml").write_text("qmix:\n  leraning_starts: 3\n")
    assert "did you mean 'qmix.learning_starts'" in mistake("--config", "mine.yaml")


@pytest.mark.parametrize("storage", ["file", "file/below", "/proc/nowhere", "s3://bucket/results"])
def test_storage_that_cannot_be_written_is_refused(mistake, tmp_path, storage):
    (tmp_path / "file").write_text("mine")
    assert "--storage" in mistake("--storage", storage)
    assert (tmp_path / "file").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


# --- run folders ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        '{"format": 1, "config": {"se',
        "{}",
        '{"format": 99, "config": {}}',
        '{"format": 1, "config": {"sead": 1}}',
    ],
)
def test_damaged_record_is_refused_with_its_file(mistake, folder, text):
    (folder / "config.json").write_text(text)
    before = tree(folder)
    assert "config.json" in mistake("--name", "old")
    assert tree(folder) == before


def test_checkpoints_none_of_which_is_whole_are_refused_and_stay(mistake, folder):
    (folder / "trial_0" / "checkpoint_000000" / "COMPLETE").unlink()
    line = mistake("--name", "old")
    assert "none of the 2 checkpoints in" in line
    assert "checkpoint_000000 is damaged, COMPLETE: is missing" in line
    assert "checkpoint_000001 is damaged, checkpoint_meta.json" in line
    assert len(list(folder.glob("trial_0/damaged-*/checkpoint_meta.json"))) == 2


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("config.json", "a run's own file"),
        ("summary.json", "a run's own file"),
        ("search.json", "a run's own file"),
        ("trial_0/checkpoint_000000/COMPLETE", "in the checkpoint checkpoint_000000"),
        ("trial_0/checkpoint_000000/new.json", "in the checkpoint checkpoint_000000"),
    ],
)
def test_file_for_what_is_printed_is_none_of_the_files_of_a_run(mistake, folder, path, words):
    before = tree(folder)
    assert words in mistake("--name", "old", "--json", folder / path)
    assert tree(folder) == before


@pytest.mark.parametrize(
    ("out", "words"),
    [
        (".", "which a run writes to"),
        ("trial_0", "which a run writes to"),
        ("trial_0/checkpoint_000000", "in the checkpoint checkpoint_000000"),
        ("trial_0/checkpoint_000000/below/it", "in the checkpoint checkpoint_000000"),
    ],
)
def test_results_of_a_backtest_or_an_export_do_not_go_among_the_files_of_a_run(mistake, folder, out, words):
    before = tree(folder)
    assert words in mistake("--model", folder, "--out", folder / out, verb=backtest)
    mistake("export", folder, "--out", folder / out, verb=checkpoints)
    assert tree(folder) == before


@pytest.mark.parametrize("words", [["--name", "old"], ["--load-model", "results/old"]])
def test_results_that_could_not_be_written_are_refused_before_the_backtest(mistake, folder, words):
    (folder / "backtest").write_text("mine")
    before = tree(folder)
    line = mistake(*words, "--skip-training")
    assert "backtest, which is not a folder: choose another place; experiments/backtest.py --model " in line
    assert "results/old --out FOLDER writes elsewhere" in line
    assert tree(folder) == before


@pytest.mark.parametrize("words", [[], ["--resume", "never"], ["--resume", "never", "--search.num-trials", 2]])
def test_run_that_another_process_writes_is_refused_and_stays_where_it_is(mistake, folder, words):
    before = tree(folder)
    with run_lock(folder):
        assert "is being written by process" in mistake("--name", "old", *words)
    assert tree(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["old"]


def test_other_prices_under_an_old_name_are_refused(mistake, folder):
    before = tree(folder)
    assert "--data.synthetic.seed was 0 and is now 9" in mistake("--name", "old", "--data.synthetic.seed", 9)
    assert tree(folder) == before


def test_bad_settings_do_not_move_the_old_run_aside(mistake, folder):
    before = tree(folder)
    mistake("--name", "old", "--resume", "never", "--data.synthetic.num-bars", "100")
    assert tree(folder) == before


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--resume", "results/old/trial_0"], "is not a checkpoint"),
        (["--resume", "results/old/trial_0/checkpoint_000001"], "is damaged, checkpoint_meta.json: has 2 bytes"),
        (["--resume", "results/old/trial_0/checkpoint_000000", "--name", "new"], "no run folder"),
        (["--name", "old", "--resume", "elsewhere"], "elsewhere does not exist"),
    ],
)
def test_named_checkpoint_that_cannot_be_continued_is_refused(mistake, folder, words, complaint):
    before = tree(folder)
    assert complaint in mistake(*words)
    assert tree(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["old"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--desk.num-agents", "2"], "3 agents (trader_0, trader_1, trader_2)"),
        (["--desk.ladder", "-1", "0", "1"], "num_actions of agent 'trader_0' was 5 in training and is 3 here"),
        (["--desk.preset", "roles"], "agents"),
    ],
)
def test_weights_of_other_agents_are_refused(ray_session, mistake, folder, words, complaint, monkeypatch):
    from experiments.tuning import session

    monkeypatch.setattr(session, "start_ray", lambda *_, **__: None)
    monkeypatch.setattr(session.ray, "is_initialized", lambda: True)
    assert complaint in mistake("--load-model", "results/old", "--name", "new", *words)
    assert not (folder.parent / "new").exists()


def test_new_run_that_would_move_its_own_weights_aside_is_refused(ray_session, mistake, folder, monkeypatch):
    from experiments.tuning import session

    monkeypatch.setattr(session, "start_ray", lambda *_, **__: None)
    monkeypatch.setattr(session.ray, "is_initialized", lambda: True)
    monkeypatch.setattr(session, "check_fits", lambda config, market: None)
    assert "choose another --name" in mistake("--load-model", folder, "--name", "old", "--resume", "never", *CLOCK)
    assert (folder / "config.json").exists()


def test_tiny_market_itself_is_fine(capsys):
    """What the refusals above would prove nothing without."""
    with pytest.raises(AssertionError, match="before Ray was started"):
        run([*MARKET, "--name", "new"])

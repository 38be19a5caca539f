"""What earlier versions called settings: read as today's, in records, searches and files."""

import dataclasses
from pathlib import Path

import pytest

from algos.indq.config import INDQSettings
from common.errors import InputError
from envs.settings import DataConfig
from experiments.runs.run import find_run
from experiments.settings.old_names import drawn_name_of_today, settings_of_today
from experiments.settings.run_config import RunConfig, config_from_json, config_to_json

NEW_OF_PRICES = {"adjust": "none", "jumps": "accept"}
IDLE = {"reward": None, "num_quantiles": 0, "huber_kappa": 1.0}
"""What every old record says of qmix's group beside what it has now."""


def recorded(algo, **own):
    """A record as it was written before independent Q-learning had a group of its own."""
    values = config_to_json(RunConfig()) | {"algo": algo}
    del values["indq"]
    return values | {"qmix": {**values["qmix"], **IDLE, **own}}


def test_old_settings_of_iql_are_those_of_indq():
    own = {"num_quantiles": 32, "reward": "team", "huber_kappa": 0.5, "lr": 0.1, "hypernet_hidden": 7}
    config = config_from_json(recorded("iql", **own))
    assert config.algo == "indq"
    assert config.indq == INDQSettings(num_quantiles=32, reward="team", huber_kappa=0.5, lr=0.1)
    assert (config.qmix.lr, config.qmix.hypernet_hidden) == (0.1, 7), "weights may be loaded into VDN as before"


def test_agents_of_iql_that_were_not_told_were_paid_their_own():
    assert config_from_json(recorded("iql")).indq == INDQSettings(reward="own")


@pytest.mark.parametrize("algo", ["qmix", "vdn", "ppo"])
def test_old_settings_of_others_lose_what_they_had_no_use_for(algo):
    config = config_from_json(recorded(algo, lr=0.1, reward="team"))
    assert (config.algo, config.qmix.lr, config.indq) == (algo, 0.1, INDQSettings())


def test_what_this_version_writes_stays_as_it_is():
    values = config_to_json(RunConfig(algo="indq", indq=INDQSettings(num_quantiles=4)))
    assert settings_of_today(values) == values
    assert config_to_json(config_from_json(values)) == values
    with pytest.raises(InputError, match=r"unknown setting 'qmix\.num_quantiles'"):
        config_from_json(values | {"qmix": {"num_quantiles": 4}})


def test_a_record_is_translated_once():
    once = settings_of_today(recorded("iql", num_quantiles=3))
    assert settings_of_today(once) == once


def test_what_was_drawn_for_iql_is_drawn_for_indq():
    source = Path("search.json")
    assert drawn_name_of_today("qmix.lr", "indq", source=source) == "indq.lr"
    assert drawn_name_of_today("indq.lr", "indq", source=source) == "indq.lr"
    assert drawn_name_of_today("qmix.lr", "vdn", source=source) == "qmix.lr"


@pytest.mark.parametrize("name", ["env", "hooks", "storage", "data.path", "search.num_trials", "", 3, None])
def test_what_no_search_draws_is_refused(name):
    with pytest.raises(InputError, match=r"^search\.json is damaged: a search draws settings of algorithms alone"):
        drawn_name_of_today(name, "qmix", source=Path("search.json"))


def test_a_file_that_chooses_iql_sets_what_it_set(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("algo: iql\nqmix:\n  num-quantiles: 8\nqmix.lr: 0.1\n")
    found = find_run(["--config", str(path)])
    assert (found.config.algo, found.config.indq) == ("indq", INDQSettings(num_quantiles=8, lr=0.1))
    assert found.by_hand == {"algo": "indq", "indq.num_quantiles": 8, "indq.lr": 0.1, "config": str(path)}
    assert found.config.qmix == RunConfig().qmix


def test_a_file_that_does_not_say_so_is_refused_what_qmix_has_not(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("algo: vdn\nqmix:\n  num_quantiles: 8\n")
    with pytest.raises(InputError, match=r"mine\.yaml: unknown setting 'qmix\.num_quantiles'"):
        find_run(["--config", str(path)])


def test_every_setting_of_before_has_a_place():
    assert {*IDLE} == {f.name for f in dataclasses.fields(INDQSettings)} - set(config_to_json(RunConfig())["qmix"])


def test_a_record_from_before_its_market_took_any_order_has_the_market_of_its_time():
    today = config_to_json(RunConfig())
    costs = {name: value for name, value in today["floor"]["costs"].items() if name != "max_participation"}
    floor = {name: value for name, value in today["floor"].items() if name != "observe_episode"}
    before = {**today, "floor": {**floor, "costs": {**costs, "temporary_impact": 0.5, "permanent_impact": 0.003}}}
    found = config_from_json(before).floor
    assert found.observe_episode
    assert found.costs.max_participation is None
    assert found.costs.permanent_impact == pytest.approx(0.3)
    assert config_from_json(today) == RunConfig()


def test_a_record_from_before_prices_were_looked_at_takes_its_file_as_it_stands():
    today = config_to_json(RunConfig(data=DataConfig(path="prices.csv")))
    before = {**today, "data": {name: value for name, value in today["data"].items() if name not in NEW_OF_PRICES}}
    assert config_from_json(before).data == DataConfig(path="prices.csv", **NEW_OF_PRICES)
    assert config_from_json(today).data == DataConfig(path="prices.csv")
    assert config_from_json({"data": {"path": "prices.csv"}}).data == DataConfig(path="prices.csv"), "no whole record"


def test_a_record_of_one_rate_for_all_that_is_borrowed_pays_it_on_cash_too():
    today = config_to_json(RunConfig())
    costs = {name: value for name, value in today["floor"]["costs"].items() if name != "loan_rate_annual"}
    before = {**today, "floor": {**today["floor"], "costs": {**costs, "borrow_rate_annual": 0.07}}}
    found = config_from_json(before).floor.costs
    assert (found.borrow_rate_annual, found.loan_rate_annual) == (0.07, 0.07)
    assert found.max_participation == 0.1

"""A figure has one meaning: where an evaluation on the floor and a backtest share a name, they share the number."""

from types import SimpleNamespace

import numpy as np
import pytest
from sample_runs import SMALL, ScriptedPolicy

from envs.backtest import policy_trader, run_backtest
from envs.floor import build_floor
from envs.market import build_market
from experiments.builders.environments import environment_of
from experiments.recovery.progress import Progress
from experiments.settings.metric_names import VALIDATION_METRICS
from experiments.settings.run_config import config_from_json, floor_spec
from experiments.tuning.run_trainable import RunTrainable


class Evaluated(RunTrainable):
    """The trainable's evaluation alone, of a policy that follows a script."""

    def __init__(self, run, policy):
        self.run, self.policy, self._progress, self._checkpoints = run, policy, Progress(), None
        self.environment = environment_of(run)

    num_episodes = 0
    eval_env_runner = SimpleNamespace(on_step=None)

    def evaluate(self):
        floor = build_floor(build_market(floor_spec(self.run)), split="validation", start="first")
        self.policy.reset()
        step = floor.reset()
        while step.stats is None:
            step = floor.step(self.policy.act(step.obs))
        return {"env_runners": {"floor": {name: float(value[0]) for name, value in step.stats.items()}}}


def both(desk, floor, policy):
    """Figures of the evaluation, and the backtest of the same bars."""
    run = config_from_json({**SMALL, "desk": desk, "floor": {**SMALL["floor"], **floor}})
    trainable = Evaluated(run, policy)
    trainable._evaluate_now()
    trainable._score({})
    market = build_market(floor_spec(run))
    tested = run_backtest(policy_trader(policy), market, name="strategy", split="validation")
    return trainable._progress.last_metrics, tested


def check(found, tested):
    expected = {name: tested.metrics[name] for name in VALIDATION_METRICS if name in tested.metrics}
    assert set(VALIDATION_METRICS) - set(expected) == {"profit", "total_costs_usd"}
    expected |= {
        "profit": tested.equity[-1] / tested.equity[0] - 1,
        "return": tested.metrics["total_return"],
        "total_costs_usd": tested.metrics["total_costs"],
        "score": tested.metrics["sharpe"],
        "search_score": tested.metrics["sharpe"],
    }
    assert found == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("preset", ["desk", "roles", "rivals"])
def test_evaluation_and_backtest_agree_on_every_figure(preset):
    costs = {
        "commission_fixed_usd": 1.0,
        "cash_rate_annual": 0.03,
        "borrow_rate_annual": 0.02,
        "loan_rate_annual": 0.02,
    }
    found, tested = both({"preset": preset}, {"costs": costs, "max_leverage": 1.5}, ScriptedPolicy())
    check(found, tested)
    assert found["num_trades"] == len(tested.trades) > 100
    assert min(found["turnover"], found["total_costs_usd"], -found["max_drawdown"]) > 0


def test_they_agree_on_a_run_that_ends_in_ruin():
    found, tested = both({}, {"ruin_fraction": 0.97, "costs": {"commission_bps": 50.0}}, ScriptedPolicy())
    assert tested.ruined
    assert (np.diff(tested.equity)[-5:] == 0).all()
    check(found, tested)


def test_they_agree_that_cash_with_interest_risks_nothing():
    class Idle(ScriptedPolicy):
        def act(self, obs, action_mask=None):
            return super().act(obs) * 0 + 2

    found, tested = both({}, {"costs": {"cash_rate_annual": 0.04}}, Idle())
    check(found, tested)
    assert found["profit"] > 0
    assert (found["sharpe"], found["calmar"], found["num_trades"]) == (0, 0, 0)

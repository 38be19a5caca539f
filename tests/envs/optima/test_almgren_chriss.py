import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optima_checks import check_optimum_is_earned, check_state_resumes_exactly, gain_of_deviating, loss_of
from scipy.optimize import minimize

from common.errors import InputError
from envs.optima.almgren_chriss import (
    AlmgrenChrissConfig,
    best_holdings,
    cost_variance,
    expected_cost,
    mean_variance_cost,
    nash_holdings,
    rival_sellers,
    team_holdings,
    urgency,
)
from envs.optima.evaluation import score, value

EVEN = np.linspace(1.0, 0.0, 6)
AT_ONCE = np.array([1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
AVERSE = {"risk_aversion": 0.5, "volatility": 1.5}


def test_known_numbers():
    config = AlmgrenChrissConfig()
    assert urgency(config) == pytest.approx(0.6071, abs=5e-5)
    best = best_holdings(config)
    assert best == pytest.approx([1, 0.542, 0.290, 0.148, 0.062, 0], abs=5e-4)
    assert expected_cost(config, best) == pytest.approx(911_227, abs=1)
    assert cost_variance(config, best) ** 0.5 == pytest.approx(603_431, abs=1)
    assert mean_variance_cost(config, best) == pytest.approx(1_275_356, abs=1)
    assert mean_variance_cost(config, EVEN) == pytest.approx(1_745_500, abs=1)
    assert mean_variance_cost(config, AT_ONCE) == pytest.approx(2_562_500, abs=1)


def test_plan_is_what_a_numerical_optimiser_finds():
    config = AlmgrenChrissConfig()
    found = minimize(
        lambda inner: mean_variance_cost(config, np.concatenate(([1.0], inner, [0.0]))) / 1e6, EVEN[1:-1], tol=1e-12
    )
    assert best_holdings(config)[1:-1] == pytest.approx(found.x, abs=1e-5)


@pytest.mark.parametrize(("sellers", "nash", "team"), [(2, 1.358, 1.2), (4, 3.206, 2.4)])
def test_known_price_of_anarchy(sellers, nash, team):
    fine = rival_sellers(sellers, num_steps=200)
    assert -float(fine.build().plan_value(nash_holdings(fine))[0]) == pytest.approx(nash, abs=5e-4)
    for num_steps in (1, 10, 200):
        config = rival_sellers(sellers, num_steps=num_steps)
        assert -float(config.build().plan_value(team_holdings(config))[0]) == pytest.approx(team)
    coarse = rival_sellers(sellers)
    assert -float(coarse.build().optimal_value[0]) == pytest.approx(nash, abs=1.5e-3)


def test_equilibrium_is_that_of_carlin_lobo_and_viswanathan():
    config = rival_sellers(4, num_steps=400)
    t = np.linspace(0.0, 1.0, 401)
    assert nash_holdings(config) == pytest.approx(1 - (1 - np.exp(-6 * t)) / (1 - np.exp(-6)), abs=2e-4)


@pytest.mark.parametrize("more", [{}, AVERSE])
def test_best_response_to_the_equilibrium_is_the_equilibrium(more):
    config = rival_sellers(3, num_steps=4, **more)
    problem, nash = config.build(), nash_holdings(config)

    others = 1.0 - nash[1:] / nash[:-1]

    def cost_of_first(fractions):
        books, total = torch.ones(1, 3, dtype=torch.float64), 0.0
        for k, mine in enumerate([*fractions, 1.0]):
            actions = torch.tensor([[mine, others[k], others[k]]], dtype=torch.float64)[..., None]
            books, reward = problem.move(books, torch.tensor([k]), actions, torch.empty(1, 0))
            total -= float(reward[0, 0])
        return total

    found = minimize(cost_of_first, [0.3, 0.4, 0.5], bounds=[(0, 1)] * 3, tol=1e-12)
    assert others[:-1] == pytest.approx(found.x, abs=1e-3)


SETTINGS = {
    "one": AlmgrenChrissConfig(),
    "rivals": rival_sellers(4),
    "team": rival_sellers(4, reward="team"),
    "averse": rival_sellers(2, **AVERSE),
    "averse-team": rival_sellers(2, reward="team", **AVERSE),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_optimum_is_earned_and_state_resumes(name):
    problem = SETTINGS[name].build()
    check_optimum_is_earned(problem, num_episodes=4, exactly=1e-6)
    check_state_resumes_exactly(problem)
    base = value(problem, problem.baseline, num_episodes=2)
    assert base.mean.tolist() == pytest.approx(problem.baseline_value.tolist(), rel=1e-6)


@pytest.mark.parametrize("name", ["one", "team", "averse-team"])
@settings(max_examples=15, deadline=None, derandomize=True)
@given(data=st.data())
def test_other_plans_earn_less(name, data):
    problem = SETTINGS[name].build()
    steps = problem.num_steps
    way = torch.tensor(data.draw(st.lists(st.floats(-1, 1), min_size=steps - 1, max_size=steps - 1)))
    if float(way.norm()) < 0.3:
        return

    def policy(obs):
        step = round(float(1 - obs[0, 0, 0]) * steps)
        push = float(way[step] / way.norm()) if step < steps - 1 else 0.0
        return problem.optimal(obs) * (1 - 0.1 * push)

    loss, _ = loss_of(problem, policy, num_episodes=2)
    assert loss > 1e-6


@pytest.mark.parametrize("name", ["rivals", "averse"])
@settings(max_examples=15, deadline=None, derandomize=True)
@given(data=st.data())
def test_nobody_gains_by_leaving_the_equilibrium_alone(name, data):
    problem = SETTINGS[name].build()
    agent = data.draw(st.integers(0, problem.num_agents - 1))
    factors = torch.tensor(data.draw(st.lists(st.floats(0, 2), min_size=11, max_size=11)))

    def change(actions, obs):
        step = torch.round((1 - obs[:, 0]) * problem.num_steps).long()
        return (actions * factors[step][:, None]).clamp(0, 1)

    gain, _ = gain_of_deviating(problem, agent, change, num_episodes=2)
    assert gain <= 1e-7


def test_noisy_costs_have_the_same_mean_and_the_known_variance():
    problem = AlmgrenChrissConfig(noisy=True, risk_aversion=0.0).build()
    plan = best_holdings(AlmgrenChrissConfig())
    problem._paths["optimal"] = torch.tensor(plan)
    got = value(problem, problem.optimal, num_episodes=40_000).returns[:, 0] * -1e6
    assert abs(float(got.mean()) - 911_227) < 4 * 603_431 / 200
    assert float(got.std()) == pytest.approx(603_431, rel=0.02)


def test_ladder_plays_an_even_pace_exactly_and_never_sells_more_than_is_left():
    problem = rival_sellers(4, reward="team", actions="ladder").build()
    assert problem.num_actions == 8
    got = check_optimum_is_earned(problem, num_episodes=2)
    assert got.team_mean == pytest.approx(-2.4)
    check_state_resumes_exactly(problem)
    greedy = value(problem, lambda obs: torch.full(obs.shape[:2], 7), num_episodes=2)
    assert greedy.team_mean == pytest.approx(float(problem.plan_value(np.array([1, 0.5] + [0.0] * 9))[0]))
    near = rival_sellers(4, actions="ladder").build()
    nash = value(near, near.optimal, num_episodes=2)
    assert -nash.team_mean == pytest.approx(3.206, abs=0.09)


def test_score_of_the_gain_over_an_even_pace():
    problem = AlmgrenChrissConfig().build()
    plan = value(problem, lambda obs: 0.5 * torch.ones(*obs.shape[:2], 1), num_episodes=2).team_mean
    got = score(plan, float(problem.optimal_value[0]), float(problem.baseline_value[0]))
    assert 0.95 < got < 1.0


def test_settings_that_cannot_be_used_are_refused():
    with pytest.raises(InputError, match="temporary_impact"):
        AlmgrenChrissConfig(permanent_impact=6e-6).build()
    with pytest.raises(InputError, match="0 and 1"):
        rival_sellers(2, actions="ladder", ladder=(0.0, 2.0)).build()
    with pytest.raises(InputError, match="cannot buy"):
        rival_sellers(2, actions="ladder", ladder=(0.0, 1.0, -1.0)).build()

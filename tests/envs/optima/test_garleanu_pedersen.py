import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optima_checks import check_optimum_is_earned, check_state_resumes_exactly, loss_of

from common.errors import InputError
from envs.optima.evaluation import value
from envs.optima.garleanu_pedersen import (
    GarleanuPedersenConfig,
    aim_loadings,
    cost_matrix,
    loading_matrix,
    solve,
    trading_rate,
)

COUPLED = {"num_assets": 3, "agents": "per_asset", "cost_coupling": 0.6}
PHI = np.array([0.05, 0.3])


def test_known_numbers():
    assert trading_rate(0.01, 1.0, 10.0) == pytest.approx(0.26593, abs=5e-6)
    assert aim_loadings(0.01, 1.0, 10.0, 0.01, PHI) == pytest.approx([8826.39, 5562.35], abs=0.01)
    assert GarleanuPedersenConfig().build().optimal_value.tolist() == pytest.approx([0.113697], abs=5e-7)


def test_matrix_solution_is_the_scalar_one_without_coupling():
    got = solve(GarleanuPedersenConfig(num_assets=2))
    assert got.hold == pytest.approx((1 - trading_rate(0.01, 1.0, 10.0)) * np.eye(2), abs=1e-9)
    aim = np.linalg.solve(np.eye(2) - got.hold, got.follow)
    assert aim == pytest.approx(np.kron(np.eye(2), aim_loadings(0.01, 1.0, 10.0, 0.01, PHI)), abs=1e-5)


@pytest.mark.parametrize("coupling", [-0.3, 0.0, 0.6, 0.9])
def test_solution_is_where_value_iteration_leads(coupling):
    config = GarleanuPedersenConfig(num_assets=3, cost_coupling=coupling, discount_rate=0.05)
    costs, loads, rest = cost_matrix(config), loading_matrix(config), 0.95
    risk, stay = 1e-4 * np.eye(3), np.diag(1 - np.tile(PHI, 3))
    shocks = np.diag(np.tile(config.factor_sd, 3) ** 2) @ (np.eye(6) - stay @ stay)
    xx, xf, ff, const = np.zeros((3, 3)), np.zeros((3, 6)), np.zeros((6, 6)), 0.0
    for _ in range(1_500):
        bend = costs + rest * (risk + xx)
        lean = rest * (loads + xf @ stay)
        const = rest * (const + 0.5 * np.trace(ff @ shocks))
        ff = rest * stay @ ff @ stay + lean.T @ np.linalg.solve(bend, lean)
        xf = costs @ np.linalg.solve(bend, lean)
        xx = costs - costs @ np.linalg.solve(bend, costs)
    got = solve(config)
    assert got.a_xx == pytest.approx(xx, abs=1e-12)
    assert got.a_xf == pytest.approx(xf, abs=1e-9)
    assert got.a_ff == pytest.approx(ff, rel=1e-9)
    assert got.a_0 == pytest.approx(const)


def test_table_of_policies():
    problem = GarleanuPedersenConfig(num_steps=900).build()
    config = problem.config

    def half_rate(obs):
        step = 0.5 * trading_rate(config.discount_rate, config.risk_aversion, config.cost)
        aim = (obs[..., 2:].double() * problem._sd).sum(-1, keepdim=True) / config.volatility**2
        return step * (aim - obs[..., 1:2].double() * problem._position_scale) / problem._trade_scale

    table = {"optimal": 0.1137, "baseline": 0.0911, "half": 0.0990, "markowitz": -0.919}
    problem.low, problem.high = (-100.0,), (100.0,)  # Markowitz's trades are larger than any that pay
    for name, policy in {**problem.policies(), "half": half_rate}.items():
        got = value(problem, policy, num_episodes=1_500, seed=3)
        assert got.team_mean == pytest.approx(table[name], abs=4 * got.team_standard_error + 5e-4)


SETTINGS = {
    "one": {},
    "separable": {"num_assets": 3, "agents": "per_asset", "reward": "own"},
    "coupled": COUPLED,
    "joint": {**COUPLED, "agents": "joint"},
    "plain": {"use_discounted_rewards": False},
    "noisy": {"noisy": True},
    "positions": {**COUPLED, "action": "positions"},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_optimum_is_earned_and_state_resumes(name):
    problem = GarleanuPedersenConfig(**{"num_steps": 200, **SETTINGS[name]}).build()
    got = check_optimum_is_earned(problem, num_episodes=4_000)
    assert got.team_standard_error < 0.1 * float(problem.optimal_value.mean())
    check_state_resumes_exactly(GarleanuPedersenConfig(**{**SETTINGS[name], "num_steps": 5}).build())


@pytest.mark.parametrize("num_steps", [1, 7, 60])
def test_value_does_not_depend_on_where_the_episode_is_cut(num_steps):
    problem = GarleanuPedersenConfig(num_steps=num_steps, **COUPLED).build()
    check_optimum_is_earned(problem, num_episodes=20_000)
    assert float(problem.optimal_value[0]) == pytest.approx(
        float(GarleanuPedersenConfig(**COUPLED).build().optimal_value[0])
    )


def test_last_reward_holds_the_value_of_going_on():
    problem = GarleanuPedersenConfig(**COUPLED).build()
    x, z = 3 * torch.randn(20, 3, dtype=torch.float64), torch.randn(20, 3, 2, dtype=torch.float64)
    f = (z * problem._sd).flatten(1).numpy()
    got = problem.solution
    for row in range(20):
        a, b = x[row].numpy(), f[row]
        worth = -0.5 * a @ got.a_xx @ a + a @ got.a_xf @ b + 0.5 * b @ got.a_ff @ b + got.a_0
        assert float(problem._worth_of_going_on(x, z)[row].sum()) == pytest.approx(worth)


@pytest.mark.parametrize("rule", ["optimal", "baseline"])
def test_naming_positions_or_trades_is_the_same_game(rule):
    trades, positions = (GarleanuPedersenConfig(**COUPLED, action=a).build() for a in ("trades", "positions"))
    step = torch.zeros(50, dtype=torch.int64)
    books = [trades.open(torch.rand(50, 6, dtype=torch.float64))] * 2
    for _ in range(20):
        draws = torch.rand(50, 6, dtype=torch.float64)
        done = [
            p.move(b, step, p.policies()[rule](p.observe(b, step)), draws)
            for p, b in zip((trades, positions), books, strict=True)
        ]
        books = [book for book, _ in done]
        assert torch.allclose(*books)
        assert torch.allclose(done[0][1], done[1][1])
    assert float(books[0][:, :3].std()) > 0.1


def test_joint_agent_and_agents_of_one_asset_trade_alike():
    apart = GarleanuPedersenConfig(**COUPLED).build()
    joint = GarleanuPedersenConfig(**{**COUPLED, "agents": "joint"}).build()
    books = apart.open(torch.rand(50, 6, dtype=torch.float64)) + torch.rand(50, 9, dtype=torch.float64)
    step = torch.zeros(50, dtype=torch.int64)
    one = joint.optimal(joint.observe(books, step))[:, 0]
    each = apart.optimal(apart.observe(books, step))[..., 0]
    assert torch.allclose(one, each)
    assert float(one.std()) > 0.1


@pytest.mark.parametrize("name", ["one", "coupled", "noisy", "positions"])
@settings(max_examples=8, deadline=None, derandomize=True)
@given(data=st.data())
def test_other_rules_earn_less(name, data):
    problem = GarleanuPedersenConfig(**{"num_steps": 100, **SETTINGS[name]}).build()
    width = problem.obs_dim - 1
    way = torch.tensor(data.draw(st.lists(st.floats(-1, 1), min_size=width, max_size=width)), dtype=torch.float64)
    if float(way.norm()) < 0.3:
        return

    def policy(obs):
        return problem.optimal(obs) + 0.2 * (obs[..., 1:].double() @ way / way.norm())[..., None]

    loss, error = loss_of(problem, policy, num_episodes=1_000)
    assert loss > -4 * error
    if not problem.config.noisy:
        assert loss > 2 * error


def test_settings_that_cannot_be_used_are_refused():
    with pytest.raises(InputError, match="no known optimum"):
        GarleanuPedersenConfig(num_assets=2, cost_coupling=0.5, reward="own").build()
    with pytest.raises(InputError, match="earn money"):
        GarleanuPedersenConfig(num_assets=4, cost_coupling=-0.5).build()
    with pytest.raises(InputError, match="2 factors, factor_sd 1"):
        GarleanuPedersenConfig(factor_sd=(0.1,)).build()
    with pytest.raises(InputError, match="above 0"):
        GarleanuPedersenConfig(factor_decay=(0.0, 0.1)).build()

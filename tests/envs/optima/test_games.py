from itertools import product

import numpy as np
import pytest
import torch
from games import TwoStepGame
from optima_checks import check_optimum_is_earned, check_state_resumes_exactly
from pydantic import ValidationError

from envs.optima.evaluation import value
from envs.optima.games import ClimbingConfig, PenaltyConfig, TwoStepConfig
from envs.optima.rllib import KnownMarketEnv

GAMES = {
    "two-step": TwoStepConfig(),
    "climbing": ClimbingConfig(),
    **{f"penalty{k}": PenaltyConfig(penalty=k) for k in (0, -25, -50, -75, -100)},
}


@pytest.mark.parametrize("name", GAMES)
def test_optimum_is_earned_and_state_resumes(name):
    problem = GAMES[name].build()
    check_optimum_is_earned(problem, num_episodes=4)
    check_state_resumes_exactly(problem)
    base = value(problem, problem.baseline, num_episodes=4)
    assert torch.equal(base.mean, problem.baseline_value)


def test_known_numbers():
    assert TwoStepConfig().build().optimal_value.tolist() == [8.0, 8.0]
    assert TwoStepConfig().build().baseline_value.tolist() == [7.0, 7.0]
    assert ClimbingConfig().build().optimal_value.tolist() == [275.0, 275.0]
    assert PenaltyConfig(penalty=-25).build().optimal_value.tolist() == [250.0, 250.0]


@pytest.mark.parametrize("name", [name for name in GAMES if name != "two-step"])
def test_no_joint_action_beats_the_optimum_and_the_rest_lose(name):
    problem = GAMES[name].build()
    earned = {}
    for joint in product(range(3), repeat=2):
        got = value(problem, lambda obs, j=joint: torch.tensor(j).expand(len(obs), 2), num_episodes=2)
        earned[joint] = got.team_mean
    assert max(earned.values()) == problem.optimal_value[0]
    ties = [joint for joint, paid in earned.items() if paid == problem.optimal_value[0]]
    assert ties == ([(0, 0)] if name == "climbing" else [(0, 2), (2, 0)])


def test_two_step_game_is_that_of_the_second_implementation():
    ours, other = KnownMarketEnv({"market": "two-step"}), TwoStepGame()
    for plan in product(range(2), repeat=4):
        seen, same = ours.reset()[0], other.reset()[0]
        for joint in (plan[:2], plan[2:]):
            actions = dict(zip(ours.possible_agents, joint, strict=True))
            assert all((seen[agent] == same[agent]).all() for agent in ours.possible_agents)
            assert (ours.state() == other.state()).all()
            (seen, *rest, _), (same, *others, _) = ours.step(actions), other.step(actions)
            assert rest == others


def test_two_step_game_pays_as_published():
    problem = TwoStepConfig().build()
    paid = {}
    for plan in product(range(2), repeat=4):

        def policy(obs, plan=plan):
            at_start = obs[:, :1, 0] > 0
            return torch.where(at_start, torch.tensor(plan[:2]), torch.tensor(plan[2:]))

        paid[plan] = value(problem, policy, num_episodes=2).team_mean
    second = {0: np.full((2, 2), 7.0), 1: np.array([[0.0, 1.0], [1.0, 8.0]])}
    assert paid == {(a, b, c, d): second[a][c, d] for a, b, c, d in product(range(2), repeat=4)}


def test_other_penalties_are_refused():
    with pytest.raises(ValidationError, match="penalty"):
        PenaltyConfig(penalty=-30)

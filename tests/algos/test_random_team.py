import gymnasium as gym
import torch

from algos.random_team import RandomTeam
from algos.team_env import MultiAgentTeamEnv
from envs.benchmarks.rllib import BenchmarkEnv


def test_random_actions_are_allowed_ones_and_all_of_them():
    for market in ({"market": "mpe:simple_speaker_listener"}, {"market": "mpe:simple_spread"}):
        env = MultiAgentTeamEnv([BenchmarkEnv(market) for _ in range(50)])
        step = env.reset(0)
        team = RandomTeam(env)
        team.reset()
        drawn = torch.cat([team.act(step.obs, step.action_mask) for _ in range(4)])
        for n, agent in enumerate(env.agent_ids):
            assert set(drawn[:, n].tolist()) == set(range(env.action_spaces[agent].n))
    box = {"market": "mpe:simple_spread", "settings": {"continuous_actions": True}}
    env = MultiAgentTeamEnv([BenchmarkEnv(box) for _ in range(50)])
    assert isinstance(env.action_spaces["agent_0"], gym.spaces.Box)
    drawn = RandomTeam(env).act(env.reset(0).obs)
    assert drawn.shape == (50, 3, 5)
    assert 0 <= drawn.min() < 0.05 < 0.95 < drawn.max() <= 1

import gymnasium as gym
import numpy as np
import pytest
import torch

from algos.q_networks import AgentNetworks
from algos.q_settings import TeamQSettings

N, F, K = 3, 4, 4
COUNTS = (4, 2, 3)


@pytest.mark.parametrize("num_quantiles", [0, 3])
@pytest.mark.parametrize("use_shared_networks", [True, False])
def test_dueling_values_are_the_states_and_advantages_over_an_agents_own_actions(num_quantiles, use_shared_networks):
    torch.manual_seed(0)
    spaces = [gym.spaces.Box(-9, 9, (F - n % 2,), np.float32) for n in range(N)]
    settings = TeamQSettings(hidden=(8, 6), use_shared_networks=use_shared_networks, dueling=True)
    networks, obs = AgentNetworks(spaces, COUNTS, settings, num_quantiles), torch.randn(N, 7, F)
    outputs = max(1, num_quantiles)
    features = networks.encoder(obs)
    values = networks.value_head(features).view(N, 7, 1, outputs)
    advantages = networks.head(features).view(N, 7, K, outputs)
    got = networks(obs)[0].view(N, 7, K, outputs)
    for n, count in enumerate(COUNTS):
        own = advantages[n, :, :count]
        assert torch.allclose(got[n, :, :count], values[n] + own - own.mean(1, keepdim=True), atol=1e-6)
        assert torch.allclose(got[n, :, :count].mean(1), values[n, :, 0], atol=1e-6)

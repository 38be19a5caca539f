import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from algos.encoders import make_encoder
from algos.nets import TeamEncoder, TeamLinear
from algos.network_settings import TeamNetworkSettings
from common.errors import IncompatibleError

N, R, F = 3, 5, 4


def observe(seed=0):
    return torch.randn(N, R, F, generator=torch.Generator().manual_seed(seed))


def plain(layer: TeamLinear, agent: int) -> nn.Linear:
    """The same layer of one agent as torch's own."""
    n = 0 if layer.is_shared else agent
    one = nn.Linear(layer.weight.shape[1], layer.weight.shape[2])
    with torch.no_grad():
        one.weight.copy_(layer.weight[n].T)
        one.bias.copy_(layer.bias[n, 0])
    return one


@pytest.mark.parametrize("is_shared", [True, False])
def test_team_layer_equals_torchs_linear_layer_agent_by_agent(is_shared):
    layer, x = TeamLinear(N, F, 7, is_shared=is_shared), observe()
    wanted = torch.stack([plain(layer, n)(x[n]) for n in range(N)])
    assert torch.allclose(layer(x), wanted, atol=1e-6)


def test_new_weights_are_within_torchs_bounds_and_differ_between_agents():
    layer = TeamLinear(N, 100, 50, is_shared=False)
    assert float(layer.weight.detach().abs().max()) <= 0.1
    assert abs(float(layer.weight.detach().std()) - 0.1 / 3**0.5) < 0.002
    assert not torch.equal(layer.weight[0], layer.weight[1])


def test_separate_networks_are_n_single_ones():
    team, x = TeamEncoder(N, F, (8, 6), is_recurrent=False, is_shared=False), observe()
    for n in range(N):
        single = nn.Sequential(*(m for layer in team.layers for m in (plain(layer, n), nn.ReLU())))
        assert torch.allclose(team(x)[n], single(x[n]), atol=1e-6)


def test_the_offset_of_a_shared_network_is_a_one_hot_id_appended_to_the_observation():
    team, x = TeamEncoder(N, F, (8,), is_recurrent=False, is_shared=True), observe()
    appended = nn.Linear(F + N, 8)
    with torch.no_grad():
        appended.weight.copy_(torch.cat([team.layers[0].weight[0], team.agent_offset[:, 0]]).T)
        appended.bias.copy_(team.layers[0].bias[0, 0])
    ids = torch.eye(N).unsqueeze(1).expand(N, R, N)
    assert torch.allclose(team(x), torch.relu(appended(torch.cat([x, ids], -1))), atol=1e-6)
    same = x[:1].expand(N, R, F)
    assert not torch.allclose(team(same)[0], team(same)[1]), "agents that see the same are told apart"


@pytest.mark.parametrize("is_recurrent", [True, False])
@pytest.mark.parametrize("use_agent_id", [None, True, False])
def test_agents_of_a_shared_network_without_an_id_are_alike(use_agent_id, is_recurrent):
    settings = TeamNetworkSettings(network="gru" if is_recurrent else "mlp", use_agent_id=use_agent_id)
    team = make_encoder([spaces.Box(-9, 9, (F,), np.float32)] * N, settings, hidden=(8, 6))
    memory = torch.zeros(N, R, team.memory) if is_recurrent else None
    seen = team(observe()[:1].expand(N, R, F), memory)
    assert torch.allclose(seen[0], seen[1], atol=1e-6) == (use_agent_id is False)


@pytest.mark.parametrize("use_agent_id", [True, False])
def test_own_networks_have_no_use_for_an_id(use_agent_id):
    with pytest.raises(ValueError, match=f"use_agent_id is {use_agent_id}, but use_shared_networks is False"):
        TeamNetworkSettings(use_shared_networks=False, use_agent_id=use_agent_id)
    boxes = [spaces.Box(-9, 9, (F,), np.float32)] * N
    assert make_encoder(boxes, TeamNetworkSettings(use_shared_networks=False), hidden=(8,)).agent_offset is None


def test_agents_that_observe_different_things_cannot_be_alike():
    boxes = [spaces.Box(-9, 9, (width,), np.float32) for width in (F, F + 1)]
    with pytest.raises(IncompatibleError, match=rf"observe different things \(widths \[{F}, {F + 1}\]\): leave it out"):
        make_encoder(boxes, TeamNetworkSettings(use_agent_id=False), hidden=(8,))
    assert make_encoder(boxes, TeamNetworkSettings(), hidden=(8,)).agent_offset is not None


@pytest.mark.parametrize("is_shared", [True, False])
@pytest.mark.parametrize("hidden", [(6,), (8, 6)])
def test_recurrent_encoder_equals_torchs_gru(hidden, is_shared):
    team = TeamEncoder(N, F, hidden, is_recurrent=True, is_shared=is_shared)
    sequence = [observe(seed) for seed in range(4)]
    memory, seen = torch.zeros(N, R, 6), []
    for x in sequence:
        memory = team(x, memory)
        seen.append(memory)
    for n in range(N):
        first = (lambda x, n=n: x) if len(hidden) == 1 else _first_layer(team, n)
        gates_in, gates_mem = plain(team.gates_in, n), plain(team.gates_mem, n)
        gru = nn.GRU(gates_in.in_features, 6)
        with torch.no_grad():
            gru.weight_ih_l0.copy_(gates_in.weight)
            gru.weight_hh_l0.copy_(gates_mem.weight)
            gru.bias_ih_l0.copy_(gates_in.bias)
            gru.bias_hh_l0.copy_(gates_mem.bias)
            if is_shared and len(hidden) == 1:
                gru.bias_ih_l0.add_(team.agent_offset[n, 0])
        wanted, _ = gru(torch.stack([first(x[n]) for x in sequence]))
        assert torch.allclose(torch.stack(seen)[:, n], wanted, atol=1e-6)


def _first_layer(team, n):
    layer = plain(team.layers[0], n)
    offset = 0 if team.agent_offset is None else team.agent_offset[n, 0]
    return lambda x: torch.relu(layer(x) + offset)


@pytest.mark.parametrize("is_shared", [True, False])
@pytest.mark.parametrize("hidden", [(6,), (8, 6)])
def test_unrolling_is_stepping_and_forgets_at_the_end_of_an_episode(hidden, is_shared):
    team, T = TeamEncoder(N, F, hidden, is_recurrent=True, is_shared=is_shared), 5
    dice = torch.Generator().manual_seed(1)
    obs, memory = torch.randn(N, T, R, F, generator=dice), torch.randn(N, R, 6, generator=dice)
    ended = torch.rand(T, R, generator=dice) < 0.4
    assert ended[:-1].any()
    out = team.unroll(obs, memory, ended)
    for r in range(R):
        kept = memory[:, r : r + 1]
        for t in range(T):
            kept = team(obs[:, t, r : r + 1], kept)
            torch.testing.assert_close(out[:, t, r : r + 1], kept, atol=1e-6, rtol=1e-5)
            if ended[t, r]:
                kept = torch.zeros_like(kept)

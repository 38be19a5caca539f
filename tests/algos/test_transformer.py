"""The transformer is torch's own, agent by agent, and sees the bars of an agent's own window and nothing else."""

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from algos.encoders import make_encoder
from algos.network_settings import NetworkSettings, TeamNetworkSettings
from algos.transformer import Block, TransformerEncoder, sinusoids
from algos.windows import Window, WindowBox
from common.errors import IncompatibleError

N, R, D, HEADS = 3, 5, 8, 2
WINDOWS, WIDTHS = [Window(2, 4, 3), Window(1, 4, 2), Window(2, 4, 3)], [14, 12, 15]
"""The second agent sees narrower bars and three numbers behind them, the third one."""


def encoder_of(*, is_shared=False, windows=WINDOWS, widths=WIDTHS, num_layers=2, seed=0):
    torch.manual_seed(seed)
    return TransformerEncoder(windows, widths, d_model=D, num_heads=HEADS, num_layers=num_layers, is_shared=is_shared)


def observe(seed=0, rows=R):
    """Observations with zeros beyond each agent's width, as every environment gives them."""
    obs = torch.randn(N, rows, max(WIDTHS), generator=torch.Generator().manual_seed(seed))
    for n, width in enumerate(WIDTHS):
        obs[n, :, width:] = 0.0
    return obs


def stirred(module):
    """No scale stays 1 and no shift 0, so that one that is forgotten is seen."""
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return module


def torchs_own(block: Block, agent: int) -> nn.TransformerEncoderLayer:
    """The same block of one agent as torch's own layer."""

    def copy(layer, team):
        n = 0 if len(team.weight) == 1 else agent
        layer.weight.copy_(team.weight[n].T if layer.weight.dim() == 2 else team.weight[n, 0])
        layer.bias.copy_(team.bias[n, 0])

    own = nn.TransformerEncoderLayer(D, HEADS, 4 * D, dropout=0.0, norm_first=True, batch_first=True)
    with torch.no_grad():
        for i, team in enumerate((block.query, block.key, block.value)):
            n = 0 if len(team.weight) == 1 else agent
            own.self_attn.in_proj_weight[i * D : (i + 1) * D] = team.weight[n].T
            own.self_attn.in_proj_bias[i * D : (i + 1) * D] = team.bias[n, 0]
        for layer, team in (
            (own.self_attn.out_proj, block.merge),
            (own.norm1, block.attention_norm),
            (own.norm2, block.feedforward_norm),
            (own.linear1, block.widen),
            (own.linear2, block.narrow),
        ):
            copy(layer, team)
    return own


@pytest.mark.parametrize("is_shared", [True, False])
def test_block_equals_torchs_own_layer_agent_by_agent(is_shared):
    torch.manual_seed(0)
    block = stirred(Block(N, D, HEADS, is_shared=is_shared))
    tokens = torch.randn(N, R, 6, D)
    for n in range(N):
        wanted = torchs_own(block, n)(tokens[n])
        torch.testing.assert_close(block(tokens, 6)[n], wanted, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(block(tokens, 1)[n], wanted[:, :1], atol=1e-5, rtol=1e-5)


def test_positions_start_as_the_papers_sines_and_cosines():
    for width in (6, 7):
        for p in range(5):
            for i in range(width):
                angle = p / 10_000 ** ((i - i % 2) / width)
                wanted = math.cos(angle) if i % 2 else math.sin(angle)
                assert float(sinusoids(5, width)[p, i]) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("is_shared", [True, False])
def test_encoder_is_the_papers_token_by_token(is_shared):
    """Written out: one agent, one row; tokens put together by hand, torch's own layers, the first token read out."""
    encoder, obs = stirred(encoder_of(is_shared=is_shared)), observe()
    out = encoder(obs)
    assert out.shape == (N, R, D)
    for n, (window, width) in enumerate(zip(WINDOWS, WIDTHS, strict=True)):
        k = 0 if is_shared else n
        row, end = obs[n, 0], window.lead + window.num_bars * window.width
        own = torch.cat([row[: window.lead], row[end:width]])
        tokens = [own @ encoder.embed_own.weight[k][: len(own)] + encoder.embed_own.bias[k, 0]]
        for w in range(window.num_bars):
            bar = row[window.lead + w * window.width : window.lead + (w + 1) * window.width]
            embedded = bar @ encoder.embed_bar.weight[k][: window.width] + encoder.embed_bar.bias[k, 0]
            tokens.append(embedded + encoder.positions[k, 0, w])
        if is_shared:
            tokens = [token + encoder.agent_offset[n, 0, 0] for token in tokens]
        x = torch.stack(tokens).unsqueeze(0)
        for block in encoder.blocks:
            x = torchs_own(block, n)(x)
        first = nn.functional.layer_norm(x[0, 0], (D,), encoder.norm.weight[k, 0], encoder.norm.bias[k, 0])
        torch.testing.assert_close(out[n, 0], first, atol=2e-5, rtol=1e-4)


def test_separate_networks_are_n_single_ones():
    windows, widths = [Window(2, 4, 3)] * N, [15] * N
    team, obs = stirred(encoder_of(windows=windows, widths=widths)), torch.randn(N, R, 15)
    for n in range(N):
        single = TransformerEncoder(windows[:1], widths[:1], d_model=D, num_heads=HEADS, num_layers=2, is_shared=False)
        single.load_state_dict({name: value[n : n + 1] for name, value in team.state_dict().items()})
        torch.testing.assert_close(team(obs)[n], single(obs[n : n + 1])[0], atol=1e-5, rtol=1e-5)


def test_order_of_the_bars_counts_by_their_positions_alone():
    encoder, obs = encoder_of(), observe()
    window = WINDOWS[0]
    bars = obs[0, :, window.lead :][:, : window.num_bars * window.width].unflatten(-1, (window.num_bars, -1))
    turned = obs.clone()
    turned[0, :, window.lead : window.lead + 12] = bars.flip(1).flatten(1)
    assert not torch.allclose(encoder(obs)[0], encoder(turned)[0], atol=1e-2)
    with torch.no_grad():
        encoder.positions.zero_()
    torch.testing.assert_close(encoder(obs)[0], encoder(turned)[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("is_shared", [True, False])
def test_every_number_of_an_agents_own_observation_counts_and_no_other(is_shared):
    encoder, obs = stirred(encoder_of(is_shared=is_shared)), observe().requires_grad_()
    for n, width in enumerate(WIDTHS):
        (slope,) = torch.autograd.grad(encoder(obs)[n].square().sum(), obs)
        assert bool((slope[n, :, :width] != 0).all())
        assert not slope[n, :, width:].any()
        assert not slope[[m for m in range(N) if m != n]].any()


def test_agents_that_share_a_network_and_see_the_same_are_told_apart():
    windows = [Window(0, 4, 3)] * N
    encoder = encoder_of(is_shared=True, windows=windows, widths=[12] * N)
    same = torch.randn(1, R, 12).expand(N, R, 12)
    out = encoder(same)
    assert not torch.allclose(out[0], out[1], atol=1e-2)


@pytest.mark.parametrize("is_shared", [True, False])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_every_weight_gets_a_gradient(is_shared, num_layers):
    encoder = encoder_of(is_shared=is_shared, num_layers=num_layers)
    (encoder(observe()) * torch.randn(N, R, D)).sum().backward()
    # Softmax does not see what is added to all its scores, so that the bias of the keys has none.
    without = {name for name, p in encoder.named_parameters() if not p.grad.abs().max() > 1e-5}
    assert without == {f"blocks.{i}.key.bias" for i in range(num_layers)}


@pytest.mark.parametrize("use_agent_id", [None, False])
def test_a_shared_transformer_tells_agents_apart_unless_it_is_told_of_none(use_agent_id):
    boxes = [WindowBox(spaces.Box(-9, 9, (9,), np.float32), WINDOWS[1][:])] * N
    settings = TeamNetworkSettings(network="transformer", use_agent_id=use_agent_id)
    seen = make_encoder(boxes, settings, hidden=(8,))(torch.randn(1, R, 9).expand(N, R, 9))
    assert torch.allclose(seen[0], seen[1], atol=1e-5) == (use_agent_id is False)


def test_observation_that_says_nothing_of_bars_is_one_bar():
    boxes = [spaces.Box(-9, 9, (4,), np.float32)] * 2
    encoder = make_encoder(boxes, TeamNetworkSettings(network="transformer"), hidden=(8,))
    assert encoder.num_bars == 1
    assert encoder.bar_columns.tolist() == [[[0, 1, 2, 3]]] * 2
    assert encoder.own_columns.shape[-1] == 0
    assert encoder(torch.randn(2, R, 4)).shape == (2, R, NetworkSettings().d_model)
    assert encoder(torch.randn(2, 0, 4)).shape == (2, 0, NetworkSettings().d_model), (
        "a rollout in which no episode ended has no final rows"
    )


def test_windows_of_different_length_and_heads_that_do_not_fit_are_refused():
    boxes = [WindowBox(spaces.Box(-9, 9, (4,), np.float32), w) for w in ((0, 2, 2), (0, 4, 1))]
    with pytest.raises(IncompatibleError, match=r"agents see \[2, 4\] bars: use network=mlp"):
        make_encoder(boxes, TeamNetworkSettings(network="transformer"), hidden=(8,))
    with pytest.raises(ValueError, match="d_model is 6, which num_heads 4 does not divide"):
        NetworkSettings(network="transformer", d_model=6)
    assert NetworkSettings(d_model=6).network == "mlp", "which has no heads"


def test_it_learns_to_find_the_one_bar_that_holds_the_answer():
    """One of eight bars, another each time, carries a mark; what stands beside the mark is asked for."""
    torch.manual_seed(0)
    windows = [Window(1, 8, 3)]
    encoder = TransformerEncoder(windows, [25], d_model=16, num_heads=2, num_layers=1, is_shared=True)
    head = nn.Linear(16, 1)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=3e-3)

    def sample(rows):
        bars = torch.randn(rows, 8, 3)
        bars[..., 0] = 0.0
        marked = torch.randint(8, (rows,))
        bars[torch.arange(rows), marked, 0] = 2.0
        answer = bars[torch.arange(rows), marked, 1]
        return torch.cat([torch.zeros(rows, 1), bars.flatten(1)], 1).unsqueeze(0), (answer > 0).float()

    for _ in range(250):
        obs, answer = sample(256)
        loss = nn.functional.binary_cross_entropy_with_logits(head(encoder(obs))[0, :, 0], answer)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        obs, answer = sample(2000)
        right = ((head(encoder(obs))[0, :, 0] > 0).float() == answer).float().mean()
    assert float(right) > 0.9

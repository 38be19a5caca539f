"""Attention over agents is the paper's formula, head by head, and an agent does not attend to itself."""

import pytest
import torch

from algos.agent_attention import AgentAttention
from common.errors import IncompatibleError

N, R, E, HEADS = 3, 4, 6, 2


def attention_of(is_shared, num_agents=N):
    torch.manual_seed(0)
    return AgentAttention(num_agents, E, HEADS, is_shared=is_shared)


def written_out(module, n, own, tokens):
    """Iqbal and Sha 2019, eq. 5 and 6, for one agent and one row: own token [E], tokens of all [N, E]."""
    seen, size = [], E // HEADS
    for h in range(HEADS):
        part = slice(h * size, (h + 1) * size)
        query = (module.query.weight @ own)[part]
        others = [j for j in range(len(tokens)) if j != n]
        scores = torch.stack([query @ (module.key.weight @ tokens[j])[part] / size**0.5 for j in others])
        values = [torch.relu(module.value.weight @ tokens[j] + module.value.bias)[part] for j in others]
        seen.append(sum(w * v for w, v in zip(torch.softmax(scores, 0), values, strict=True)))
    k = 0 if module.join.is_shared else n
    joined = torch.relu(torch.cat([own, *seen]) @ module.join.weight[k] + module.join.bias[k, 0])
    return joined @ module.head.weight[k] + module.head.bias[k, 0]


@pytest.mark.parametrize("is_shared", [True, False])
@pytest.mark.parametrize("is_one_for_all", [True, False])
def test_values_are_the_papers_formula_head_by_head(is_shared, is_one_for_all):
    module = attention_of(is_shared)
    own, tokens = torch.randn(N, R, E), torch.randn(1 if is_one_for_all else N, R, N, E)
    out = module(own, tokens)
    assert out.shape == (R, N)
    for n in range(N):
        for r in range(R):
            wanted = written_out(module, n, own[n, r], tokens.expand(N, -1, -1, -1)[n, r])
            torch.testing.assert_close(out[r, n], wanted[0], atol=1e-5, rtol=1e-5)


def test_an_agent_that_is_alone_is_valued_by_its_own_token():
    module = attention_of(True, num_agents=1)
    own = torch.randn(1, R, E)
    a, b = (module(own, torch.randn(1, R, 1, E)) for _ in range(2))
    assert a.isfinite().all()
    assert torch.equal(a, b)


def test_tokens_that_heads_cannot_share_are_refused():
    with pytest.raises(IncompatibleError, match="num_heads 4 does not divide 6"):
        AgentAttention(N, 6, 4, is_shared=True)

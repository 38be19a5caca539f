"""Policies and critics with a memory go through a sequence as they would step by step."""

import pytest
import torch
from maddpg_modules import BOXES, draw, loosened, module_of

from algos.maddpg.module import NEXT_Q, POLICY_Q, Q
from algos.replay import TeamBatch


def test_sequences_begin_without_memory_and_forget_where_an_episode_ended():
    module, L, S = loosened(module_of(network="gru")), 4, 5
    obs, following = torch.randn(2, L, S, 2, 3, generator=draw(1))
    ended = torch.rand(L, S, generator=draw(2)) < 0.4
    following[:-1] = torch.where(ended[:-1, :, None, None], following[:-1], obs[1:])
    blank = torch.zeros(L, S)
    joint = TeamBatch(obs, blank, blank, blank, following, ended, None, None, None)
    now, then = (module.agents.of_batch(joint, with_next=w).view(L, S, 2, -1) for w in (False, True))
    for s in range(S):
        memory = torch.zeros(2, 1, 8)
        for t in range(L):
            out, memory = module.agents(obs[t, s].unsqueeze(1), memory)
            torch.testing.assert_close(now[t, s], out[:, 0], atol=1e-6, rtol=1e-5)
            ahead, _ = module.agents(following[t, s].unsqueeze(1), memory)
            torch.testing.assert_close(then[t, s], ahead[:, 0], atol=1e-6, rtol=1e-5)
            memory = torch.zeros_like(memory) if ended[t, s] else memory


@pytest.mark.parametrize("reward", ["team", "own"])
@pytest.mark.parametrize("centralised", [False, True])
def test_critics_remember_what_was_done_and_judge_each_step_by_it(reward, centralised):
    module, L, S = module_of(BOXES, network="gru", reward=reward, use_centralised_gradient=centralised), 4, 5
    with torch.no_grad():
        for p in module.target_critic.parameters():
            p.add_(0.1 * torch.randn_like(p))
    obs, following = torch.randn(2, L, S, 2, 3, generator=draw(1))
    taken, ended = torch.rand(L, S, 2, 3, generator=draw(2)), torch.rand(L, S, generator=draw(3)) < 0.4
    blank = torch.zeros(L, S)
    joint = TeamBatch(obs, taken, blank, blank, following, ended, None, None, None)
    noise = module.draw_noise(L * S, draw(4))
    out = module.forward_train({"joint": joint, "noise": noise})
    C = 2 if reward == "own" else 1
    q, next_q = out[Q][0].view(L, S, C), out[NEXT_Q].view(L, S, C)
    policy_q = out[POLICY_Q].view(L, S, 2)
    chosen = module._differentiable(module.agents.of_batch(joint, with_next=False), None, noise.policy)
    chosen = chosen.view(L, S, 2, 3)
    then = module._target_actions(joint, None, noise.target).view(L, S, 2, 3)

    def row(o, a):
        return torch.cat([o.flatten(), a.flatten()]).view(1, 1, -1).expand(C, 1, -1)

    critic, target = module.critic[0], module.target_critic[0]
    for s in range(S):
        memory = target_memory = torch.zeros(C, 1, 8)
        for t in range(L):
            for n in range(2):
                mixed = (chosen if centralised else taken)[t, s].clone()
                mixed[n] = chosen[t, s, n]
                judged = critic.head(critic.encoder(row(obs[t, s], mixed), memory))[n if C == 2 else 0, 0, 0]
                torch.testing.assert_close(policy_q[t, s, n], judged, atol=1e-5, rtol=1e-5)
            memory = critic.encoder(row(obs[t, s], taken[t, s]), memory)
            target_memory = target.encoder(row(obs[t, s], taken[t, s]), target_memory)
            torch.testing.assert_close(q[t, s], critic.head(memory)[:, 0, 0], atol=1e-5, rtol=1e-5)
            ahead = target.head(target.encoder(row(following[t, s], then[t, s]), target_memory))[:, 0, 0]
            torch.testing.assert_close(next_q[t, s], ahead, atol=1e-5, rtol=1e-5)
            if ended[t, s]:
                memory, target_memory = torch.zeros_like(memory), torch.zeros_like(memory)


def test_memory_and_noise_are_carried_beside_each_other():
    module = module_of(BOXES, network="gru", noise="ou", ou_theta=0.2)
    carry = module.initial_carry(6)
    assert carry.shape == (6, 2, 8 + 3)
    obs = torch.randn(6, 2, 3, generator=draw(1))
    first = module.act(obs, None, carry, explore=True, generator=draw(2)).carry
    _, wanted = module.agents(obs.transpose(0, 1), torch.zeros(2, 6, 8))
    torch.testing.assert_close(first[..., :8], wanted.transpose(0, 1))
    torch.testing.assert_close(first[..., 8:], 0.6 * torch.randn(6, 2, 3, generator=draw(2)))
    second = module.act(obs, None, first, explore=False).carry
    assert torch.equal(second[..., 8:], first[..., 8:])
    assert not torch.allclose(second[..., :8], first[..., :8])

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from algos.qmix.module import Q_TOT, TARGET_Q_TOT, MonotonicMixer, SumMixer, TeamQModule
from algos.replay import TeamBatch
from common.errors import IncompatibleError

N, F, K, G = 3, 4, 4, 5
COUNTS = (4, 2, 3)
SMALL = {"hidden": (8, 6), "mixing_embed_dim": 5, "hypernet_hidden": 7}


def module_of(*, mixer="qmix", inference_only=False, seed=0, spaces=None, **changed) -> TeamQModule:
    torch.manual_seed(seed)
    obs = {str(n): gym.spaces.Box(-9, 9, (F - n % 2,), np.float32) for n in range(N)}
    actions = spaces or {str(n): gym.spaces.Discrete(k) for n, k in enumerate(COUNTS)}
    module = TeamQModule(
        observation_space=gym.spaces.Dict({"obs": gym.spaces.Dict(obs), "state": gym.spaces.Box(-9, 9, (G,))}),
        action_space=gym.spaces.Dict(actions),
        model_config={"settings": {**SMALL, **changed}, "mixer": mixer},
        inference_only=inference_only,
    )
    if not inference_only:  # targets that differ from the networks, as after some updates
        with torch.no_grad():
            for p in (*module.target_agents.parameters(), *module.target_mixer.parameters()):
                p.add_(0.1 * torch.randn_like(p))
    return module


def batch_of(length=1, samples=6, seed=0) -> TeamBatch:
    rng = np.random.default_rng(seed)
    ended = rng.random((length, samples)) < 0.4
    obs = rng.standard_normal((length, samples, N, F)).astype(np.float32)
    next_obs = rng.standard_normal((length, samples, N, F)).astype(np.float32)
    next_obs[:-1] = np.where(ended[:-1, :, None, None], next_obs[:-1], obs[1:])
    mask = rng.random((length, samples, N, K)) < 0.5
    mask[..., 0] = True
    for n, count in enumerate(COUNTS):
        mask[:, :, n, count:] = False
    return TeamBatch(
        obs=torch.from_numpy(obs),
        actions=torch.from_numpy(np.stack([rng.integers(0, c, (length, samples)) for c in COUNTS], -1)),
        rewards=torch.from_numpy(rng.standard_normal((length, samples)).astype(np.float32)),
        discounts=torch.full((length, samples), 0.9),
        next_obs=torch.from_numpy(next_obs),
        ended=torch.from_numpy(ended),
        next_mask=torch.from_numpy(mask),
        state=torch.from_numpy(rng.standard_normal((length, samples, G)).astype(np.float32)),
        next_state=torch.from_numpy(rng.standard_normal((length, samples, G)).astype(np.float32)),
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_the_team_value_never_falls_when_an_agents_value_rises(seed):
    torch.manual_seed(seed)
    mixer = MonotonicMixer(N, G, embed=5, hidden=7)
    qs = (10 * torch.randn(40, N)).requires_grad_()
    mixer(qs, 10 * torch.randn(40, G)).sum().backward()
    assert float(qs.grad.min()) >= 0.0
    assert float(qs.grad.max()) > 0.0


def test_the_mixer_is_the_papers_formula_row_by_row():
    torch.manual_seed(0)
    mixer, qs, state = MonotonicMixer(N, G, embed=5, hidden=7), torch.randn(7, N), torch.randn(7, G)
    for r in range(7):
        w1 = mixer.weights_1(state[r]).abs().reshape(N, 5)
        w2 = mixer.weights_2(state[r]).abs()
        hidden = torch.nn.functional.elu(qs[r] @ w1 + mixer.bias_1(state[r]))
        assert torch.allclose(mixer(qs, state)[r], hidden @ w2 + mixer.bias_2(state[r])[0], atol=1e-5)


def test_the_state_changes_how_agents_are_mixed():
    mixer, qs = MonotonicMixer(N, G, embed=5, hidden=7), torch.randn(1, N)
    assert not torch.allclose(mixer(qs, torch.zeros(1, G)), mixer(qs, torch.ones(1, G)))


def test_vdn_adds_up():
    assert SumMixer()(torch.tensor([[1.0, 2.0, 4.0]]), None).tolist() == [7.0]
    module, batch = module_of(mixer="vdn"), batch_of()
    qs = module.agents(batch.obs[0].transpose(0, 1))[0].transpose(0, 1)
    wanted = qs.gather(-1, batch.actions[0].unsqueeze(-1)).squeeze(-1).sum(-1)
    assert torch.allclose(module.forward_train({"joint": batch})[Q_TOT][0], wanted, atol=1e-6)


def slow_values(module, networks, batch):
    """Values of obs and of what they led to, one sample after the other; memory starts empty after every end."""
    L, S = batch.rewards.shape
    now, following = torch.zeros(L, S, N, K), torch.zeros(L, S, N, K)
    memory_size = networks.encoder.memory
    for s in range(S):
        memory = torch.zeros(N, 1, memory_size) if memory_size else None
        for t in range(L):
            q, after = networks(batch.obs[t, s].unsqueeze(1), memory)
            now[t, s] = q[:, 0]
            following[t, s] = networks(batch.next_obs[t, s].unsqueeze(1), after)[0][:, 0]
            is_over = bool(batch.ended[t, s])
            memory = after if after is None or not is_over else torch.zeros_like(after)
    return now, following


@pytest.mark.parametrize("mixer", ["qmix", "vdn", "none"])
@pytest.mark.parametrize("double_q", [True, False])
@pytest.mark.parametrize(("network", "length"), [("mlp", 1), ("gru", 6)])
@pytest.mark.parametrize("use_shared_networks", [True, False])
def test_values_and_targets_equal_a_slow_reference(mixer, double_q, network, length, use_shared_networks):
    module = module_of(mixer=mixer, double_q=double_q, network=network, use_shared_networks=use_shared_networks)
    batch = batch_of(length)
    mix = [lambda qs, state, m=m: qs if mixer == "none" else m(qs, state) for m in (module.mixer, module.target_mixer)]
    out = module.forward_train({"joint": batch})
    with torch.no_grad():
        now, following = slow_values(module, module.agents, batch)
        _, target_following = slow_values(module, module.target_agents, batch)
        for t in range(length):
            for s in range(batch.rewards.shape[1]):
                chosen = torch.stack([now[t, s, n, batch.actions[t, s, n]] for n in range(N)])
                nexts = []
                for n in range(N):
                    allowed = [k for k in range(K) if batch.next_mask[t, s, n, k]]
                    judge = following if double_q else target_following
                    best = max(allowed, key=lambda k, n=n, judge=judge: float(judge[t, s, n, k]))
                    nexts.append(target_following[t, s, n, best])
                q_tot = mix[0](chosen.unsqueeze(0), batch.state[t, s : s + 1])
                target = mix[1](torch.stack(nexts).unsqueeze(0), batch.next_state[t, s : s + 1])
                assert torch.allclose(out[Q_TOT][t, s], q_tot, atol=1e-5)
                assert torch.allclose(out[TARGET_Q_TOT][t, s], target, atol=1e-5)
    assert out[Q_TOT].requires_grad
    assert not out[TARGET_Q_TOT].requires_grad


@pytest.mark.parametrize("double_q", [True, False])
@pytest.mark.parametrize(("network", "length"), [("mlp", 1), ("gru", 4)])
@pytest.mark.parametrize("dueling", [True, False])
def test_quantiles_of_the_action_with_the_best_mean_are_the_targets(double_q, network, length, dueling):
    module = module_of(mixer="none", num_quantiles=5, double_q=double_q, network=network, dueling=dueling)
    batch, samples = batch_of(length), 6
    values = [module._unroll(networks, batch) for networks in (module.agents, module.target_agents)]
    (now, following), (_, target_following) = ([v.detach().view(length, samples, N, K, 5) for v in p] for p in values)
    out = module.forward_train({"joint": batch})
    judge = following if double_q else target_following
    for t in range(length):
        for s in range(samples):
            for n in range(N):
                allowed = [k for k in range(K) if batch.next_mask[t, s, n, k]]
                best = max(allowed, key=lambda k, at=(t, s, n): float(judge[*at, k].mean()))
                assert torch.equal(out[TARGET_Q_TOT][t, s, n], target_following[t, s, n, best])
                assert torch.equal(out[Q_TOT][t, s, n], now[t, s, n, batch.actions[t, s, n]])
    assert not out[TARGET_Q_TOT].requires_grad
    acted = module.act(batch.obs[0], None, module.initial_carry(samples), explore=False).actions
    assert torch.equal(acted, now[0].mean(-1).masked_fill(~module.allowed, -1e9).argmax(-1))


def test_without_masks_only_actions_that_an_agent_has_are_considered():
    module, batch = module_of(double_q=False), batch_of()
    allowed = module.allowed.expand(1, 6, N, K)
    given_mask = module.forward_train({"joint": batch._replace(next_mask=allowed)})
    no_mask = module.forward_train({"joint": batch._replace(next_mask=None)})
    assert torch.equal(given_mask[TARGET_Q_TOT], no_mask[TARGET_Q_TOT])
    actions = module.act(torch.randn(500, N, F), None, explore=True, timestep=0).actions
    assert actions.amax(0).tolist() == [c - 1 for c in COUNTS]


@pytest.mark.parametrize("network", ["mlp", "gru"])
def test_learning_and_acting_see_the_same_values(network):
    module, batch = module_of(network=network), batch_of(5, 4)
    carry = module.initial_carry(4)
    now, _ = slow_values(module, module.agents, batch)
    for t in range(5):
        acted = module.act(batch.obs[t], None, carry, explore=False)
        best = now[t].masked_fill(~module.allowed, -1e9).argmax(-1)
        assert torch.equal(acted.actions, best)
        carry = acted.carry
        if carry is not None:
            carry[batch.ended[t]] = 0.0


def test_exploration_is_uniform_over_allowed_actions_with_chance_epsilon():
    module = module_of(epsilon_start=0.6, epsilon_end=0.6)
    obs = torch.randn(1, N, F).expand(30_000, N, F)
    mask = torch.tensor([[1, 1, 0, 1], [1, 1, 0, 0], [1, 0, 1, 0]], dtype=torch.bool)
    draws = torch.Generator().manual_seed(1)
    taken = module.act(obs, mask.expand(30_000, N, K), explore=True, generator=draws).actions
    best = module.act(obs[:1], mask.expand(1, N, K), explore=False).actions[0]
    for n in range(N):
        counts = torch.bincount(taken[:, n], minlength=K)
        assert not counts[~mask[n]].any()
        options = mask[n].nonzero()[:, 0]
        expected = torch.full((len(options),), 0.6 * 30_000 / len(options))
        expected[options == best[n]] += 0.4 * 30_000
        assert stats.chisquare(counts[options].numpy(), expected.numpy()).pvalue > 0.01


def test_targets_move_by_tau_and_carry_no_gradient():
    module = module_of()
    pairs = [(module.agents, module.target_agents), (module.mixer, module.target_mixer)]
    before = [[p.detach().clone() for p in target.parameters()] for _, target in pairs]
    module.update_targets(0.25)
    for (online, target), old in zip(pairs, before, strict=True):
        for p, t, o in zip(online.parameters(), target.parameters(), old, strict=True):
            assert torch.allclose(t, 0.25 * p.detach() + 0.75 * o, atol=1e-6)
            assert not t.requires_grad
    module.update_targets(1.0)
    for online, target in pairs:
        assert all(torch.equal(p, t) for p, t in zip(online.parameters(), target.parameters(), strict=True))


def test_a_runners_copy_has_the_agents_alone_and_takes_their_weights():
    whole, copy = module_of(seed=1), module_of(seed=2, inference_only=True)
    assert {name.split(".")[0] for name in copy.get_state()} == {"agents"}
    copy.set_state(whole.get_state(inference_only=True))
    obs = torch.randn(9, N, F)
    assert torch.equal(copy.act(obs, None, explore=False).actions, whole.act(obs, None, explore=False).actions)


def test_continuous_actions_are_refused_by_name():
    spaces = {str(n): gym.spaces.Discrete(2) for n in range(N)} | {"1": gym.spaces.Box(-1, 1, (2,))}
    with pytest.raises(IncompatibleError, match="discrete actions; these agents have others: 1"):
        module_of(spaces=spaces)

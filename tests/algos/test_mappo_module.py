from collections import OrderedDict
from dataclasses import asdict

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from torch.distributions import Independent, Normal

from algos.mappo.config import MAPPOSettings
from algos.mappo.module import STATISTICS, TeamActorCritic
from algos.running import RunningScale
from common.errors import IncompatibleError

DISCRETE = (gym.spaces.Discrete(2), gym.spaces.Discrete(4))
BOXES = (gym.spaces.Box(-2.0, 4.0, (1,), np.float32), gym.spaces.Box(0.0, 1.0, (3,), np.float32))


def module_of(
    actions=DISCRETE, *, state_dim=5, is_central=True, is_own=False, inference_only=False, **settings
) -> TeamActorCritic:
    torch.manual_seed(0)
    boxes = [("zoe", gym.spaces.Box(-9, 9, (3,), np.float32)), ("abe", gym.spaces.Box(-9, 9, (2,), np.float32))]
    state = gym.spaces.Box(-9, 9, (state_dim,), np.float32)
    obs = gym.spaces.Dict(OrderedDict(obs=gym.spaces.Dict(OrderedDict(boxes)), state=state))
    own = {"settings": asdict(MAPPOSettings(hidden=(8,), **settings)), "is_central": is_central, "is_own": is_own}
    acts = gym.spaces.Dict(OrderedDict(zip(("zoe", "abe"), actions, strict=True)))
    return RLModuleSpec(
        module_class=TeamActorCritic,
        observation_space=obs,
        action_space=acts,
        inference_only=inference_only,
        model_config=own,
    ).build()


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def loosened(module):
    """Give policies preferences: they start with next to none."""
    with torch.no_grad():
        module.agents.head.weight.mul_(200)
    return module


@pytest.mark.parametrize("explore", [True, False])
def test_forbidden_actions_and_those_an_agent_lacks_are_never_chosen(explore):
    module = loosened(module_of())
    obs = torch.randn(500, 2, 3, generator=draw(1))
    mask = torch.rand(500, 2, 4, generator=draw(2)) < 0.5
    mask[:, 0, 2:] = False
    mask[~mask.any(-1)] = torch.tensor([True, False, False, False])
    acted = module.act(obs, mask, explore=explore, generator=draw(3))
    assert mask.gather(-1, acted.actions.unsqueeze(-1)).all()
    assert len(acted.actions[:, 1].unique()) == 4
    with torch.no_grad():
        module.agents.head.bias[..., 2:] += 20  # what zoe would like best she does not have
    free = module.act(obs, None, explore=explore, generator=draw(3))
    assert free.actions[:, 0].max() <= 1
    assert free.actions[:, 1].min() >= 2


@pytest.mark.parametrize("actions", [DISCRETE, BOXES], ids=["discrete", "continuous"])
@pytest.mark.parametrize("is_shared", [True, False])
def test_learning_sees_the_probabilities_that_acting_drew_by(actions, is_shared):
    module = loosened(module_of(actions, use_shared_networks=is_shared))
    obs, state = torch.randn(9, 2, 3, generator=draw(1)), torch.randn(9, 5, generator=draw(2))
    acted = module.act(obs, None, explore=True, generator=draw(3))
    out = module.forward_train({"obs": obs, "state": state, "actions": acted.stored})
    torch.testing.assert_close(out["logp"], acted.logp)
    assert out["values"].shape == out["entropy"].shape == (9, 2)


def test_numbers_are_drawn_from_a_gaussian_and_reach_the_environment_inside_its_box():
    module = loosened(module_of(BOXES, initial_std=0.7))
    obs = torch.randn(1, 2, 3, generator=draw(1)).expand(20_000, 2, 3)
    acted = module.act(obs, None, explore=True, generator=draw(4))
    greedy = module.act(obs, None, explore=False)
    for n, space in enumerate(BOXES):
        width = space.shape[0]
        drawn, mean = acted.stored[:, n, :width], greedy.stored[0, n, :width]
        torch.testing.assert_close(drawn.mean(0), mean, atol=0.03, rtol=0)
        torch.testing.assert_close(drawn.std(0), torch.full((width,), 0.7), atol=0.02, rtol=0)
        wanted = Independent(Normal(mean, torch.full((width,), 0.7)), 1).log_prob(drawn)
        torch.testing.assert_close(acted.logp[:, n], wanted)
        low, high = torch.from_numpy(space.low), torch.from_numpy(space.high)
        into_box = (low + (drawn + 1) * (high - low) / 2).clamp(low, high)
        torch.testing.assert_close(acted.actions[:, n, :width], into_box)
        assert space.contains(acted.actions[0, n, :width].numpy())
        torch.testing.assert_close(greedy.actions[0, n, :width], (low + (mean + 1) * (high - low) / 2).clamp(low, high))
    assert not acted.stored[:, 0, 1:].any()


def test_central_values_follow_the_state_alone_and_own_values_each_agents_observation():
    obs, state = torch.randn(4, 2, 3, generator=draw(1)), torch.randn(4, 5, generator=draw(2))
    other = obs.clone()
    other[:, 1] += 1
    for is_own in (False, True):
        critic = module_of(is_own=is_own).critic
        assert torch.equal(critic(obs, state), critic(other, state))
        assert not torch.equal(critic(obs, state), critic(obs, state + 1))
        assert torch.equal(critic(obs, state)[:, 0], critic(obs, state)[:, 1]) != is_own
    critic = module_of(is_central=False).critic
    assert torch.equal(critic(obs, None)[:, 0], critic(other, None)[:, 0])
    assert not torch.equal(critic(obs, None)[:, 1], critic(other, None)[:, 1])


def test_shared_policies_tell_agents_apart_and_separate_ones_share_nothing():
    same = torch.ones(2, 2, 3)
    shared, separate = loosened(module_of(BOXES)), loosened(module_of(BOXES, use_shared_networks=False))
    out, _ = shared.agents(shared.agents.encoder(same))
    assert not torch.allclose(out[0], out[1])
    out, _ = separate.agents(separate.agents.encoder(same))
    out[0].sum().backward()
    gradients = [p.grad for p in separate.agents.parameters() if p.grad is not None]
    assert gradients
    assert all(not g[1].any() for g in gradients if len(g) == 2)


def test_values_are_normalised_by_all_returns_so_far_as_numpy_has_it():
    from algos.mappo.learner import moments_of_all

    rng = np.random.default_rng(0)
    critic = module_of(is_own=True).critic
    parts = [rng.normal([5.0, -1e-3], [3.0, 1e-4], (n, 2)) for n in (7, 40, 3)]
    assert torch.equal(critic.normalise(torch.ones(3, 2)), torch.ones(3, 2))
    for part in parts:
        critic.see(moments_of_all(torch.from_numpy(part)))
    seen = np.concatenate(parts)
    returns = torch.from_numpy(seen).float()
    wanted = (seen - seen.mean(0)) / seen.std(0)
    np.testing.assert_allclose(critic.normalise(returns).numpy(), wanted, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(critic.denormalise(critic.normalise(returns)), returns)
    scale = RunningScale()
    for part in parts:
        scale.update(part[:, 0])
    assert critic.statistics[2, 0].item() == pytest.approx(scale.sum_squares)


def test_values_are_left_alone_without_normalisation_and_where_returns_never_vary():
    for settings in ({"use_value_normalisation": False}, {}):
        critic = module_of(**settings).critic
        critic.see(torch.tensor([[10.0], [3.0], [4.0 if settings else 0.0]], dtype=torch.float64))
        assert torch.equal(critic.normalise(torch.ones(3, 2)), torch.ones(3, 2)), settings


def test_statistics_of_returns_come_back_to_the_last_bit():
    module, other = module_of(), module_of()
    exact = torch.tensor([[1e9 + 1], [1 / 3], [1e5 / 7]], dtype=torch.float64)
    module.critic.see(exact)
    other.set_state(module.get_state())
    assert torch.equal(other.critic.statistics, exact)
    assert torch.equal(other.critic.statistics, module.critic.statistics)


def test_runner_takes_over_the_policies_and_has_no_value_function():
    module, runner = module_of(), module_of(inference_only=True)
    assert not hasattr(runner, "critic")
    with torch.no_grad():
        module.agents.head.bias.add_(1)
    state = module.get_state(inference_only=True)
    assert STATISTICS not in state
    runner.set_state(module.get_state())
    assert torch.equal(runner.agents.head.bias, module.agents.head.bias)


def test_what_does_not_fit_is_refused():
    with pytest.raises(IncompatibleError, match="must act all in Discrete or all in Box spaces, but it has Discrete"):
        module_of((DISCRETE[0], BOXES[0]))
    with pytest.raises(IncompatibleError, match="this environment has none: use ippo"):
        module_of(state_dim=0)

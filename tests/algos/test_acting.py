import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import TorchSquashedGaussian
from ray.rllib.utils.spaces.space_utils import unsquash_action
from scipy import stats
from torch.distributions import Categorical, Independent, Normal, TanhTransform, TransformedDistribution

from algos.acting import ModuleActor, agents_by_module, unsquash
from algos.masks import MASKED_LOGIT
from common.errors import IncompatibleError

CHOICE = gym.spaces.Discrete(4)


class Given:
    """A module whose distribution is a fixed linear function of what it sees."""

    def __init__(self, width, outputs, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.weight = torch.randn(width, outputs, generator=generator)

    def forward_exploration(self, batch, t=None):
        out = batch[Columns.OBS] @ self.weight
        if "action_mask" in batch:
            out = out.masked_fill(~batch["action_mask"], MASKED_LOGIT)
        return {Columns.ACTION_DIST_INPUTS: out}

    def forward_inference(self, batch):
        return self.forward_exploration(batch)


def team(num_agents=3, space=CHOICE, width=3, outputs=4):
    actor = ModuleActor(
        {"shared": Given(width, outputs)}, {"shared": range(num_agents)}, [width] * num_agents, [space] * num_agents
    )
    return actor, actor.modules["shared"].weight


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def test_draws_follow_softmax():
    actor, weight = team(num_agents=1)
    obs = torch.randn(1, 1, 3, generator=draw(5)).expand(40_000, 1, 3)
    acted = actor.act(obs, None, explore=True, generator=draw(1))
    expected = torch.softmax((obs[0, 0] @ weight).double(), -1) * 40_000
    counts = torch.bincount(acted.actions[:, 0], minlength=4)
    assert stats.chisquare(counts.numpy(), expected.numpy()).pvalue > 0.01


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_forbidden_actions_are_never_taken_and_logp_is_that_of_what_is_allowed(seed):
    actor, weight = team()
    rng = np.random.default_rng(seed)
    mask = rng.random((50, 3, 4)) < 0.4
    mask[..., 2] |= ~mask.any(-1)
    mask = torch.from_numpy(mask)
    obs = torch.from_numpy(10 * rng.standard_normal((50, 3, 3)).astype(np.float32))
    for explore in (True, False):
        acted = actor.act(obs, mask, explore=explore, generator=draw(seed))
        assert bool(mask.gather(-1, acted.actions.unsqueeze(-1)).all())
    logits = (obs @ weight).masked_fill(~mask, -torch.inf)
    assert torch.equal(acted.actions, logits.argmax(-1))
    assert torch.allclose(acted.logp, Categorical(logits=logits).log_prob(acted.actions), atol=1e-4)


def test_logp_of_choices_equals_torchs():
    actor, weight = team()
    obs = torch.randn(100, 3, 3, generator=draw(2))
    acted = actor.act(obs, None, explore=True, generator=draw(3))
    assert torch.allclose(acted.logp, Categorical(logits=obs @ weight).log_prob(acted.actions), atol=1e-5)
    assert torch.equal(acted.stored, acted.actions)
    assert torch.allclose(acted.dist_inputs["shared"], obs @ weight)


def test_gaussian_draws_have_the_mean_spread_and_density_of_their_distribution():
    space = gym.spaces.Box(-2.0, 4.0, (2,), np.float32)
    actor, weight = team(num_agents=1, space=space)
    obs = 0.3 * torch.randn(1, 1, 3, generator=draw(4)).expand(50_000, 1, 3)
    acted = actor.act(obs, None, explore=True, generator=draw(5))
    mean, log_std = (obs @ weight)[0, 0].chunk(2)
    wanted = Independent(Normal(mean, log_std.exp()), 1)
    assert torch.allclose(acted.logp, wanted.log_prob(acted.stored), atol=1e-4)
    spread = log_std.exp()
    assert torch.allclose(acted.stored[:, 0].mean(0), mean, atol=5 * float(spread.max()) / 50_000**0.5)
    assert torch.allclose(acted.stored[:, 0].std(0), spread, rtol=0.03)
    assert torch.equal(acted.actions[:, 0], unsquash(acted.stored[:, 0], space))
    greedy = actor.act(obs, None, explore=False)
    assert torch.equal(greedy.stored[0, 0], mean)


class GivenSquashed(Given):
    def get_inference_action_dist_cls(self):
        return TorchSquashedGaussian


def test_squashed_draws_have_the_density_of_their_distribution_and_the_greedy_one_is_the_squashed_mean():
    space = gym.spaces.Box(-2.0, 4.0, (2,), np.float32)
    actor = ModuleActor({"shared": GivenSquashed(3, 4)}, {"shared": [0]}, [3], [space])
    obs = 0.3 * torch.randn(1, 1, 3, generator=draw(4)).expand(50_000, 1, 3)
    acted = actor.act(obs, None, explore=True, generator=draw(5))
    mean, log_std = (obs @ actor.modules["shared"].weight)[0, 0].chunk(2)
    wanted = TransformedDistribution(Independent(Normal(mean, log_std.exp()), 1), [TanhTransform()])
    inside = (acted.stored.abs() < 0.99).all(-1)
    assert 0.5 < inside.float().mean() < 1
    assert torch.allclose(acted.logp[inside], wanted.log_prob(acted.stored)[inside], atol=1e-2)
    signs = (acted.stored[:, 0] > torch.tanh(mean)).double().mean(0)
    assert torch.allclose(signs, torch.full((2,), 0.5, dtype=torch.float64), atol=0.02), (
        "the median is squashed with it"
    )
    assert torch.equal(acted.actions[:, 0], unsquash(acted.stored[:, 0], space))
    greedy = actor.act(obs, None, explore=False)
    assert torch.allclose(greedy.stored[0, 0], torch.tanh(mean))


@settings(max_examples=40, deadline=None)
@given(
    low=st.lists(st.floats(-5, 0, width=32), min_size=2, max_size=2),
    span=st.lists(st.floats(0.125, 5, width=32), min_size=2, max_size=2),
    seed=st.integers(0, 1000),
)
def test_unsquash_equals_rllibs(low, span, seed):
    low = np.array(low, np.float32)
    space = gym.spaces.Box(low, low + np.array(span, np.float32), dtype=np.float32)
    actions = 2 * np.random.default_rng(seed).standard_normal((20, 2)).astype(np.float32)
    wanted = np.stack([unsquash_action(a, space) for a in actions])
    np.testing.assert_allclose(unsquash(torch.from_numpy(actions), space).numpy(), wanted, atol=1e-6)


def test_unbounded_actions_are_left_alone_as_rllib_does():
    space = gym.spaces.Box(np.array([-1.0, 0.0], np.float32), np.array([1.0, np.inf], np.float32))
    action = np.array([3.0, 0.5], np.float32)
    assert unsquash_action(action, space).tolist() == action.tolist()
    assert unsquash(torch.from_numpy(action), space).tolist() == action.tolist()


def test_agents_with_networks_of_their_own_see_their_own_width_and_act_in_their_own_columns():
    spaces = [gym.spaces.Discrete(2), gym.spaces.Discrete(3)]
    modules = {"a": Given(2, 2), "b": Given(3, 3, seed=1)}
    actor = ModuleActor(modules, {"b": [1], "a": [0]}, [2, 3], spaces)
    obs = torch.randn(60, 2, 3, generator=draw(6))
    mask = torch.ones(60, 2, 3, dtype=torch.bool)
    mask[:, 1, 0] = False
    acted = actor.act(obs, mask, explore=False)
    assert torch.equal(acted.actions[:, 0], (obs[:, 0, :2] @ modules["a"].weight).argmax(-1))
    assert torch.equal(acted.actions[:, 1], 1 + (obs[:, 1] @ modules["b"].weight)[:, 1:].argmax(-1))
    assert acted.dist_inputs["a"].shape == (60, 1, 2)


def test_continuous_books_of_different_width_are_padded_with_zeros():
    spaces = [gym.spaces.Box(-1, 1, (n,), np.float32) for n in (1, 2)]
    actor = ModuleActor({"a": Given(2, 2), "b": Given(2, 4)}, {"a": [0], "b": [1]}, [2, 2], spaces)
    acted = actor.act(torch.randn(9, 2, 2, generator=draw()), None, explore=True, generator=draw())
    assert acted.actions.shape == (9, 2, 2)
    assert not acted.actions[:, 0, 1].any()
    assert acted.actions[:, 1, 1].all()


def test_modules_that_choose_by_themselves_are_obeyed():
    class Chooser:
        def forward_exploration(self, batch, t=None):
            return {Columns.ACTIONS: torch.full((len(batch[Columns.OBS]),), t)}

    actor = ModuleActor({"shared": Chooser()}, {"shared": [0, 1]}, [3, 3], [CHOICE, CHOICE])
    acted = actor.act(torch.zeros(5, 2, 3), None, explore=True, timestep=3)
    assert acted.actions.tolist() == [[3, 3]] * 5
    assert (acted.logp, acted.dist_inputs) == (None, None)


def test_unlike_agents_cannot_share_a_network():
    with pytest.raises(IncompatibleError, match=r"share network 'shared' .*use_shared_networks=false"):
        ModuleActor({}, {"shared": [0, 1]}, [3, 2], [CHOICE, CHOICE])
    with pytest.raises(IncompatibleError, match="differ in observation width or actions"):
        ModuleActor({}, {"shared": [0, 1]}, [3, 3], [CHOICE, gym.spaces.Discrete(5)])


def test_teams_that_partly_choose_and_partly_set_numbers_are_refused():
    spaces = [CHOICE, gym.spaces.Box(-1, 1, (1,), np.float32)]
    with pytest.raises(IncompatibleError, match="all in Discrete or all in Box"):
        ModuleActor({"a": Given(3, 4), "b": Given(3, 2)}, {"a": [0], "b": [1]}, [3, 3], spaces)


def test_networks_with_memory_are_refused():
    class Stateful:
        def is_stateful(self):
            return True

    with pytest.raises(IncompatibleError, match="has a memory"):
        ModuleActor({"shared": Stateful()}, {"shared": [0]}, [3], [CHOICE])


def test_agents_are_grouped_by_module_in_their_own_order():
    grouped = agents_by_module(["b", "a", "b", "b", "a"])
    assert grouped == {"b": [0, 2, 3], "a": [1, 4]}
    assert list(grouped) == ["b", "a"]

"""Policies act as they are told to explore, and critics judge the joint actions that the paper says."""

import pytest
import torch
from maddpg_modules import BOXES, DISCRETE, KINDS, batch_of, draw, loosened, module_of
from scipy.stats import kstest

from algos.distributions import gumbel_noise, straight_through
from algos.maddpg.algorithm import MADDPGConfig
from algos.maddpg.config import MADDPGSettings
from algos.maddpg.module import NEXT_Q, OUTPUT_SQUARE, POLICY_Q, Noise, Q
from common.errors import IncompatibleError

# -- acting ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("explore", [True, False])
def test_forbidden_actions_and_those_an_agent_lacks_are_never_chosen(explore):
    module = loosened(module_of())
    obs = torch.randn(500, 2, 3, generator=draw(1))
    mask = torch.rand(500, 2, 4, generator=draw(2)) < 0.5
    mask[:, 0, 2:] = False
    mask[~mask.any(-1)] = torch.tensor([True, False, False, False])
    acted = module.act(obs, mask, explore=explore, generator=draw(3))
    assert mask.gather(-1, acted.actions.unsqueeze(-1)).all()
    with torch.no_grad():
        module.agents.head.bias[..., 2:] += 20  # what zoe would like best she does not have
    free = module.act(obs, None, explore=explore, generator=draw(3))
    assert free.actions[:, 0].max() <= 1
    assert free.actions[:, 1].min() >= 2


def test_choices_are_drawn_by_the_softmax_of_the_logits():
    module = loosened(module_of())
    obs = torch.randn(1, 2, 3, generator=draw(1)).expand(40_000, 2, 3)
    acted = module.act(obs, None, explore=True, generator=draw(2))
    wanted = torch.softmax(module.agents(obs[:1].transpose(0, 1))[0][1, 0], -1)
    found = torch.bincount(acted.actions[:, 1], minlength=4) / 40_000
    torch.testing.assert_close(found, wanted.detach(), atol=0.01, rtol=0)


def test_noise_on_numbers_falls_in_a_straight_line_and_stays_inside_the_box():
    module = module_of(BOXES, noise_start=0.4, noise_end=0.1, noise_decay_steps=1_000)
    obs = torch.randn(1, 2, 3, generator=draw(1)).expand(30_000, 2, 3)
    greedy = module.act(obs, None, explore=False)
    assert torch.equal(greedy.actions[0], greedy.actions[-1])
    for step, deviation in ((0, 0.4), (500, 0.25), (1_000, 0.1), (9_000, 0.1)):
        acted = module.act(obs, None, explore=True, generator=draw(step), timestep=step)
        noise = acted.stored[:, 1, 0] - greedy.stored[:, 1, 0]
        middle = float(greedy.stored[0, 1, 0])
        inside = (noise + middle).abs() < 1
        assert float(noise[inside].std()) == pytest.approx(deviation, rel=0.15)
        assert acted.stored.abs().max() <= 1
        assert bool((acted.stored[:, 0, 1:] == 0).all()), "zoe sets one number"
        for n, box in enumerate(BOXES):
            used = acted.actions[:, n, : box.shape[0]]
            low, high = torch.tensor(box.low), torch.tensor(box.high)
            wanted = low + (acted.stored[:, n, : box.shape[0]] + 1) * (high - low) / 2
            torch.testing.assert_close(used, wanted)


def test_ornstein_uhlenbeck_noise_has_its_deviation_and_its_memory():
    module = module_of(BOXES, noise="ou", ou_theta=0.2, noise_start=0.05, noise_end=0.05)
    obs, carry, taken = torch.zeros(4_000, 2, 3), module.initial_carry(4_000), []
    base = module.act(obs, None, carry, explore=False).stored
    generator = draw(5)
    for _ in range(40):
        acted = module.act(obs, None, carry, explore=True, generator=generator)
        carry = acted.carry
        taken.append((acted.stored - base)[:, 1, 0])
    last, before = taken[-1], taken[-2]
    assert float(last.std()) == pytest.approx(0.05, rel=0.05)
    assert float(torch.corrcoef(torch.stack([last, before]))[0, 1]) == pytest.approx(0.8, abs=0.03)
    assert module_of(BOXES).initial_carry(3) is None
    assert module_of(DISCRETE).initial_carry(3) is None


# -- the straight-through choice ---------------------------------------------------------------------------------------


def test_straight_through_choice_is_one_hot_and_has_the_gradient_of_its_softmax():
    logits = torch.randn(5, 4, generator=draw(1), dtype=torch.float64).requires_grad_()
    noise = gumbel_noise((5, 4), draw(2), torch.device("cpu")).double()
    weights = torch.randn(5, 4, generator=draw(3), dtype=torch.float64)
    hard = straight_through(logits, noise, 0.7)
    torch.testing.assert_close(hard.detach().sum(-1), torch.ones(5, dtype=torch.float64))
    assert torch.equal(hard.argmax(-1), (logits + noise).argmax(-1))
    (got,) = torch.autograd.grad((hard * weights).sum(), logits)
    (wanted,) = torch.autograd.grad((torch.softmax((logits + noise) / 0.7, -1) * weights).sum(), logits)
    torch.testing.assert_close(got, wanted)


def test_gumbel_noise_is_of_that_distribution():
    assert kstest(gumbel_noise((20_000,), draw(1), torch.device("cpu")).numpy(), "gumbel_r").pvalue > 0.01


# -- learning ----------------------------------------------------------------------------------------------------------


def alone(critic, n, obs, actions):
    """Value that agent ``n`` has for one joint action; by plain matrix products."""
    row = torch.cat([obs.flatten(), actions.flatten()])
    encoder, head = critic.encoder, critic.head
    m = 0 if critic.num_values == 1 else n
    own = (lambda layer: 0) if encoder.layers[0].is_shared else (lambda layer: m)
    x = row @ encoder.layers[0].weight[own(0)] + encoder.layers[0].bias[own(0), 0]
    if encoder.agent_offset is not None:
        x = x + encoder.agent_offset[m, 0]
    return torch.relu(x) @ head.weight[own(0), :, 0] + head.bias[own(0), 0, 0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reward", ["team", "own"])
@pytest.mark.parametrize("is_shared", [True, False])
@pytest.mark.parametrize("centralised", [None, False, True])
def test_forward_is_what_the_papers_say_sample_by_sample(kind, reward, is_shared, centralised):
    """Policies are judged beside what the others did, or with centralised gradients beside what they would do."""
    chosen = {"target_noise": 0.3} if kind == "continuous" else {}
    chosen |= {"use_shared_networks": is_shared, "use_centralised_gradient": centralised}
    module = loosened(module_of(KINDS[kind], reward=reward, twin_critics=True, **chosen))
    with torch.no_grad():
        for p in module.target_critic.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=draw(8)))
    joint, noise = batch_of(module), module.draw_noise(7, draw(6))
    out = module.forward_train({"joint": joint, "noise": noise})
    obs, following = joint.obs[0], joint.next_obs[0]
    raw = module.agents(obs.transpose(0, 1))[0].transpose(0, 1)
    raw_target = module.target_agents(following.transpose(0, 1))[0].transpose(0, 1)
    if kind == "discrete":
        allowed = module.used
        taken = torch.nn.functional.one_hot(joint.actions[0], 4).float()
        mine = torch.nn.functional.one_hot((raw.masked_fill(~allowed, -1e9) + noise.policy).argmax(-1), 4).float()
        then = torch.nn.functional.one_hot(
            (raw_target.masked_fill(~allowed, -1e9) + noise.target).argmax(-1), 4
        ).float()
    else:
        taken, mine = joint.actions[0], torch.tanh(raw) * module.used
        then = (torch.tanh(raw_target) + (0.3 * noise.target).clamp(-0.5, 0.5)).clamp(-1, 1) * module.used
    for s in range(7):
        for n in range(2):
            column = n if reward == "own" else 0
            for k in range(2):
                wanted = alone(module.critic[k], n, obs[s], taken[s])
                torch.testing.assert_close(out[Q][k, s, column], wanted, atol=1e-5, rtol=1e-4)
            lower = min(alone(c, n, following[s], then[s]) for c in module.target_critic)
            torch.testing.assert_close(out[NEXT_Q][s, column], lower, atol=1e-5, rtol=1e-4)
            joint_action = (mine if centralised else taken)[s].clone()
            joint_action[n] = mine[s, n]
            wanted = alone(module.critic[0], n, obs[s], joint_action)
            torch.testing.assert_close(out[POLICY_Q][s, n], wanted, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(out[OUTPUT_SQUARE], raw[:, module.used].square().mean())


@pytest.mark.parametrize("kind", KINDS)
def test_policies_learn_from_the_critics_and_do_not_change_them(kind):
    module = loosened(module_of(KINDS[kind]))
    out = module.forward_train({"joint": batch_of(module), "noise": module.draw_noise(7, draw(6))})
    (-out[POLICY_Q].mean()).backward(retain_graph=True)
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in module.agents.head.parameters())
    assert all(p.grad is None for p in module.critic.parameters())
    module.zero_grad()
    out[Q].mean().backward()
    assert all(p.grad is None or not bool(p.grad.any()) for p in module.agents.parameters())
    assert all(p.grad is not None for p in module.critic.parameters())


@pytest.mark.parametrize("critic", ["mlp", "attention"])
def test_centralised_gradient_is_that_of_the_value_of_what_all_would_do(critic):
    """Peng et al. 2021: each policy climbs its own part of the value, whether all share it or each has one."""
    settings = {"critic": critic, "num_heads": 2, "use_shared_networks": False}
    module = loosened(module_of(BOXES, use_centralised_gradient=True, **settings))
    joint = batch_of(module)
    out = module.forward_train({"joint": joint, "noise": module.draw_noise(7, draw(6))})
    raw = module.agents(joint.obs[0].transpose(0, 1))[0].transpose(0, 1)
    would = (torch.tanh(raw) * module.used).detach().requires_grad_()
    values = module.critic[0](joint.obs[0], would)
    torch.testing.assert_close(out[POLICY_Q], values.expand(-1, 2))
    for n in range(2):  # of each agent's value, by its own action alone
        (slope,) = torch.autograd.grad(values[:, n if critic == "attention" else 0].sum(), would, retain_graph=True)
        (found,) = torch.autograd.grad(out[POLICY_Q][:, n].sum(), module.agents.head.bias, retain_graph=True)
        torch.testing.assert_close(found[n, 0], (slope * (1 - would**2) * module.used)[:, n].sum(0))
        assert not bool(found[1 - n].any()), "nobody climbs another's value"


def test_masks_hold_for_policies_and_for_what_follows():
    module = loosened(module_of())
    only = torch.zeros(1, 7, 2, 4, dtype=torch.bool)
    only[..., 1] = True
    joint = batch_of(module, mask=only, next_mask=only)
    out = module.forward_train({"joint": joint, "noise": module.draw_noise(7, draw(6))})
    second = torch.nn.functional.one_hot(torch.ones(7, 2, dtype=torch.int64), 4).float()
    torch.testing.assert_close(out[NEXT_Q], module.target_critic[0](joint.next_obs[0], second))
    torch.testing.assert_close(out[POLICY_Q], module.critic[0](joint.obs[0], second).expand(-1, 2))


def test_smoothing_noise_is_clipped_and_absent_by_default():
    module = module_of(BOXES, target_noise=5.0, target_noise_clip=0.1)
    joint, noise = batch_of(module, samples=50), torch.randn(50, 2, 3, generator=draw(2))
    plain = module_of(BOXES)._target_actions(joint, None, noise)
    moved = (module._target_actions(joint, None, noise) - plain).abs()
    assert float(moved.max()) == pytest.approx(0.1, abs=1e-6)


def test_targets_follow_by_tau():
    module = loosened(module_of())
    before = [p.clone() for p in module.target_agents.parameters()]
    module.update_targets(0.25)
    for old, new, online in zip(before, module.target_agents.parameters(), module.agents.parameters(), strict=True):
        torch.testing.assert_close(new, 0.75 * old + 0.25 * online)
    module.update_targets(1.0)
    assert all(
        torch.equal(a, b) for a, b in zip(module.target_critic.parameters(), module.critic.parameters(), strict=True)
    )


def test_runner_has_the_policies_alone():
    names = {name.split(".")[0] for name, _ in module_of(inference_only=True).named_parameters()}
    assert names == {"agents"}


def test_noise_is_that_of_the_generator():
    module = module_of()
    one, two = module.draw_noise(3, draw(1)), module.draw_noise(3, draw(1))
    assert isinstance(one, Noise)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not torch.equal(one.policy, one.target)


@pytest.mark.parametrize("settings", [{"noise": "ou"}, {"target_noise": 0.2}])
def test_noise_on_numbers_is_refused_where_agents_choose(settings):
    module_of(BOXES, **settings)
    with pytest.raises(IncompatibleError, match="noise on numbers, but these agents choose"):
        module_of(DISCRETE, **settings)


def test_teams_that_mix_choices_and_numbers_are_refused():
    with pytest.raises(IncompatibleError, match="all in Discrete or all in Box"):
        module_of((DISCRETE[0], BOXES[0]))


# -- attention over agents ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_shared", [True, False])
def test_an_attending_critic_judges_each_agents_own_action_beside_those_the_others_took(is_shared):
    module = module_of(BOXES, critic="attention", num_heads=2, use_shared_networks=is_shared)
    (critic,) = module.critic
    obs, taken, chosen = (torch.randn(7, 2, 3, generator=draw(i)) for i in range(3))
    each = torch.stack([torch.stack([chosen[:, 0], taken[:, 1]], 1), torch.stack([taken[:, 0], chosen[:, 1]], 1)])
    values = critic(obs, each)
    for n in range(2):
        torch.testing.assert_close(values[:, n], critic(obs, each[n])[:, n], atol=1e-6, rtol=1e-5)
    taken.requires_grad_()
    (slope,) = torch.autograd.grad(critic(obs, taken)[:, 0].sum(), taken)
    assert bool((slope.abs().sum(-1) > 0).all()), "it sees what both do"


@pytest.mark.parametrize("critic", ["mlp", "attention"])
@pytest.mark.parametrize("use_agent_id", [None, False])
def test_policies_and_attending_critics_of_agents_that_are_alike_do_not_know_who_is_who(critic, use_agent_id):
    settings = {"critic": critic, "num_heads": 2, "use_agent_id": use_agent_id}
    module = loosened(module_of((BOXES[1], BOXES[1]), widths=(3, 3), **settings))
    obs, taken = (torch.randn(7, 2, 3, generator=draw(i)) for i in range(2))
    are_alike = use_agent_id is False
    acts = [module.act(seen, None, explore=False).stored for seen in (obs, obs.flip(1))]
    assert torch.allclose(acts[0], acts[1].flip(1), atol=1e-6) == are_alike
    values = [module.critic[0](*pair) for pair in ((obs, taken), (obs.flip(1), taken.flip(1)))]
    if critic == "attention":
        assert torch.allclose(values[0], values[1].flip(1), atol=1e-5) == are_alike


def test_every_weight_of_an_attending_transformer_learns():
    module = module_of(BOXES, network="transformer", critic="attention", num_heads=2, d_model=8, reward="own")
    batch = batch_of(module)
    out = module.forward_train({"joint": batch, "noise": module.draw_noise(7, draw(5))})
    (out[Q].square().mean() - out[POLICY_Q].mean()).backward()
    without = {n for n, p in module.named_parameters() if p.requires_grad and p.numel() and p.grad is None}
    assert without == set()
    still = {n for n, p in module.named_parameters() if p.grad is not None and p.numel() and not p.grad.any()}
    assert still == {"critic.0.attention.query.weight", "critic.0.attention.key.weight"}, "one other agent: no choice"


def test_attending_critics_beside_policies_with_a_memory_are_refused():
    settings = MADDPGSettings(network="gru", critic="attention")
    with pytest.raises(IncompatibleError, match="critic=attention has no memory"):
        MADDPGConfig().use_settings(settings)

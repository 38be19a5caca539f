import numpy as np
import pytest
import torch

from algos.losses import (
    clipped_surrogate,
    clipped_value_loss,
    optimistic_weights,
    quantile_huber_loss,
    squared_td_loss,
    td_targets,
)


def test_nothing_is_bootstrapped_where_the_discount_is_zero():
    rewards, next_values = torch.tensor([1.0, 1.0]), torch.tensor([10.0, 10.0])
    assert td_targets(rewards, torch.tensor([0.0, 0.9]), next_values).tolist() == [1.0, 10.0]


def test_loss_is_the_mean_square_and_sends_no_gradient_into_the_targets():
    values, targets = torch.tensor([1.0, 3.0], requires_grad=True), torch.tensor([0.0, 1.0], requires_grad=True)
    loss = squared_td_loss(values, targets)
    loss.backward()
    assert loss.item() == 2.5
    assert values.grad.tolist() == [1.0, 2.0]
    assert targets.grad is None


def test_surrogate_is_the_papers_formula_written_as_a_loop():
    rng = np.random.default_rng(0)
    logp, old_logp, advantages = rng.normal(size=(3, 50, 4)) * np.array([0.4, 0.4, 1.0]).reshape(3, 1, 1)
    total = 0.0
    for new, old, a in zip(logp.ravel(), old_logp.ravel(), advantages.ravel(), strict=True):
        ratio = np.exp(new - old)
        total += min(ratio * a, min(max(ratio, 0.9), 1.1) * a)
    got = clipped_surrogate(*map(torch.from_numpy, (logp, old_logp, advantages)), 0.1)
    assert float(got) == pytest.approx(total / 200, rel=1e-12)


@pytest.mark.parametrize(("advantage", "ratio", "is_pushed"), [(1, 1.3, 0), (1, 0.7, 1), (-1, 1.3, 1), (-1, 0.7, 0)])
def test_surrogate_rewards_no_step_beyond_the_clip(advantage, ratio, is_pushed):
    logp = torch.tensor([np.log(ratio)], requires_grad=True)
    clipped_surrogate(logp, torch.zeros(1), torch.tensor([float(advantage)]), 0.2).backward()
    assert logp.grad.item() == pytest.approx(is_pushed * advantage * ratio)


@pytest.mark.parametrize("clip_param", [None, 0.2])
@pytest.mark.parametrize("huber_delta", [None, 0.7])
def test_value_loss_is_the_papers_formula_written_as_a_loop(clip_param, huber_delta):
    rng = np.random.default_rng(1)
    values, old_values, targets = rng.normal(size=(3, 40))

    def error(e):
        if huber_delta is None or abs(e) <= huber_delta:
            return e * e / 2
        return huber_delta * (abs(e) - huber_delta / 2)

    total = 0.0
    for v, old, r in zip(values, old_values, targets, strict=True):
        clipped = v if clip_param is None else old + min(max(v - old, -clip_param), clip_param)
        total += max(error(v - r), error(clipped - r))
    got = clipped_value_loss(*map(torch.from_numpy, (values, old_values, targets)), clip_param, huber_delta)
    assert float(got) == pytest.approx(total / 40, rel=1e-12)


def test_weights_of_a_td_loss_scale_each_square():
    values, targets = torch.tensor([1.0, 2.0, 5.0]), torch.tensor([0.0, 4.0, 4.0])
    weights = torch.tensor([1.0, 0.5, 0.25])
    assert float(squared_td_loss(values, targets)) == pytest.approx((1 + 4 + 1) / 3)
    assert float(squared_td_loss(values, targets, weights)) == pytest.approx((1 + 2 + 0.25) / 3)


@pytest.mark.parametrize("kappa", [0.3, 1.0, 2.5])
def test_quantile_loss_is_the_papers_sum(kappa):
    generator = torch.Generator().manual_seed(0)
    quantiles, targets = (2 * torch.randn(4, n, generator=generator, dtype=torch.float64) for n in (3, 5))
    taus = (torch.arange(3) + 0.5) / 3
    wanted = []
    for b in range(4):
        total = 0.0
        for i, tau in enumerate(taus.tolist()):
            for j in range(5):
                u = float(targets[b, j] - quantiles[b, i])
                huber = 0.5 * u * u if abs(u) <= kappa else kappa * (abs(u) - 0.5 * kappa)
                total += abs(tau - (u < 0)) * huber / 5
        wanted.append(total)
    assert float(quantile_huber_loss(quantiles, targets, taus, kappa=kappa)) == pytest.approx(sum(wanted) / 4)
    weights = torch.tensor([1.0, 0.0, 2.0, 0.5], dtype=torch.float64)
    got = float(quantile_huber_loss(quantiles, targets, taus, kappa=kappa, weights=weights))
    assert got == pytest.approx(float((weights * torch.tensor(wanted)).mean()))


def test_loss_is_least_where_the_quantiles_of_the_target_are():
    targets = torch.randn(4_001, generator=torch.Generator().manual_seed(1), dtype=torch.float64).exp()
    taus = (torch.arange(5) + 0.5) / 5

    def slopes(shift):
        quantiles = (torch.quantile(targets, taus.double()) + shift).unsqueeze(0).requires_grad_()
        quantile_huber_loss(quantiles, targets.unsqueeze(0), taus, kappa=1e-6).mul(1e6).backward()
        return quantiles.grad[0]

    assert slopes(0.0).abs().max() < 1e-3
    assert slopes(0.2).min() > 1e-3
    assert slopes(-0.2).max() < -1e-3


def test_optimists_weigh_down_what_went_worse_than_expected():
    values = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    weights = optimistic_weights(values, torch.tensor([2.0, 2.0, 2.0]), 0.25)
    assert weights.tolist() == [1.0, 0.25, 0.25]
    assert not weights.requires_grad


@pytest.mark.parametrize("weight", [1.0, 0.01])
def test_an_optimist_learns_what_a_partner_makes_possible_and_others_what_is_usual(weight):
    """Rewards of 10 and -30 in equal parts: the mean is -10; an expectile near 1 is near 10."""
    rewards = torch.tensor([10.0, -30.0])
    value = torch.zeros(1, requires_grad=True)
    for _ in range(4000):
        both = value.expand(2)
        (grad,) = torch.autograd.grad(squared_td_loss(both, rewards, optimistic_weights(both, rewards, weight)), value)
        value.data -= 0.5 * grad
    assert value.item() == pytest.approx((10.0 - 30.0 * weight) / (1.0 + weight), abs=1e-2)


def test_quantile_loss_needs_a_positive_width():
    with pytest.raises(ValueError, match="kappa is 0"):
        quantile_huber_loss(torch.zeros(1, 2), torch.zeros(1, 2), torch.tensor([0.25, 0.75]), kappa=0)

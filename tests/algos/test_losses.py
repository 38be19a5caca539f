import numpy as np
import pytest
import torch

from algos.losses import clipped_surrogate, clipped_value_loss, squared_td_loss, td_targets


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

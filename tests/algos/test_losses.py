import torch

from algos.losses import squared_td_loss, td_targets


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

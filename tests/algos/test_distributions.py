import torch
from torch.distributions import Categorical, Independent, Normal

from algos.distributions import choice_entropy, choice_logp, gaussian_entropy, gaussian_logp
from algos.masks import MASKED_LOGIT

GENERATOR = torch.Generator().manual_seed(0)


def test_choices_are_those_of_torch():
    logits = torch.randn(5, 3, 4, generator=GENERATOR)
    actions = torch.randint(4, (5, 3), generator=GENERATOR)
    wanted = Categorical(logits=logits)
    torch.testing.assert_close(choice_logp(logits, actions), wanted.log_prob(actions))
    torch.testing.assert_close(choice_entropy(logits), wanted.entropy())


def test_forbidden_actions_add_no_entropy_and_no_gradient():
    logits = torch.tensor([[0.3, MASKED_LOGIT, -0.2], [MASKED_LOGIT, 0.5, MASKED_LOGIT]], requires_grad=True)
    entropy = choice_entropy(logits)
    entropy.sum().backward()
    torch.testing.assert_close(entropy[0], Categorical(logits=torch.tensor([0.3, -0.2])).entropy())
    assert entropy[1].item() == 0.0
    assert logits.grad[0, 1] == logits.grad[1, 0] == 0.0
    assert logits.grad.isfinite().all()


def test_gaussians_are_those_of_torch_in_the_dimensions_that_are_used():
    mean, log_std, actions = (torch.randn(6, 2, 3, generator=GENERATOR) for _ in range(3))
    used = torch.tensor([[True, True, True], [True, False, False]])
    logp, entropy = gaussian_logp(mean, log_std, actions, used), gaussian_entropy(log_std, used)
    for n, width in ((0, 3), (1, 1)):
        wanted = Independent(Normal(mean[:, n, :width], log_std[:, n, :width].exp()), 1)
        torch.testing.assert_close(logp[:, n], wanted.log_prob(actions[:, n, :width]))
        torch.testing.assert_close(entropy[:, n], wanted.entropy())

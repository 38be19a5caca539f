"""What learners share: gradients are clipped as torch clips them, and none that is not finite passes."""

import numpy as np
import pytest
import torch
from ray.rllib.core.learner.training_data import TrainingData
from replays import one_batch
from teams import Clockwork, TwoStepGame, maddpg_config, mappo_config, qmix_config

from algos.learner import NonFiniteLossError, clip_gradients
from algos.replay import TeamReplay

pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.mark.parametrize("limit", [None, 0.1, 1e9, "the norm", "just above it"])
def test_gradients_are_clipped_to_the_last_bit_as_torch_does(limit):
    draws = torch.Generator().manual_seed(0)
    params = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((5, 3), (7,), (2,))]
    for param in params[:2]:  # the third has none
        param.grad = torch.randn(param.shape, generator=draws)
    others = [torch.nn.Parameter(torch.zeros_like(param)) for param in params]
    for other, param in zip(others[:2], params[:2], strict=True):
        other.grad = param.grad.clone()
    norm = float(torch.nn.utils.get_total_norm([param.grad for param in params[:2]]))
    limit = {"the norm": norm, "just above it": norm + 2e-6}.get(limit, limit)
    wanted = torch.nn.utils.clip_grad_norm_(others, float("inf") if limit is None else limit)
    assert torch.equal(clip_gradients(params, limit), wanted)
    assert params[2].grad is None
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(params[:2], others[:2], strict=True))


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (qmix_config, "agents"),
        (qmix_config, "mixer"),
        (maddpg_config, "agents"),
        (maddpg_config, "critic"),
        (mappo_config, "agents"),
        (mappo_config, "critic"),
    ],
)
def test_a_last_gradient_that_is_not_finite_stops_the_trial_though_every_loss_was(make, part):
    algorithm = make(TwoStepGame if make is qmix_config else Clockwork).build_algo()
    learner = algorithm.learner_group._learner
    next(getattr(learner.module["team"], part).parameters()).register_hook(lambda gradient: gradient + torch.inf)
    (rollout,) = algorithm.env_runner.sample()
    replay = TeamReplay(500)
    replay.add(rollout)
    batches = [one_batch(replay, 12, np.random.default_rng(0), gamma=0.9, with_mask=True)]
    kind = {"minibatch_size": 8, "num_minibatches": 1} if make is mappo_config else {}
    with pytest.raises(NonFiniteLossError, match=r"gradient of module 'team' is (nan|inf)"):
        learner.update(training_data=TrainingData(batch=rollout if kind else batches), **kind)
    algorithm.stop()

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from ray.rllib.core.learner.training_data import TrainingData
from teams import TwoStepGame, floor_env, qmix_config

from algos.errors import IncompatibleError
from algos.learner import NonFiniteLossError
from algos.qmix.algorithm import VDNConfig
from algos.qmix.module import Q_TOT, TARGET_Q_TOT
from algos.replay import TeamReplay

pytestmark = pytest.mark.usefixtures("ray_session")


def algorithm_of(**settings):
    return qmix_config(TwoStepGame, **settings).build_algo()


def batches_of(algorithm, num, samples=12):
    replay, rng = TeamReplay(500), np.random.default_rng(0)
    for _ in range(3):
        replay.add(algorithm.env_runner.sample()[0])
    length = algorithm.config.sequence_length
    return [replay.sample(samples, rng, length=length, gamma=0.9) for _ in range(num)]


@pytest.mark.parametrize(
    "settings",
    [{"tau": 1.0}, {"tau": 0.3}, {"network": "gru", "sequence_length": 3}, {"optimizer": "rmsprop"}],
    ids=["hard", "soft", "gru", "rmsprop"],
)
def test_an_update_is_plain_gradient_descent_on_the_squared_td_error(settings):
    tau = settings.get("tau", 1.0)
    algorithm = algorithm_of(target_network_update_freq=2, lr=0.01, grad_clip=0.05, **settings)
    learner, batches = algorithm.learner_group._learner, batches_of(algorithm, 5)
    module = copy.deepcopy(learner.module["team"].unwrapped())
    params = [p for n, p in module.named_parameters() if not n.startswith("target_")]
    make = torch.optim.RMSprop if settings.get("optimizer") else torch.optim.Adam
    extra = {"alpha": 0.99, "eps": 1e-5} if settings.get("optimizer") else {}
    optimizer = make(params, lr=0.01, **extra)
    for i, batch in enumerate(batches, start=1):
        out = module.forward_train({"joint": batch})
        loss = ((out[Q_TOT] - (batch.rewards + batch.discounts * out[TARGET_Q_TOT])) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        norm = torch.sqrt(sum(p.grad.square().sum() for p in params))
        for p in params:
            p.grad.mul_(min(1.0, 0.05 / (float(norm) + 1e-6)))
        optimizer.step()
        if i % 2 == 0:
            for online, target in ((module.agents, module.target_agents), (module.mixer, module.target_mixer)):
                for p, t in zip(online.parameters(), target.parameters(), strict=True):
                    t.data = tau * p.data + (1 - tau) * t.data
    learner.update(training_data=TrainingData(batch=batches))
    got = learner.module["team"].state_dict()
    for name, wanted in module.state_dict().items():
        assert torch.allclose(got[name], wanted, atol=2e-6), name
    algorithm.stop()


def test_targets_are_updated_by_gradient_steps_over_all_rounds():
    algorithm = algorithm_of(target_network_update_freq=4, num_updates=3)
    learner = algorithm.learner_group._learner
    module, batches, moved = learner.module["team"].unwrapped(), batches_of(algorithm, 3), []
    for _ in range(4):
        before = [p.clone() for p in module.target_agents.parameters()]
        learner.update(training_data=TrainingData(batch=batches))
        after = list(module.target_agents.parameters())
        moved.append(any(not torch.equal(a, b) for a, b in zip(before, after, strict=True)))
    assert moved == [False, True, True, True]  # after 4, 8 and 12 of 3, 6, 9 and 12 steps
    assert learner._num_updates == 12
    algorithm.stop()


def test_lr_of_the_config_is_obeyed_and_gradients_are_clipped_by_it():
    config = qmix_config(TwoStepGame)
    config.training(lr=0.0, gamma=0.5, grad_clip=3.0)
    algorithm = config.build_algo()
    learner = algorithm.learner_group._learner
    before = [p.clone() for p in learner.module["team"].agents.parameters()]
    for _ in range(4):
        algorithm.train()
    assert all(torch.equal(a, b) for a, b in zip(before, learner.module["team"].agents.parameters(), strict=True))
    assert {round(float(d), 6) for batch in algorithm._draw() for d in batch.discounts[0]} == {0.0, 0.5}
    algorithm.stop()


def test_a_loss_that_is_not_finite_stops_the_trial():
    algorithm = algorithm_of()
    batch = batches_of(algorithm, 1)[0]
    spoiled = batch._replace(rewards=torch.full_like(batch.rewards, torch.nan))
    with pytest.raises(NonFiniteLossError, match="loss of module 'team' is nan"):
        algorithm.learner_group._learner.update(training_data=TrainingData(batch=[spoiled]))
    algorithm.stop()


def test_states_of_asynchronous_algorithms_are_refused():
    algorithm = algorithm_of()
    with pytest.raises(IncompatibleError, match="asynchronous"):
        algorithm.learner_group._learner.update(training_data=TrainingData(batch=[]), return_state=True)
    algorithm.stop()


def test_rewards_are_divided_by_their_running_deviation_at_the_draw():
    algorithm = algorithm_of(use_reward_standardisation=True)
    for _ in range(3):
        algorithm.train()
    ring = algorithm.replay.rings[0]
    stored = ring.rows["rewards"][: ring.size].flatten().double()
    assert algorithm.reward_scale.scale == pytest.approx(float(stored.std(unbiased=False)), rel=1e-5)
    drawn = torch.cat([b.rewards.flatten() for b in algorithm._draw()]).double()
    possible = stored.unique() / algorithm.reward_scale.scale
    assert float((drawn.unsqueeze(1) - possible).abs().amin(1).max()) < 1e-6
    assert float(drawn.max()) < 8.0 / 2
    algorithm.stop()


def test_learning_starts_when_enough_was_sampled_and_uses_it():
    algorithm = algorithm_of(learning_starts=64, replay_capacity=48)  # 32 steps a round; the buffer never holds 64
    results = [algorithm.train() for _ in range(3)]
    trained = [r.get("learners", {}).get("team", {}).get("num_module_steps_trained_lifetime", 0) for r in results]
    assert trained == [0, 3 * 16, 6 * 16]
    assert results[1]["learners"]["__all_modules__"]["num_env_steps_trained_lifetime"] == 48
    algorithm.stop()


def test_draws_are_counted():
    one, two = algorithm_of(seed=1), algorithm_of(seed=1)
    for algorithm in (one, two):
        for _ in range(2):
            algorithm.train()
    first, second, other = one._draw(), one._draw(), two._draw()
    assert all(torch.equal(a.obs, b.obs) for a, b in zip(first, other, strict=True))
    assert not all(torch.equal(a.obs, b.obs) for a, b in zip(first, second, strict=True))
    assert not any(torch.equal(a.actions, b.actions) and torch.equal(a.obs, b.obs) for a, b in pairwise(first))
    for algorithm in (one, two):
        algorithm.stop()


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"replay_capacity": 30}, "leaves 7 steps .* but 9 are needed; raise it to at least 36"),
        ({"network": "gru", "sequence_length": 50, "replay_capacity": 100}, "but 50 are needed"),
    ],
)
def test_a_buffer_that_could_never_be_sampled_is_refused(settings, line):
    with pytest.raises(IncompatibleError, match=line):
        qmix_config(TwoStepGame, **settings).validate()


def test_n_step_of_sequences_is_refused():
    with pytest.raises(IncompatibleError, match="n_step above 1 needs network=mlp"):
        qmix_config(TwoStepGame, network="gru", n_step=3)


def test_vdn_needs_no_state_and_qmix_sees_it():
    vdn = qmix_config(floor_env(), config=VDNConfig).build_algo()
    qmix = qmix_config(floor_env()).build_algo()
    for algorithm, has_state in ((vdn, False), (qmix, True)):
        for _ in range(2):
            algorithm.train()
        assert (algorithm.env_runner.sample()[0].state is not None) == has_state
        assert algorithm.learner_group._learner._num_updates >= 3
        algorithm.stop()


def test_a_checkpoint_without_its_buffer_is_refused(tmp_path):
    algorithm = algorithm_of()
    algorithm.train()
    algorithm.save_checkpoint(str(tmp_path))
    (tmp_path / "draws.json").unlink()
    with pytest.raises(IncompatibleError, match=r"is no checkpoint of QMIX .*draws.json"):
        algorithm.load_checkpoint(str(tmp_path))
    algorithm.stop()

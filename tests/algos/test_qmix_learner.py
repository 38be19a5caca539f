import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from ray.rllib.core.learner.training_data import TrainingData
from replays import one_batch
from teams import TwoStepGame, floor_env, qmix_config

from algos.indq.algorithm import INDQConfig
from algos.learner import NonFiniteLossError
from algos.losses import quantile_huber_loss
from algos.qmix.algorithm import QMIXConfig, VDNConfig
from algos.qmix.module import Q_TOT, TARGET_Q_TOT
from algos.replay import TeamReplay, gather
from algos.returns import lambda_returns
from common.errors import IncompatibleError

pytestmark = pytest.mark.usefixtures("ray_session")


def algorithm_of(**settings):
    return qmix_config(TwoStepGame, **settings).build_algo()


def batches_of(algorithm, num, samples=12):
    replay, rng = TeamReplay(500, has_own_rewards=algorithm.config.pays_own_reward), np.random.default_rng(0)
    for _ in range(3):
        replay.add(algorithm.env_runner.sample()[0])
    length = algorithm.config.sequence_length
    return [one_batch(replay, samples, rng, length=length, gamma=0.9) for _ in range(num)]


@pytest.mark.parametrize(
    "settings",
    [
        {"tau": 1.0},
        {"tau": 0.3},
        {"network": "gru", "sequence_length": 3},
        {"optimizer": "rmsprop"},
        {"td_lambda": 0.6, "sequence_length": 4},
        {"config": INDQConfig},
        {"config": INDQConfig, "reward": "team", "dueling": True, "td_lambda": 0.5, "sequence_length": 3},
        {"config": INDQConfig, "num_quantiles": 4, "huber_kappa": 0.5},
        {"config": INDQConfig, "num_quantiles": 3, "reward": "team", "network": "gru", "sequence_length": 3},
    ],
    ids=["hard", "soft", "gru", "rmsprop", "lambda", "indq", "indq-lambda", "indq-quantiles", "indq-quantiles-gru"],
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
        loss = loss_by_hand(out[Q_TOT], out[TARGET_Q_TOT], batch, algorithm.config.settings)
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


def loss_by_hand(values, following, batch, settings):
    """Of each agent by itself, where each has its own; the mean of all."""
    if values.dim() == 2:  # a team's
        if settings.td_lambda:
            args = batch.rewards, batch.discounts, following, batch.ended
            return ((values - lambda_returns(*args, lambda_=settings.td_lambda)) ** 2).mean()
        return ((values - (batch.rewards + batch.discounts * following)) ** 2).mean()
    losses = []
    for n in range(values.shape[2]):
        paid = batch.rewards if batch.rewards.dim() == 2 else batch.rewards[:, :, n]
        one = batch._replace(rewards=paid)
        if not settings.num_quantiles:
            losses.append(loss_by_hand(values[:, :, n], following[:, :, n], one, settings))
            continue
        targets = paid.unsqueeze(-1) + batch.discounts.unsqueeze(-1) * following[:, :, n]
        taus = (2 * torch.arange(settings.num_quantiles) + 1) / (2 * settings.num_quantiles)
        losses.append(quantile_huber_loss(values[:, :, n], targets, taus, kappa=settings.huber_kappa))
    return torch.stack(losses).mean()


@pytest.mark.parametrize(
    "settings",
    [
        {"td_lambda": 0.6, "sequence_length": 4},
        {"config": INDQConfig},
        {"config": INDQConfig, "num_quantiles": 4, "network": "gru", "sequence_length": 3},
    ],
    ids=["qmix", "indq", "indq-quantiles"],
)
def test_weights_scale_the_loss_of_each_sample_and_errors_are_its_own(settings):
    algorithm = algorithm_of(prioritised_replay=True, lr=1e-9, **settings)
    learner, (batch,) = algorithm.learner_group._learner, batches_of(algorithm, 1)
    module, weights = learner.module["team"].unwrapped(), torch.rand(12)

    def loss_of(which):
        inputs = {"joint": which}
        out = module.forward_train(inputs)
        loss = learner.compute_loss_for_module(module_id="team", config=algorithm.config, batch=inputs, fwd_out=out)
        return float(loss.detach()), out

    alone = [batch.map(lambda v, i=i: v[:, i : i + 1]) for i in range(12)]
    losses = torch.tensor([loss_of(one)[0] for one in alone])
    assert loss_of(batch._replace(weights=weights))[0] == pytest.approx(float((weights * losses).mean()), rel=1e-4)
    wanted = []
    for one in alone:
        out = loss_of(one)[1]
        errors = out["td_targets"] - out[Q_TOT]
        wanted.append(float((errors.mean(-1) if "num_quantiles" in settings else errors).detach().abs().mean()))
    learner.update(training_data=TrainingData(batch=[batch._replace(weights=weights)]))
    assert learner.td_errors[0].tolist() == pytest.approx(wanted, rel=1e-3, abs=1e-5)
    algorithm.stop()


@pytest.mark.parametrize("config", [QMIXConfig, INDQConfig])
def test_optimism_and_importance_weigh_each_error_together(config):
    algorithm = algorithm_of(config=config, overestimation_weight=0.25)
    learner, (batch,) = algorithm.learner_group._learner, batches_of(algorithm, 1)
    weights = torch.rand(12)
    inputs = {"joint": batch._replace(weights=weights)}
    out = learner.module["team"].unwrapped().forward_train(inputs)
    loss = learner.compute_loss_for_module(module_id="team", config=algorithm.config, batch=inputs, fwd_out=out)
    values, targets = out[Q_TOT].detach(), out["td_targets"]
    wanted = []
    for index in torch.cartesian_prod(*(torch.arange(n) for n in values.shape)):
        value, target = values[tuple(index)], targets[tuple(index)]
        wanted.append(weights[index[1]] * (1.0 if value < target else 0.25) * (value - target) ** 2)
    assert float(loss.detach()) == pytest.approx(float(torch.stack(wanted).mean()), rel=1e-5)
    algorithm.stop()


def test_priorities_follow_the_errors_of_each_round_and_weights_rise_to_their_full_effect():
    settings = {"prioritised_replay": True, "priority_beta": 0.25, "priority_beta_steps": 64, "num_updates": 2}
    algorithm = algorithm_of(**settings)
    for _ in range(3):
        algorithm.train()
    errors = algorithm.learner_group._learner.td_errors
    (drawn,) = algorithm._drawn
    assert [len(e) for e in errors] == [16, 16]
    (ring,) = algorithm.replay.rings.values()
    noted = {}
    for batch, of_batch in zip(drawn, errors, strict=True):
        ((own, leaves),) = batch
        assert own is ring.priorities
        noted |= dict(zip(leaves.tolist(), of_batch.tolist(), strict=True))
    found = ring.priorities.values.reshape(-1)
    assert [float(found[leaf]) for leaf in noted] == pytest.approx([e + 1e-6 for e in noted.values()], rel=1e-5)
    assert len(set(found[found > 0].tolist())) > 10
    total = ring.priorities.tree.total
    for batch, ((_, leaves),) in zip(algorithm._draw(), algorithm._drawn[-1], strict=True):  # beta is 1 after 64 steps
        chances = ring.priorities.tree.weights[leaves] / total
        assert batch.weights.numpy() == pytest.approx(chances.min() / chances, rel=1e-4)
    algorithm.stop()


@pytest.mark.slow
def test_errors_of_remote_learners_come_back_to_what_each_was_given():
    config = qmix_config(TwoStepGame, prioritised_replay=True, lr=1e-12, num_updates=2)
    config.learners(num_learners=2)
    algorithm = config.build_algo()
    here = qmix_config(TwoStepGame, lr=1e-12).build_algo()
    while not algorithm._drawn:
        algorithm.train()
    learner = here.learner_group._learner
    learner.module.set_state(algorithm.learner_group.get_state(components="learner/rl_module")["learner"]["rl_module"])
    module, (ring,) = learner.module["team"].unwrapped(), algorithm.replay.rings.values()
    scale = algorithm.reward_scale.scale
    for batch in (batch for of_learner in algorithm._drawn for batch in of_learner):
        ((own, leaves),) = batch
        rows, columns = (torch.from_numpy(v) for v in np.divmod(leaves, own.num_replicas))
        joint = gather(ring, rows, columns, 1, 1, 0.99, with_mask=False)
        out = module.forward_train({"joint": joint})
        errors = (joint.rewards / scale + joint.discounts * out[TARGET_Q_TOT] - out[Q_TOT]).abs()[0]
        assert own.values.reshape(-1)[leaves] == pytest.approx(errors.detach().numpy(), abs=1e-4)
    for one in (algorithm, here):
        one.stop()


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
        ({"td_lambda": 0.5, "sequence_length": 50, "replay_capacity": 100}, "but 50 are needed"),
    ],
)
def test_a_buffer_that_could_never_be_sampled_is_refused(settings, line):
    with pytest.raises(IncompatibleError, match=line):
        qmix_config(TwoStepGame, **settings).validate()


@pytest.mark.parametrize(
    ("config", "settings", "line"),
    [
        (QMIXConfig, {"network": "gru", "n_step": 3}, "n_step above 1 needs network=mlp"),
        (QMIXConfig, {"td_lambda": 0.5, "n_step": 3}, "n_step above 1 needs td_lambda=0"),
        (VDNConfig, {"td_lambda": 0.5, "n_step": 3}, "n_step above 1 needs td_lambda=0"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(config, settings, line):
    with pytest.raises(IncompatibleError, match=line):
        qmix_config(TwoStepGame, config=config, **settings)


def test_vdn_and_indq_need_no_state_and_qmix_sees_it():
    vdn = qmix_config(floor_env(), config=VDNConfig).build_algo()
    indq = qmix_config(floor_env(), config=INDQConfig).build_algo()
    qmix = qmix_config(floor_env()).build_algo()
    for algorithm, has_state in ((vdn, False), (indq, False), (qmix, True)):
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
    with pytest.raises(IncompatibleError, match=r"is no checkpoint of QMIX: draws.json cannot be read"):
        algorithm.load_checkpoint(str(tmp_path))
    algorithm.stop()

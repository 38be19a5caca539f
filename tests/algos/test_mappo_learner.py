import copy
import math

import numpy as np
import pytest
import torch
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.env.wrappers.pettingzoo_env import ParallelPettingZooEnv
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME
from teams import Clockwork, ParallelClock, TwoStepGame, floor_env, mappo_config

from algos.learner import NonFiniteLossError
from algos.mappo.algorithm import IPPOConfig, MAPPOConfig
from algos.mappo.learner import _minibatch
from algos.policy import flat_weights, weights_sha256
from algos.rollout import concatenate
from common.errors import IncompatibleError

pytestmark = pytest.mark.usefixtures("ray_session")


def clockwork(config=MAPPOConfig, *, env=None, **settings):
    built = mappo_config(Clockwork, config=config, **settings)
    built.environment(env_config={"length": 5, **(env or {})})
    return built.build_algo()


def brute_advantages(rewards, values, following, terminated, ended, gamma, lambda_):
    T, B, N = rewards.shape
    out = np.zeros_like(rewards)
    for b in range(B):
        for n in range(N):
            for t in range(T):
                weight = 1.0
                for k in range(t, T):
                    bootstrap = 0.0 if terminated[k, b] else following[k, b, n]
                    out[t, b, n] += weight * (rewards[k, b, n] + gamma * bootstrap - values[k, b, n])
                    weight *= gamma * lambda_
                    if ended[k, b]:
                        break
    return out


@pytest.mark.parametrize("end", ["terminated", "truncated"])
@pytest.mark.parametrize(("config", "reward"), [(MAPPOConfig, "team"), (MAPPOConfig, "own"), (IPPOConfig, "own")])
def test_rows_are_what_the_formulas_give_step_by_step(config, reward, end):
    algorithm = clockwork(config, env={"end": end}, reward=reward, gamma=0.9, lambda_=0.8)
    (rollout,) = algorithm.env_runner.sample()
    assert rollout.num_steps == 16
    assert bool(getattr(rollout, end).any())
    learner = algorithm.learner_group._learner
    critic = copy.deepcopy(learner.module["team"].unwrapped().critic)
    critic.see(torch.tensor([[4.0], [30.0], [400.0]], dtype=torch.float64).expand(3, critic.statistics.shape[1]))
    mean, deviation = (x.numpy() for x in critic.scale())
    T, B, N = rollout.rewards.shape

    def value(obs, state):
        return critic(obs.unsqueeze(0), None if state is None else state.unsqueeze(0))[0].detach().numpy()

    states = rollout.state
    raw = np.array(
        [[value(rollout.obs[t, b], None if states is None else states[t, b]) for b in range(B)] for t in range(T + 1)]
    )
    following = raw[1:].copy()
    for e, (t, b) in enumerate(rollout.final_index.tolist()):
        following[t, b] = value(rollout.final_obs[e], None if states is None else rollout.final_state[e])
    rewards = rollout.rewards.numpy()
    if reward == "team":
        rewards = rewards.mean(-1, keepdims=True).repeat(N, -1)
    advantages = brute_advantages(
        rewards,
        raw[:-1] * deviation + mean,
        following * deviation + mean,
        rollout.terminated.numpy(),
        rollout.ended.numpy(),
        0.9,
        0.8,
    )
    returns = advantages + raw[:-1] * deviation + mean
    rows = learner._rows(rollout, critic)
    axes = (0, 1) if reward == "own" else None
    wanted = (advantages - advantages.mean(axes)) / advantages.std(axes)
    np.testing.assert_allclose(rows["advantages"].view(T, B, N), wanted, atol=2e-4)
    np.testing.assert_allclose(rows["old_values"].view(T, B, N), raw[:-1], atol=1e-5)
    mean, deviation = (x.numpy() for x in critic.scale())
    np.testing.assert_allclose(rows["returns"].view(T, B, N), (returns - mean) / deviation, atol=2e-4)
    assert critic.statistics[0, 0] == 4 + (T * B if reward == "own" else T * B * N)
    algorithm.stop()


@pytest.mark.parametrize("config", [MAPPOConfig, IPPOConfig])
def test_an_update_is_plain_gradient_descent_on_the_papers_losses(config):
    settings = {"minibatch_size": 64, "num_epochs": 3, "lr": 0.01, "critic_lr": 0.02, "entropy_coeff": 0.1}
    algorithm = clockwork(config, **settings, grad_clip=0.05, clip_param=0.1, vf_clip_param=0.05, huber_delta=0.5)
    (rollout,) = algorithm.env_runner.sample()
    learner = algorithm.learner_group._learner
    module = copy.deepcopy(learner.module["team"].unwrapped())
    rows = learner._rows(rollout, module.critic)
    parts = [list(part.parameters()) for part in (module.agents, module.critic)]
    optimizers = [torch.optim.Adam(p, lr=lr, eps=1e-5) for p, lr in zip(parts, (0.01, 0.02), strict=True)]
    for _ in range(3):
        out = module.forward_train(rows)
        ratio = (out["logp"] - rows["old_logp"]).exp()
        surrogate = torch.minimum(ratio * rows["advantages"], ratio.clamp(0.9, 1.1) * rows["advantages"])
        kept = rows["old_values"] + (out["values"] - rows["old_values"]).clamp(-0.05, 0.05)
        huber = torch.nn.HuberLoss(reduction="none", delta=0.5)
        errors = torch.maximum(huber(out["values"], rows["returns"]), huber(kept, rows["returns"]))
        loss = -surrogate.mean() - 0.1 * out["entropy"].mean() + errors.mean()
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for params, optimizer in zip(parts, optimizers, strict=True):
            norm = math.sqrt(sum(float(p.grad.square().sum()) for p in params))
            for p in params:
                p.grad.mul_(min(1.0, 0.05 / (norm + 1e-6)))
            optimizer.step()
    learner.update(training_data=TrainingData(batch=rollout), minibatch_size=64, num_minibatches=3)
    got = learner.module["team"].state_dict()
    for name, wanted in module.state_dict().items():
        assert torch.allclose(got[name], wanted, atol=2e-5), name
    algorithm.stop()


def test_entropy_bonus_falls_with_the_steps_that_were_sampled():
    weights = []
    for coefficient, decay_steps in ((0.5, 1_000), (0.125, None), (0.5, None)):
        algorithm = clockwork(entropy_coeff=coefficient, entropy_decay_steps=decay_steps)
        (rollout,) = algorithm.env_runner.sample()
        learner = algorithm.learner_group._learner
        sampled = {NUM_ENV_STEPS_SAMPLED_LIFETIME: 750}
        data = TrainingData(batch=rollout)
        learner.update(training_data=data, timesteps=sampled, minibatch_size=64, num_minibatches=3)
        weights.append(weights_sha256(flat_weights(algorithm)))
        algorithm.stop()
    falling, as_low, as_at_the_start = weights
    assert falling == as_low != as_at_the_start


def test_forbidden_actions_are_never_sampled_and_what_was_sampled_has_the_same_probability_when_learning():
    algorithm = clockwork(env={"use_masks": True})
    (rollout,) = algorithm.env_runner.sample()
    assert bool(rollout.action_mask[:-1].gather(-1, rollout.actions.unsqueeze(-1)).all())
    assert not bool(rollout.action_mask.all())
    learner = algorithm.learner_group._learner
    module = learner.module["team"].unwrapped()
    rows = learner._rows(rollout, module.critic)
    torch.testing.assert_close(module.forward_train(rows)["logp"], rows["old_logp"])
    algorithm.train()
    algorithm.stop()


@pytest.mark.parametrize("env", [{}, {"is_box": True}], ids=["discrete", "continuous"])
def test_sequences_that_are_learned_from_are_remembered_as_they_were_acted(env):
    """The second rollout begins in the middle of episodes, with memories that the first has left."""
    algorithm = clockwork(env=env, network="gru")
    with torch.no_grad():
        algorithm.env_runner.module["team"].agents.head.weight.mul_(200)  # policies start with next to no preference
    learner = algorithm.learner_group._learner
    module = learner.module["team"].unwrapped()
    module.agents.load_state_dict(algorithm.env_runner.module["team"].agents.state_dict())
    first, second = (algorithm.env_runner.sample()[0] for _ in range(2))
    assert not first.memory.any()
    assert second.memory.shape == (1, 4, 2, 16)
    assert second.memory.any()
    assert bool(second.ended[:-1].any())
    joined = concatenate([first, second])
    assert torch.equal(joined.shards(2)[1].memory, second.memory), "which shard a replica is in does not matter"
    rows = learner._rows(joined, module.critic)
    order = torch.tensor([6, 1])
    batch = _minibatch(rows, order, joined)
    assert torch.equal(batch["obs"], joined.obs[:-1][:, order].flatten(0, 1))
    logp = module.forward_train(batch)["logp"]
    torch.testing.assert_close(logp, joined.logp[:, order].flatten(0, 1), atol=1e-5, rtol=1e-5)
    blank = module.forward_train({**batch, "memory": torch.zeros_like(batch["memory"])})["logp"]
    assert not torch.allclose(logp, blank, atol=1e-3)
    algorithm.train()
    algorithm.stop()


def test_a_minibatch_of_sequences_holds_whole_replicas():
    algorithm = clockwork(network="gru", minibatch_size=40)
    assert algorithm.env_runner.sample()[0].num_steps == 16
    found = algorithm.train()["learners"]["team"]
    assert found["num_module_steps_trained"] == 2 * 2 * 2 * 16, "2 epochs of 2 minibatches of 2 replicas of 16 steps"
    algorithm.stop()
    with pytest.raises(
        IncompatibleError, match="minibatch_size is 15, but a GRU learns from whole sequences, here of 16"
    ):
        clockwork(network="gru", minibatch_size=15)


def test_a_value_function_that_attends_sees_all_agents_and_needs_no_state():
    algorithm = clockwork(critic="attention", num_heads=2)
    (rollout,) = algorithm.env_runner.sample()
    assert rollout.state is None
    critic = algorithm.learner_group._learner.module["team"].unwrapped().critic
    seen = rollout.obs[:1, 0].requires_grad_()
    (slope,) = torch.autograd.grad(critic(seen, None)[0, 0], seen)
    assert bool((slope.abs().sum(-1) > 0).all()), "the value of the first agent hangs on what both see"
    algorithm.stop()
    with pytest.raises(IncompatibleError, match="ippo values each agent's own observation: use mappo"):
        clockwork(IPPOConfig, critic="attention")


@pytest.mark.parametrize("config", [MAPPOConfig, IPPOConfig])
@pytest.mark.parametrize("env", [{"is_box": True}, {"leaves": {"abe": 2}}, {"turns": True}], ids=str)
@pytest.mark.parametrize("is_shared", [True, False])
def test_agents_that_differ_learn_together(config, env, is_shared):
    algorithm = clockwork(config, env=env, use_shared_networks=is_shared)
    before = flat_weights(algorithm)
    found = algorithm.train()["learners"]["team"]
    assert np.isfinite(found["total_loss"])
    after = flat_weights(algorithm)
    assert [n for n in before if (before[n] == after[n]).all()] == []
    algorithm.stop()


def test_pettingzoo_teams_learn():
    def make(_):
        return ParallelPettingZooEnv(ParallelClock())

    from ray.tune.registry import register_env

    register_env("parallel-clock-mappo", make)
    config = mappo_config(TwoStepGame)
    config.environment("parallel-clock-mappo")
    algorithm = config.build_algo()
    assert np.isfinite(algorithm.train()["learners"]["team"]["total_loss"])
    assert algorithm.learner_group._learner.module["team"].critic.encoder.layers[0].weight.shape[1] == 4  # its state()
    algorithm.stop()


def test_a_loss_that_is_not_finite_stops_the_trial():
    algorithm = clockwork()
    (rollout,) = algorithm.env_runner.sample()
    rollout.rewards[3, 1, 0] = torch.nan
    with pytest.raises(NonFiniteLossError, match="loss of module 'team' is nan"):
        algorithm.learner_group._learner.update(
            training_data=TrainingData(batch=rollout), minibatch_size=64, num_minibatches=3
        )
    algorithm.stop()


def test_minibatches_are_drawn_from_seed_and_update_alone(monkeypatch):
    from algos.mappo import learner

    seen, real = [], learner.cyclic_order

    def watched(*args):
        seen.append(real(*args).tolist())
        return torch.tensor(seen[-1])

    monkeypatch.setattr(learner, "cyclic_order", watched)
    for seed in (0, 0, 1):
        algorithm = mappo_config(floor_env(), seed=seed).build_algo()
        algorithm.train()
        torch.manual_seed(99)  # whatever else draws random numbers must not matter
        algorithm.train()
        algorithm.stop()
    one, two, other = seen[:2], seen[2:4], seen[4:]
    assert one == two
    assert one[0] != one[1]
    assert one[0] != other[0]


def test_minibatch_larger_than_its_batch_is_refused():
    with pytest.raises(IncompatibleError, match=r"mappo\.minibatch_size is 100, more than the batch"):
        mappo_config(TwoStepGame, minibatch_size=100).validate()


@pytest.mark.slow
def test_two_learners_normalise_by_what_both_have_sampled_and_stay_alike():
    config = mappo_config(floor_env(), seed=3)
    config.learners(num_learners=2)
    algorithm = config.build_algo()
    for _ in range(2):
        algorithm.train()
    states = [r.get() for r in algorithm.learner_group.foreach_learner(lambda learner: learner.get_state())]
    first, second = (s["rl_module"]["team"] for s in states)
    assert [n for n in first if not np.array_equal(first[n], second[n])] == []
    steps = 2 * 2 * 64  # of two learners, in two rounds
    assert first["critic.statistics"][0, 0] == steps * 3
    algorithm.stop()

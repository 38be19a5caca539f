"""Updates are the paper's gradient steps, counted, drawn anew in each and the same after a restart."""

import copy
import math

import numpy as np
import pytest
import torch
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.env.wrappers.pettingzoo_env import ParallelPettingZooEnv
from ray.tune.registry import register_env
from replays import one_batch
from teams import Clockwork, ParallelClock, TwoStepGame, floor_env, maddpg_config

from algos.learner import NonFiniteLossError
from algos.maddpg.module import NEXT_Q, OUTPUT_SQUARE, POLICY_Q, Q
from algos.policy import flat_weights
from algos.replay import TeamReplay
from common.counted import counted_seed
from common.errors import IncompatibleError

pytestmark = pytest.mark.usefixtures("ray_session")


def clockwork(*, env=None, **settings):
    built = maddpg_config(Clockwork, seed=3, **settings)
    built.environment(env_config={"length": 5, **(env or {})})
    return built.build_algo()


def batches_of(algorithm, num, samples=12):
    replay = TeamReplay(500, has_own_rewards=algorithm.config.pays_own_reward)
    for _ in range(3):
        replay.add(algorithm.env_runner.sample()[0])
    return [one_batch(replay, samples, np.random.default_rng(i), gamma=0.9, with_mask=True) for i in range(num)]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"reward": "own", "tau": 1.0, "target_network_update_freq": 2},
        {"twin_critics": True, "policy_delay": 2, "use_shared_networks": False},
        {"grad_clip": None, "temperature": 0.5},
    ],
    ids=["team", "own", "td3", "unclipped"],
)
@pytest.mark.parametrize("is_box", [False, True], ids=["discrete", "continuous"])
def test_an_update_is_plain_gradient_descent_on_the_papers_losses(settings, is_box):
    common = {"actor_lr": 0.01, "critic_lr": 0.02, "grad_clip": 0.05, "tau": 0.3, "logit_penalty": 0.1}
    algorithm = clockwork(env={"is_box": is_box}, **{**common, **settings})
    s = algorithm.config.settings
    learner, batches = algorithm.learner_group._learner, batches_of(algorithm, 5)
    module = copy.deepcopy(learner.module["team"].unwrapped())
    parts = [list(part.parameters()) for part in (module.agents, module.critic)]
    actor, critic = (torch.optim.Adam(p, lr=lr) for p, lr in zip(parts, (0.01, 0.02), strict=True))
    generator = torch.Generator().manual_seed(counted_seed(3, learner._weights_seq_no + 1, 0))
    for i, batch in enumerate(batches, start=1):
        out = module.forward_train({"joint": batch, "noise": module.draw_noise(12, generator)})
        rewards = batch.rewards[0] if s.reward == "own" else batch.rewards[0].unsqueeze(-1)
        targets = rewards + batch.discounts[0].unsqueeze(-1) * out[NEXT_Q]
        losses = (
            0.1 * out[OUTPUT_SQUARE] - out[POLICY_Q].mean(),
            sum(((q - targets) ** 2).mean() for q in out[Q]),
        )
        for loss, params in zip(losses, parts, strict=True):
            for p, g in zip(params, torch.autograd.grad(loss, params, retain_graph=True), strict=True):
                p.grad = g
        for params in parts:
            norm = math.sqrt(sum(float(p.grad.square().sum()) for p in params))
            for p in params:
                p.grad.mul_(1.0 if s.grad_clip is None else min(1.0, s.grad_clip / (norm + 1e-6)))
        critic.step()
        if i % s.policy_delay == 0:
            actor.step()
        if i % s.target_network_update_freq == 0:
            for online, target in ((module.agents, module.target_agents), (module.critic, module.target_critic)):
                for p, t in zip(online.parameters(), target.parameters(), strict=True):
                    t.data = s.tau * p.data + (1 - s.tau) * t.data
    learner.update(training_data=TrainingData(batch=batches))
    got = learner.module["team"].state_dict()
    for name, wanted in module.state_dict().items():
        assert torch.allclose(got[name], wanted, atol=2e-5), name
    assert learner._num_updates == 5
    algorithm.stop()


def test_rewards_are_those_that_the_settings_name_in_the_same_units():
    for reward in ("team", "own"):
        algorithm = clockwork(reward=reward)
        (rollout,) = algorithm.env_runner.sample()
        assert not torch.equal(rollout.rewards[..., 0], rollout.rewards[..., 1])
        algorithm.observe(rollout)
        paid = rollout.rewards if reward == "own" else rollout.rewards.mean(-1)
        assert algorithm.reward_scale.scale == pytest.approx(float(paid.double().std(unbiased=False)))
        drawn = algorithm._draw()[0].rewards
        found = set(np.round(drawn.numpy() * algorithm.reward_scale.scale, 3).flatten().tolist())
        assert found <= set(np.round(paid.numpy(), 3).flatten().tolist())
        assert drawn.dim() == (3 if reward == "own" else 2)
        algorithm.stop()


@pytest.mark.parametrize("n_step", [1, 3])
def test_own_rewards_are_summed_and_bootstrapped_agent_by_agent(n_step):
    algorithm = clockwork(reward="own", n_step=n_step, env={"end": "terminated"})
    both = {own: TeamReplay(500, has_own_rewards=own) for own in (True, False)}
    for _ in range(3):
        (rollout,) = algorithm.env_runner.sample()
        for replay in both.values():
            replay.add(rollout)
    own, team = (one_batch(r, 40, np.random.default_rng(0), n_step=n_step, gamma=0.9) for r in both.values())
    torch.testing.assert_close(own.rewards.mean(-1), team.rewards)
    assert torch.equal(own.discounts, team.discounts)
    assert bool((own.discounts == 0).any())
    algorithm.stop()


@pytest.mark.parametrize(
    "env", [{"is_box": True}, {"leaves": {"abe": 2}}, {"turns": True}, {"use_masks": True}], ids=str
)
@pytest.mark.parametrize("is_shared", [True, False])
def test_agents_that_differ_learn_together(env, is_shared):
    algorithm = clockwork(env=env, use_shared_networks=is_shared, reward="own")
    algorithm.train()
    before = flat_weights(algorithm)
    found = algorithm.train()["learners"]["team"]
    assert all(math.isfinite(found[name]) for name in ("policy_loss", "critic_loss", "q_mean", "actor_grad_norm"))
    after = flat_weights(algorithm)
    moved = {name.split(".")[0] for name in after if not np.array_equal(before[name], after[name])}
    assert {"team/agents", "team/critic", "team/target_agents", "team/target_critic"} <= moved
    algorithm.stop()


@pytest.mark.parametrize("env", [floor_env(), floor_env(desk={"action": "continuous", "preset": "roles"})])
def test_the_floor_is_trained_on(env):
    algorithm = maddpg_config(env).build_algo()
    for _ in range(2):
        assert algorithm.train()["num_training_step_calls_per_iteration"] == 1
    algorithm.stop()


def test_pettingzoo_teams_learn():
    register_env("parallel-clock-maddpg", lambda config: ParallelPettingZooEnv(ParallelClock()))
    config = maddpg_config(TwoStepGame)
    config.environment("parallel-clock-maddpg")
    algorithm = config.build_algo()
    algorithm.train()
    assert algorithm.train()["learners"]["team"]["num_updates_lifetime"] > 0
    algorithm.stop()


def test_two_agents_find_the_best_joint_policy_of_the_two_step_game():
    algorithm = maddpg_config(TwoStepGame, seed=0, actor_lr=2e-3, critic_lr=5e-3, tau=0.05).build_algo()
    found = []
    for _ in range(60):
        algorithm.train()
    env, module = algorithm.env_runner.env, algorithm.env_runner.module["team"]
    step = env.reset(seed=0)
    for _ in range(2):
        step = env.step(module.act(step.obs, step.action_mask, explore=False).actions)
        found.append(float(step.reward[0].mean()))
    assert sum(found) == 8.0
    algorithm.stop()


def test_loss_that_is_not_finite_is_refused():
    algorithm = clockwork()
    batch = batches_of(algorithm, 1)[0]
    bad = [batch._replace(rewards=batch.rewards * math.inf)]
    with pytest.raises(NonFiniteLossError, match="module 'team'"):
        algorithm.learner_group._learner.update(training_data=TrainingData(batch=bad))
    algorithm.stop()


def test_buffer_too_small_for_a_fragment_is_refused():
    with pytest.raises(IncompatibleError, match="replay_capacity 20 leaves 5 steps"):
        maddpg_config(Clockwork, replay_capacity=20).build_algo()

"""What RLlib leaves out of a checkpoint is saved in one place and comes back."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.utils.replay_buffers.multi_agent_episode_buffer import MultiAgentEpisodeReplayBuffer
from ray.rllib.utils.replay_buffers.multi_agent_prioritized_episode_buffer import (
    MultiAgentPrioritizedEpisodeReplayBuffer,
)
from replays import map_to_named, whole_episode
from teams import floor_env, ppo_config, to_shared

from algos import exact, learner_state
from algos.learner_state import WholePPOLearner, WholeState
from algos.states import pack, unpack
from envs.rllib import register

pytestmark = [
    pytest.mark.usefixtures("ray_session"),
    pytest.mark.filterwarnings(
        "ignore:.*Overriding environment.*:UserWarning"
    ),  # gymnasium, at RLlib's second algorithm
]


def team(**scaling):
    config = ppo_config(floor_env(), seed=3)
    config.learners(**scaling)
    return config


def stock(**scaling):
    config = PPOConfig()
    config.learners(learner_class=WholePPOLearner, **scaling)
    config.environment(register(), env_config=floor_env(), disable_env_checking=True)
    config.training(train_batch_size_per_learner=64, minibatch_size=32, num_epochs=1, lr=1e-3, use_kl_loss=True)
    config.rl_module(model_config={"fcnet_hiddens": [16]})
    config.env_runners(num_env_runners=0)
    config.multi_agent(policies={"shared"}, policy_mapping_fn=to_shared)
    config.debugging(seed=3, log_level="ERROR")
    return config


def coefficients(algorithm):
    """Of every learner."""
    return [result.get() for result in algorithm.learner_group.foreach_learner(learner_state.kl_coeffs)]


@pytest.mark.parametrize(
    ("make", "scaling", "num_learners"),
    [
        (team, {}, 1),
        pytest.param(team, {"num_learners": 2}, 2, marks=pytest.mark.slow),
        (stock, {}, 1),
        pytest.param(stock, {"num_learners": 1}, 1, marks=pytest.mark.slow),
        pytest.param(stock, {"num_learners": 2}, 2, marks=pytest.mark.slow),
    ],
    ids=["team", "team with two learners", "RLlib's own", "RLlib's own remote one", "RLlib's own two"],
)
def test_kl_coefficients_come_back_to_every_learner(tmp_path, make, scaling, num_learners):
    saved = make(**scaling).build_algo()
    saved.train()  # RLlib makes the coefficients when it first learns
    saved.learner_group.foreach_learner(lambda learner: learner_state.set_kl_coeffs(learner, {"shared": 0.7125}))
    saved.save_checkpoint(str(tmp_path))
    wanted = coefficients(saved)
    assert wanted == [{"shared": pytest.approx(0.7125)}] * num_learners
    saved.stop()
    restored = make(**scaling).build_algo()
    assert coefficients(restored) != wanted
    restored.load_checkpoint(str(tmp_path))
    assert coefficients(restored) == wanted
    restored.stop()


def test_what_is_in_a_learners_state_is_saved_once():
    plain = stock()
    plain.learners(learner_class=PPOTorchLearner)
    for config in (team(), stock(), plain):
        algorithm = config.build_algo()
        algorithm.train()
        learner = algorithm.learner_group._learner
        in_learner = "kl_coeffs" in learner.get_state()
        in_exact = "kl_coeffs" in exact.capture(algorithm)["learner"]
        assert (in_learner, in_exact) == (config is not plain, config is plain)
        assert isinstance(learner, WholeState) == in_learner
        algorithm.stop()


def test_state_of_a_learner_that_is_asked_for_by_position_is_whole():
    """RLlib asks remote learners so."""
    algorithm = team().build_algo()
    learner = algorithm.learner_group._learner
    assert learner.get_state(None)["kl_coeffs"] == learner_state.kl_coeffs(learner)
    assert "kl_coeffs" not in learner.get_state("rl_module")
    algorithm.stop()


def test_random_state_of_the_process_comes_back():
    algorithm = team().build_algo()
    captured = exact.capture(algorithm)
    wanted = torch.rand(3)
    exact.put_back(algorithm, captured)
    assert torch.equal(torch.rand(3), wanted)
    algorithm.stop()


def with_replay(cls):
    """What ``exact`` reads of an algorithm of which nothing but its buffer matters."""
    buffer = cls(capacity=64, batch_size_B=4)
    exact.seed_replay(buffer, 3)
    config = SimpleNamespace(num_env_runners=0)
    return SimpleNamespace(_counters={}, env_runner=None, config=config, local_replay_buffer=buffer, learner_group=None)


def drawn(buffer, modules):
    """What a draw brings: who, when, and how much it counts; then priorities change, where there are any."""
    found = buffer.sample(num_items=4, n_step=1, gamma=0.9, beta=0.5, modules_to_sample=modules)
    if isinstance(buffer, MultiAgentPrioritizedEpisodeReplayBuffer):
        for module in modules:
            buffer.update_priorities(np.arange(1.0, 5.0), module)
    weights = [np.asarray(e.extra_model_outputs["weights"]).tolist() for e in found]
    steps = [(e.module_id, e.t_started, np.asarray(e.get_rewards()).tolist()) for e in found]
    return steps, weights, buffer.get_sampled_timesteps()


@pytest.mark.parametrize("before", [(), ("of a",)], ids=["nothing drawn", "of one module drawn"])
@pytest.mark.parametrize("cls", [MultiAgentEpisodeReplayBuffer, MultiAgentPrioritizedEpisodeReplayBuffer])
def test_replay_buffer_goes_on_with_modules_that_were_not_drawn_from(tmp_path, cls, before):
    unbroken, restored = with_replay(cls), with_replay(cls)
    buffer, again = unbroken.local_replay_buffer, restored.local_replay_buffer
    buffer.add(whole_episode("a", "b"))
    if before:
        drawn(buffer, before)
    for name, content in pack(exact.capture(unbroken), known={"f": map_to_named}).items():
        (tmp_path / name).write_bytes(content)
    exact.put_back(restored, unpack(tmp_path, known={"f": map_to_named}))
    everyone = ("of a", "of b", "of c")
    for each in (buffer, again):
        each.add(whole_episode("a", "b", "c"))  # c is new to both
    for _ in range(3):
        assert drawn(again, everyone) == drawn(buffer, everyone)
    counts = [[each.get_sampled_timesteps(module) for module in everyone] for each in (buffer, again)]
    assert counts[0] == counts[1]

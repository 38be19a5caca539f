"""What RLlib leaves out of a checkpoint is saved in one place and comes back."""

import pytest
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from teams import floor_env, ppo_config, to_shared

from algos import exact, learner_state
from algos.learner_state import WholePPOLearner, WholeState
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
    captured = exact.capture(saved)
    wanted = coefficients(saved)
    assert wanted == [{"shared": pytest.approx(0.7125)}] * num_learners
    saved.stop()
    restored = make(**scaling).build_algo()
    assert coefficients(restored) != wanted
    restored.load_checkpoint(str(tmp_path))
    exact.put_back(restored, captured)
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

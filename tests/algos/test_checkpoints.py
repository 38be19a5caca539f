"""A run that was saved and restored must be the run that was never interrupted, to the last bit."""

import pytest
import torch
from teams import (
    SMALL_TRANSFORMER,
    floor_env,
    maddpg_config,
    mappo_config,
    ppo_config,
    qmix_config,
    to_own,
    with_evaluation,
)

from algos.indq.algorithm import INDQConfig
from algos.mappo.algorithm import IPPOConfig
from algos.policy import flat_weights, weights_sha256
from envs.rllib import TradingEnv

pytestmark = pytest.mark.usefixtures("ray_session")

FALLING = {"lr_decay_steps": 2_000}


def _qmix(**settings):
    return with_evaluation(qmix_config(floor_env(), seed=3, **settings))


def _indq(**settings):
    return with_evaluation(qmix_config(floor_env(), seed=3, config=INDQConfig, **settings))


def _windowed_qmix(**settings):
    return with_evaluation(qmix_config(floor_env(window=3), seed=3, **SMALL_TRANSFORMER, **settings))


def _ppo(**_):
    return with_evaluation(ppo_config(floor_env(), seed=3))


def _windowed_ppo(**_):
    return with_evaluation(ppo_config(floor_env(window=3), seed=3, network=SMALL_TRANSFORMER))


def _mappo(**settings):
    return with_evaluation(mappo_config(floor_env(), seed=3, **settings))


def _maddpg(**settings):
    return with_evaluation(maddpg_config(floor_env(), seed=3, **settings))


def _continuous_maddpg(**settings):
    env = floor_env(desk={"action": "continuous", "preset": "roles"})
    return with_evaluation(maddpg_config(env, seed=3, **settings))


def _continuous_ippo(**settings):
    env = floor_env(desk={"action": "continuous", "preset": "roles"})
    return with_evaluation(mappo_config(env, seed=3, config=IPPOConfig, **settings))


def _separate_ppo(**_):
    env = floor_env()
    config = with_evaluation(ppo_config(env, seed=3, shared=None))
    config.multi_agent(policies=set(TradingEnv(env).possible_agents), policy_mapping_fn=to_own)
    return config


def _trained(algorithm, iterations):
    for _ in range(iterations):
        algorithm.train()
    return algorithm


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (_qmix, {}),
        (_qmix, {"network": "gru", "sequence_length": 4, "n_step": 1}),
        (
            _qmix,
            {"optimizer": "rmsprop", "n_step": 3, "tau": 0.1, "use_shared_networks": False, "lr_decay_steps": 2_000},
        ),
        (_qmix, {"td_lambda": 0.6, "sequence_length": 4, "prioritised_replay": True, "priority_beta_steps": 300}),
        (_indq, {"use_shared_networks": False}),
        (_indq, {"num_quantiles": 4, "dueling": True, "n_step": 3, "prioritised_replay": True, "replay_capacity": 100}),
        (_windowed_qmix, {"use_shared_networks": False}),
        (_ppo, {}),
        (_windowed_ppo, {}),
        (_separate_ppo, {}),
        (_mappo, {}),
        (
            _mappo,
            {"reward": "own", "use_shared_networks": False, "critic_lr": 1e-3, "entropy_decay_steps": 2_000} | FALLING,
        ),
        (_mappo, {"critic": "attention", "use_agent_id": False}),
        (_continuous_ippo, {}),
        (_continuous_ippo, {"network": "gru"}),
        (_maddpg, {"reward": "own", "n_step": 3, "policy_delay": 2} | FALLING),
        (
            _continuous_maddpg,
            {"noise": "ou", "twin_critics": True, "target_noise": 0.2, "use_centralised_gradient": True},
        ),
        (_continuous_maddpg, {"noise": "ou", "network": "gru", "sequence_length": 4}),
    ],
    ids=[
        "qmix",
        "qmix-gru",
        "qmix-nstep-soft",
        "qmix-lambda-priorities",
        "indq-separate",
        "indq-quantiles-priorities",
        "qmix-transformer",
        "ppo",
        "ppo-transformer",
        "ppo-separate",
        "mappo",
        "mappo-own",
        "mappo-attention",
        "ippo",
        "ippo-gru",
        "maddpg",
        "maddpg-ou",
        "maddpg-gru",
    ],
)
def test_a_restored_run_is_the_unbroken_one(make, settings, tmp_path):
    unbroken = _trained(make(**settings).build_algo(), 3)
    before = weights_sha256(flat_weights(unbroken))
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    unbroken.save_checkpoint(str(folder))
    _trained(unbroken, 3)
    wanted = flat_weights(unbroken)
    assert weights_sha256(wanted) != before

    restored = make(**settings).build_algo()
    restored.evaluate()  # whatever happened before the restore must not matter
    restored.load_checkpoint(str(folder))
    assert weights_sha256(flat_weights(restored)) == before
    _trained(restored, 3)
    got = flat_weights(restored)
    different = [name for name in wanted if (got[name] != wanted[name]).any()]
    assert different == []
    assert restored.num_env_steps_sampled == unbroken.num_env_steps_sampled
    results = [a.train()["env_runners"] for a in (unbroken, restored)]
    for name in ("num_env_steps_sampled_lifetime", "num_episodes_lifetime", "episode_return_mean"):
        assert results[0][name] == results[1][name], name
    for algorithm in (unbroken, restored):
        algorithm.stop()


def test_an_older_checkpoint_can_be_restored_into_a_run_that_is_further(tmp_path):
    algorithm = _trained(_qmix().build_algo(), 2)
    algorithm.save_checkpoint(str(tmp_path))
    wanted = flat_weights(_trained(algorithm, 3))
    algorithm.load_checkpoint(str(tmp_path))
    runner, learner = algorithm.env_runner.module["team"], algorithm.learner_group._learner.module["team"]
    assert all(torch.equal(v, learner.state_dict()[k]) for k, v in runner.state_dict().items())
    got = flat_weights(_trained(algorithm, 3))
    assert [name for name in wanted if (got[name] != wanted[name]).any()] == []
    assert all(torch.equal(v, learner.state_dict()[k]) for k, v in runner.state_dict().items())
    algorithm.stop()


def test_evaluation_in_between_changes_nothing(tmp_path):
    plain, curious = (_qmix().build_algo() for _ in range(2))
    for _ in range(4):
        plain.train()
        curious.train()
        curious.evaluate()
    assert weights_sha256(flat_weights(plain)) == weights_sha256(flat_weights(curious))
    for algorithm in (plain, curious):
        algorithm.stop()

"""A run of RLlib's own algorithms that is loaded from a checkpoint goes on as the one that was never interrupted."""

import json

import numpy as np
import pytest
from comparing import flat
from sample_runs import config_of, train_run

from algos.policy import flat_weights
from experiments.settings.run_config import config_to_json
from experiments.tuning.run_trainable import algorithm_class
from experiments.tuning.weights import load_weights

pytestmark = [
    pytest.mark.usefixtures("ray_session"),
    pytest.mark.filterwarnings("ignore:.*Overriding environment.*:UserWarning"),  # gymnasium, at the second algorithm
]
SMALL = {"hidden": [16], "num_envs_per_env_runner": 2, "learning_starts": 64, "train_batch_size_per_learner": 16}
OFTEN = {"checkpoint_interval": 2, "evaluation_interval": 2}
CONTINUOUS = {"desk": {"action": "continuous"}}
SMALL_IMPALA = {  # an iteration takes three samples and a batch four: one is not full when a checkpoint is taken
    "hidden": [16],
    "num_envs_per_env_runner": 2,
    "rollout_fragment_length": 8,
    "train_batch_size_per_learner": 64,
    "lr": 0.01,
}
RUNS = {
    "dqn": config_of("dqn", **OFTEN, dqn=SMALL | {"target_network_update_freq": 70}),
    "sac": config_of("sac", **OFTEN, **CONTINUOUS, sac=SMALL),
    "sac of separate networks": config_of(
        "sac",
        **OFTEN,
        **CONTINUOUS,
        sac=SMALL | {"use_shared_networks": False, "n_step": 3, "target_network_update_freq": 70, "alpha_lr": 0.01},
    ),
    "sac with one Q-network": config_of("sac", **OFTEN, **CONTINUOUS, sac=SMALL | {"twin_q": False}),
    "tqc": config_of("tqc", **OFTEN, **CONTINUOUS, tqc=SMALL | {"n_quantiles": 5, "target_network_update_freq": 70}),
    "impala": config_of("impala", **OFTEN, impala=SMALL_IMPALA),
    "appo of separate networks": config_of(
        "appo",
        **OFTEN,
        appo=SMALL_IMPALA
        | {
            "use_shared_networks": False,
            "use_kl_loss": True,
            "circular_buffer_num_batches": 2,
            "target_network_update_freq": 0.75,
        },
    ),
    "ppo with a falling step size": config_of(
        "ppo",
        runner="rllib",
        **OFTEN,
        ppo={
            "hidden": [16],
            "num_envs_per_env_runner": 2,
            "train_batch_size_per_learner": 64,
            "minibatch_size": 32,
            "num_epochs": 1,
            "lr_decay_steps": 2_000,
        },
    ),
}


def built(run):
    return algorithm_class(run)({"run": config_to_json(run)})


def trained(trainable, iterations):
    """What each iteration reported, but when and how fast."""
    return [flat(trainable.train()) for _ in range(iterations)]


@pytest.mark.parametrize("name", RUNS)
def test_loaded_run_of_rllibs_own_algorithm_is_the_unbroken_one(name, tmp_path):
    unbroken = built(RUNS[name])
    trained(unbroken, 5)
    unbroken.save_checkpoint(str(tmp_path))
    before = flat_weights(unbroken)
    wanted = trained(unbroken, 4)
    loaded = built(RUNS[name])
    if name != "impala":  # which stands for a new process
        trained(loaded, 1)  # whatever happened before must not matter
    loaded.load_checkpoint(str(tmp_path))
    got = trained(loaded, 4)
    assert [{k for k in a.keys() | b.keys() if a.get(k) != b.get(k)} for a, b in zip(wanted, got, strict=True)] == [
        set()
    ] * 4
    after, same = flat_weights(unbroken), flat_weights(loaded)
    assert [n for n in after if not np.array_equal(after[n], same[n])] == []
    assert any(not np.array_equal(after[n], before[n]) for n in after), "it learns"
    for trainable in (unbroken, loaded):
        trainable.stop()


def test_weights_that_are_loaded_bring_the_scale_of_rewards(tmp_path):
    """By another scale the networks' values would be in other units than the targets that they are held against."""
    own = {"hidden": [8], "num_envs_per_env_runner": 4, "learning_starts": 16, "replay_capacity": 256}
    train_run(tmp_path / "dow", config_of("qmix", qmix=own))
    saved = json.loads(next((tmp_path / "dow").glob("trial_0/checkpoint_*/draws.json")).read_text())["scale"]
    fresh = built(config_of("qmix", qmix=own))
    assert fresh.reward_scale.get_state() != saved
    load_weights(fresh, str(tmp_path / "dow"))
    assert fresh.reward_scale.get_state() == saved
    fresh.stop()

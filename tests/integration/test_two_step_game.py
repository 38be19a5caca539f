"""The two-step game of Rashid et al. 2018, section 5: QMIX finds 8, VDN and independent learners settle for 7."""

import pytest
from teams import TwoStepGame, floor_env, greedy_return, ppo_config, qmix_config, with_evaluation

from algos.indq.algorithm import INDQConfig
from algos.policy import flat_weights
from algos.qmix.algorithm import QMIXConfig, TeamQConfig, VDNConfig
from envs.optima.rllib import KnownMarketEnv

pytestmark = pytest.mark.usefixtures("ray_session")

SETTINGS = {
    "lr": 1e-3,
    "epsilon_end": 1.0,
    "hidden": (64,),
    "num_updates": 10,
    "rollout_fragment_length": 8,
    "num_envs_per_env_runner": 8,
    "replay_capacity": 5000,
    "learning_starts": 200,
    "target_network_update_freq": 100,
    "train_batch_size": 64,
    "use_reward_standardisation": False,
}
OF_THE_MIXER = {"mixing_embed_dim": 32, "hypernet_hidden": 64}

SEEDS = [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3, 4))]


def solve(
    config: type[TeamQConfig], seed: int, *, env=KnownMarketEnv, iterations: int = 150, scaling=None, **settings
) -> float:
    usual = SETTINGS | (OF_THE_MIXER if config is QMIXConfig else {})
    built = with_evaluation(qmix_config(env, seed=seed, config=config, **{**usual, **settings}))
    built.environment(env_config={"market": "two-step"})
    for group, values in (scaling or {}).items():
        getattr(built, group)(**values)
    algorithm = built.build_algo()
    for _ in range(iterations):
        algorithm.train()
    found = greedy_return(algorithm)
    algorithm.stop()
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_qmix_finds_the_best_joint_policy(seed):
    assert solve(QMIXConfig, seed) == 8.0


@pytest.mark.parametrize("seed", SEEDS)
def test_vdn_settles_for_the_safe_game(seed):
    assert solve(VDNConfig, seed) == 7.0


@pytest.mark.parametrize(
    ("settings", "seed"),
    [
        pytest.param({}, 0, marks=pytest.mark.slow),
        pytest.param({"reward": "team", "dueling": True, "prioritised_replay": True}, 1, marks=pytest.mark.slow),
        ({"num_quantiles": 8, "dueling": True, "n_step": 2}, 0),
    ],
    ids=["plain", "dueling", "quantiles"],
)
def test_independent_learners_settle_for_the_safe_game(settings, seed):
    """While all act at random, the better game pays each (0 + 1) / 2 or (1 + 8) / 2 on average, less than 7."""
    assert solve(INDQConfig, seed, iterations=60, **settings) == 7.0


@pytest.mark.parametrize(
    ("td_lambda", "found", "seed"),
    [
        (0.1, 8.0, 0),
        pytest.param(0.1, 8.0, 1, marks=pytest.mark.slow),
        pytest.param(0.6, 7.0, 0, marks=pytest.mark.slow),
        pytest.param(0.6, 7.0, 1, marks=pytest.mark.slow),
    ],
)
def test_qmix_mixes_what_it_could_reach_with_what_was_reached(td_lambda, found, seed):
    """While all act at random the better game has paid 2.5, so it is worth 8 - 5.5 lambda: more than 7, or less."""
    settings = {"td_lambda": td_lambda, "sequence_length": 2, "prioritised_replay": True, "train_batch_size": 32}
    assert solve(QMIXConfig, seed, iterations=100, **settings) == found


def test_qmix_finds_it_in_an_environment_that_has_no_batch():
    assert solve(QMIXConfig, 0, env=TwoStepGame) == 8.0


def test_qmix_with_memory_finds_it_too():
    found = solve(QMIXConfig, 0, network="gru", hidden=(32,), sequence_length=4, train_batch_size=32)
    assert found == 8.0


@pytest.mark.parametrize("use_shared_networks", [False])
def test_qmix_with_separate_networks_finds_it_too(use_shared_networks):
    assert solve(QMIXConfig, 0, use_shared_networks=use_shared_networks) == 8.0


@pytest.mark.slow
def test_qmix_learns_with_two_remote_runners():
    assert solve(QMIXConfig, 0, scaling={"env_runners": {"num_env_runners": 2}}, num_envs_per_env_runner=4) == 8.0


@pytest.mark.slow
def test_qmix_learns_with_two_remote_learners():
    assert solve(QMIXConfig, 0, scaling={"learners": {"num_learners": 2}}) == 8.0


@pytest.mark.parametrize(
    "scaling",
    [
        {"env_runners": {"num_env_runners": 2}},
        pytest.param({"learners": {"num_learners": 2}}, marks=pytest.mark.slow),
        pytest.param({"env_runners": {"num_env_runners": 2}, "learners": {"num_learners": 2}}, marks=pytest.mark.slow),
    ],
    ids=["two-runners", "two-learners", "both"],
)
def test_ppo_scales_out(scaling, tmp_path):
    def make():
        config = ppo_config(floor_env(), seed=1)
        for group, values in scaling.items():
            getattr(config, group)(**values)
        return config.build_algo()

    algorithm = make()
    start = flat_weights(algorithm)
    for _ in range(3):
        result = algorithm.train()
    counts = algorithm.env_runner_group.foreach_env_runner(lambda r: r.num_env_steps_sampled_lifetime)
    assert set(counts) == {algorithm.num_env_steps_sampled}, (
        "every runner knows the steps of all, by which epsilon falls"
    )
    per_iteration = 64 * max(1, algorithm.config.num_learners)
    assert result["env_runners"]["num_env_steps_sampled_lifetime"] == 3 * per_iteration
    assert result["env_runners"]["num_episodes_lifetime"] > 0
    trained = flat_weights(algorithm)
    assert any((trained[name] != start[name]).any() for name in start)
    algorithm.save_checkpoint(str(tmp_path))
    algorithm.stop()

    restored = make()
    restored.load_checkpoint(str(tmp_path))
    weights = flat_weights(restored)
    assert all((weights[name] == trained[name]).all() for name in trained)
    in_runners = restored.env_runner_group.foreach_env_runner(
        lambda r: (r.num_env_steps_sampled_lifetime, r.module["shared"].state_dict())
    )
    for count, state in in_runners:
        assert count == 3 * per_iteration
        assert all((value.numpy() == trained[f"shared/{name}"]).all() for name, value in state.items())
    restored.train()
    assert restored.num_env_steps_sampled == 4 * per_iteration
    restored.stop()

"""From a run's settings, presets and search spaces to RLlib's."""

from pathlib import Path

import pytest
from sample_runs import SMALL, config_of

from algos.registry import algorithms
from common.errors import IncompatibleError, InputError
from envs.market import build_market
from experiments.builders.algorithms import MOST_STEPS, SHARED, algorithm_config, check_algorithm
from experiments.builders.environments import environment_of
from experiments.runs.run import find_run
from experiments.search.spaces import search_space
from experiments.settings.command import preset_names
from experiments.settings.fields import settings_of
from experiments.settings.layers import merge, nested
from experiments.settings.run_config import RunConfig, config_from_json, floor_spec
from experiments.tuning.disk_use import predict_disk_use


@pytest.mark.parametrize("algo", sorted(algorithms()))
def test_search_draws_settings_that_exist_for_that_algorithm(algo):
    settings = settings_of(RunConfig)
    for name, domain in search_space(algo, fixed=(), network="mlp").items():
        assert name in settings
        value = domain.sample()
        config_from_json(merge({"algo": algo}, nested({name: value})))


@pytest.mark.parametrize("preset", ["desk", "roles", "rivals"])
@pytest.mark.parametrize(
    ("algo", "runner"),
    [
        ("qmix", "team"),
        ("vdn", "team"),
        ("indq", "team"),
        ("ppo", "team"),
        ("ppo", "rllib"),
        ("dqn", "team"),
        ("sac", "team"),
        ("tqc", "team"),
        ("impala", "rllib"),
        ("appo", "rllib"),
        ("mappo", "team"),
        ("ippo", "team"),
        ("maddpg", "team"),
    ],
)
def test_every_algorithm_takes_every_desk(algo, runner, preset):
    action = "continuous" if algo in ("sac", "tqc") else "discrete"
    config = algorithm_config(config_of(algo, runner=runner, desk={"preset": preset, "action": action}, seed=5))
    config.validate()
    assert config.seed == 5
    assert config.env == "trading-floor"
    assert config.env_config["split"] == "train"
    assert config.evaluation_config["env_config"]["split"] == "validation"
    assert config.evaluation_config["explore"] is False


@pytest.mark.parametrize("algo", ["qmix", "vdn", "indq", "dqn"])
def test_continuous_actions_need_ppo(algo):
    with pytest.raises(IncompatibleError, match=f"--algo {algo} chooses among discrete actions"):
        algorithm_config(config_of(algo, desk={"action": "continuous"}))
    for other in ("ppo", "mappo", "ippo", "maddpg", "impala", "appo"):
        algorithm_config(config_of(other, desk={"action": "continuous"})).validate()


@pytest.mark.parametrize("algo", ["sac", "tqc"])
def test_sac_needs_continuous_actions_and_says_which_setting_gives_them(algo):
    told = f"^--algo {algo} sets numbers, but desk.action is discrete: give --desk.action continuous, or use dqn$"
    with pytest.raises(InputError, match=told):
        algorithm_config(config_of(algo))


@pytest.mark.parametrize("algo", ["sac", "tqc"])
def test_steps_of_sac_are_not_longer_than_what_is_sampled_at_once(algo):
    own = {"n_step": 20, "rollout_fragment_length": 16}
    with pytest.raises(
        InputError, match=rf"--{algo}.n-step is 20, longer than the 16 bars of --{algo}.rollout-fragment"
    ):
        algorithm_config(config_of(algo, desk={"action": "continuous"}, **{algo: own}))


def test_quantiles_that_are_dropped_are_fewer_than_there_are():
    run = config_of("tqc", desk={"action": "continuous"}, tqc={"n_quantiles": 3, "top_quantiles_to_drop_per_net": 3})
    with pytest.raises(InputError, match=r"^RLlib refuses these settings of tqc: Cannot drop 6 quantiles"):
        check_algorithm(run, environment_of(run))


def test_what_rllib_refuses_is_said_by_the_flags_that_the_user_knows():
    run = config_of("ppo", ppo={"train_batch_size_per_learner": 64, "minibatch_size": 128})
    told = r"of ppo: --ppo.minibatch-size \(128\) must be <= --ppo.train-batch-size-per-learner \(64\)\."
    with pytest.raises(InputError, match=told):
        check_algorithm(run, environment_of(run))


@pytest.mark.parametrize("algo", ["ppo", "dqn", "impala", "appo"])
def test_agents_share_a_network_where_they_can(algo):
    assert set(algorithm_config(config_of(algo)).policies) == {SHARED}
    separate = algorithm_config(config_of(algo, **{algo: {"use_shared_networks": False}}))
    assert set(separate.policies) == {"trader_0", "trader_1", "trader_2", "trader_3"}
    assert separate.policy_mapping_fn("trader_2", None) == "trader_2"
    roles = {"desk": {"preset": "roles"}}
    assert len(algorithm_config(config_of(algo, **roles)).policies) == 5
    with pytest.raises(IncompatibleError, match=f"--{algo}.use-shared-networks needs"):
        algorithm_config(config_of(algo, **roles, **{algo: {"use_shared_networks": True}}))


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_builds(name):
    config = find_run(["--preset", name]).config
    algorithm_config(config).validate()
    predict_disk_use(config, environment_of(config), Path("results"))


def test_preset_of_pymarl2_is_its_file_translated():
    """By src/config/algs/qmix.yaml; an episode is 128 bars, 8 of them are run side by side."""
    config = find_run(["--preset", "pymarl2"]).config
    s, bars = config.qmix, config.floor.horizon_bars
    assert (config.algo, s.optimizer, s.lr, s.td_lambda, s.network) == ("qmix", "adam", 1e-3, 0.6, "gru")
    assert (s.epsilon_start, s.epsilon_end, s.epsilon_decay_steps) == (1.0, 0.05, 100_000)
    assert (s.train_batch_size, s.sequence_length, s.replay_capacity) == (128, bars, 5_000 * bars)
    assert (s.num_envs_per_env_runner, s.rollout_fragment_length, s.num_updates) == (8, bars, 1)
    assert s.target_network_update_freq * 8 == 200
    assert (s.mixing_embed_dim, s.hypernet_hidden, s.hidden, s.grad_clip, s.gamma) == (32, 64, (64, 64), 10.0, 0.99)
    assert s.learning_starts == 128 * bars


def test_preset_of_finsense_is_one_trader_at_a_brokers_costs():
    config = find_run(["--preset", "finsense"]).config
    assert (config.algo, config.keep, config.data.train, config.data.test) == ("indq", 5, 0.6, 0.2)
    assert len(build_market(floor_spec(config)).mandates) == 1
    costs = config.floor.costs
    assert min(costs.commission_bps, costs.commission_min_usd, costs.half_spread_bps) > 0
    assert (costs.temporary_impact, costs.permanent_impact) == (None, None), "as the prices have volumes or not"
    assert config.indq.epsilon_decay_steps < config.episodes * config.floor.horizon_bars


@pytest.mark.parametrize("settings", [{"network": "gru"}, {"td_lambda": 0.5}])
def test_search_draws_no_n_step_returns_where_sequences_are_learned_from(settings):
    plain = {"network": "mlp", "td_lambda": 0.0}
    for algo, group in (("qmix", "qmix"), ("vdn", "qmix"), ("indq", "indq")):
        space = search_space(algo, fixed=(), **plain)
        assert space.keys() - search_space(algo, fixed=(), **plain | settings).keys() == {f"{group}.n_step"}


def test_rllibs_own_runner_refuses_a_network_that_it_could_not_tell_of_windows():
    own = {"ppo": {"network": "transformer"}}
    algorithm_config(config_of("ppo", **own)).validate()
    with pytest.raises(InputError, match=r"--ppo\.network transformer needs --runner team"):
        algorithm_config(config_of("ppo", runner="rllib", **own))


@pytest.mark.parametrize("algo", ["vdn", "maddpg"])
def test_searches_draw_no_returns_of_several_steps_for_a_network_with_a_memory(algo):
    group = "qmix" if algo == "vdn" else algo
    plain, recurrent = (search_space(algo, fixed=(), network=network) for network in ("mlp", "gru"))
    assert set(plain) - set(recurrent) == {f"{group}.n_step"}


def test_settings_reach_rllib():
    config = algorithm_config(
        config_of("ppo", ppo={"lr": 0.1, "lambda_": 0.7, "hidden": [8]}, scaling={"num_envs_per_env_runner": 3})
    )
    assert (config.lr, config.lambda_, config.num_envs_per_env_runner) == (0.1, 0.7, 3)
    dqn = algorithm_config(config_of("dqn", dqn={"n_step": 3, "target_network_update_freq": 77}))
    assert (dqn.n_step, dqn.target_network_update_freq) == (3, 77)
    mappo = algorithm_config(config_of("mappo", mappo={"lr": 0.1, "num_envs_per_env_runner": 3}))
    assert (mappo.lr, mappo.num_envs_per_env_runner, mappo.use_global_state, mappo.pays_own_reward) == (
        0.1,
        3,
        True,
        False,
    )
    ippo = algorithm_config(config_of("ippo"))
    assert (ippo.use_global_state, ippo.pays_own_reward) == (False, True)
    own = {"td_lambda": 0.5, "sequence_length": 9, "prioritised_replay": True}
    indq = algorithm_config(config_of("indq", indq=own))
    assert (indq.use_global_state, indq.pays_own_reward, indq.sequence_length) == (False, True, 9)
    assert indq.replays_by_priority
    maddpg = algorithm_config(config_of("maddpg", maddpg={"critic_lr": 0.2, "gamma": 0.8, "reward": "own"}))
    assert (maddpg.lr, maddpg.gamma, maddpg.use_global_state, maddpg.pays_own_reward) == (0.2, 0.8, False, True)
    sac = algorithm_config(config_of("sac", desk={"action": "continuous"}, sac={"actor_lr": 0.3, "target_entropy": -7}))
    assert (sac.actor_lr, sac.critic_lr, sac.target_entropy, sac.initial_alpha) == (0.3, 3e-4, -7, 0.01)
    tqc = algorithm_config(config_of("tqc", desk={"action": "continuous"}, tqc={"critic_lr": 0.2, "n_quantiles": 9}))
    assert (tqc.critic_lr, tqc.n_quantiles, tqc.n_critics, tqc.top_quantiles_to_drop_per_net) == (0.2, 9, 2, 2)
    impala = algorithm_config(config_of("impala", impala={"lr": 0.1, "rollout_fragment_length": 7}))
    assert (impala.lr, impala.rollout_fragment_length, impala.entropy_coeff, impala.num_env_runners) == (
        0.1,
        7,
        0.003,
        0,
    )
    assert impala.model_config["vf_share_layers"] is False
    appo = algorithm_config(config_of("appo", appo={"grad_clip": 3.0, "clip_param": 0.3, "tau": 0.5}))
    assert (appo.grad_clip, appo.clip_param, appo.tau, appo.circular_buffer_iterations_per_batch) == (3.0, 0.3, 0.5, 2)
    scaled = algorithm_config(config_of("qmix", scaling={"num_env_runners": 2, "num_learners": 2}))
    assert (scaled.num_env_runners, scaled.num_learners, scaled.num_gpus_per_learner) == (2, 2, 0)


def test_iterations_of_dqn_are_not_longer_than_a_checkpoint_interval():
    short = algorithm_config(config_of("dqn", checkpoint_interval=3))
    assert short.min_sample_timesteps_per_iteration == 3 * SMALL["floor"]["horizon_bars"]
    assert algorithm_config(config_of("dqn", checkpoint_interval=900)).min_sample_timesteps_per_iteration == MOST_STEPS

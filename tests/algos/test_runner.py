import numpy as np
import pytest
import torch
from ray.rllib.core import COMPONENT_RL_MODULE
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES, INPUT_ENV_SPACES
from ray.rllib.utils.metrics import EPISODE_AGENT_RETURN_MEAN
from teams import (
    SMALL_TRANSFORMER,
    WIDTHS,
    Clockwork,
    floor_env,
    mappo_config,
    ppo_config,
    qmix_config,
    to_own,
    with_evaluation,
)

from algos.rollout import Rollout
from algos.runner import ENV_STATE, TEAM_MODULE, TeamEnvRunner
from algos.windows import window_of
from common.errors import IncompatibleError

pytestmark = pytest.mark.usefixtures("ray_session")


def runner_of(config, **kwargs) -> TeamEnvRunner:
    config.freeze()
    return TeamEnvRunner(config=config, **kwargs)


def clock_config(**env):
    config = qmix_config(Clockwork, rollout_fragment_length=5, num_envs_per_env_runner=2)
    config.environment(env_config=env)
    return config


def assert_same(a: Rollout, b: Rollout) -> None:
    for name, value in a.__getstate__().items():
        other = b.__getstate__()[name]
        if isinstance(value, dict):
            assert all(np.array_equal(value[k], other[k]) for k in value), name
        else:
            assert np.array_equal(value, other), name


def test_a_rollout_holds_what_was_seen_done_and_paid():
    runner = runner_of(clock_config(length=3))
    (one,), (two,) = runner.sample(), runner.sample()
    assert one.obs.shape == (6, 2, 2, 3)
    assert one.obs[:, 0, 0].tolist() == [[t % 3, t // 3, 0] for t in range(6)]
    assert torch.equal(one.rewards[0], 10.0 + one.actions[0])
    assert one.truncated[:, 0].tolist() == [False, False, True, False, False]
    assert one.final_index.tolist() == [[2, 0], [2, 1]]
    assert one.final_obs[0].tolist() == [[3, 0, 0], [3, 0, 0]]
    assert one.final_state[0].tolist() == [3, 0, 0, 3, 0, 0]
    assert torch.equal(two.obs[0], one.obs[-1]), "the second rollout goes on where the first one stopped"
    assert (one.logp, one.dist_inputs) == (None, None)
    assert one.source == 0


def test_masks_are_obeyed_and_stored():
    runner = runner_of(clock_config(use_masks=True))
    (rollout,) = runner.sample()
    assert rollout.action_mask[1].tolist() == [[[False, True, False]] * 2] * 2
    assert bool(rollout.action_mask[:-1].gather(-1, rollout.actions.unsqueeze(-1)).all())
    assert (rollout.actions[rollout.obs[:-1, :, :, 0] % 2 == 1] == 1).all()


def test_spaces_keep_the_order_of_the_agents():
    runner = runner_of(clock_config())
    spaces = runner.get_spaces()
    for key in (INPUT_ENV_SPACES, INPUT_ENV_SINGLE_SPACES):
        assert [list(s.spaces) for s in spaces[key]] == [list(WIDTHS)] * 2
    obs, actions = spaces[TEAM_MODULE]
    assert list(obs["obs"].spaces) == list(actions.spaces) == list(WIDTHS)
    assert obs["state"].shape == (6,)


def test_networks_are_told_where_the_bars_of_the_floor_stand():
    env = floor_env(window=3, desk={"preset": "roles"})
    runner = runner_of(mappo_config(env, **SMALL_TRANSFORMER))
    spaces = runner.get_spaces()["team"][0]["obs"].spaces
    assert [tuple(window_of(space)) for space in spaces.values()] == list(runner.env.windows)
    encoder = runner.module["team"].agents.encoder
    lead, num_bars, width = runner.env.windows[0]
    assert num_bars == 3
    assert encoder.bar_columns[0, :, :width].flatten().tolist() == list(range(lead, lead + 3 * width))


def test_each_agent_acts_by_its_own_network_with_its_own_width():
    config = ppo_config(Clockwork, shared=None)
    config.multi_agent(policies=set(WIDTHS), policy_mapping_fn=to_own)
    runner = runner_of(config)
    (rollout,) = runner.sample(num_timesteps=8)
    assert {m: runner.module[m].observation_space.shape for m in WIDTHS} == {"zoe": (3,), "abe": (2,)}
    assert {m: v.shape[-1] for m, v in rollout.dist_inputs.items()} == {"zoe": 2, "abe": 3}
    out = runner.module["abe"].forward_inference({"obs": rollout.obs[0, :, 1, :2]})["action_dist_inputs"]
    assert torch.allclose(out, rollout.dist_inputs["abe"][0, :, 0], atol=1e-6)
    with pytest.raises(IncompatibleError, match="share network 'shared'"):
        runner_of(ppo_config(Clockwork))


def test_steps_and_episodes_are_counted_under_rllibs_names():
    runner = runner_of(clock_config(length=2, end="terminated"))
    runner.sample()
    runner.sample()
    found = runner.metrics.peek()
    assert found["num_env_steps_sampled"] == found["num_env_steps_sampled_lifetime"] == 20
    assert found["num_agent_steps_sampled_lifetime"] == {"zoe": 20, "abe": 20}
    assert found["num_module_steps_sampled_lifetime"] == {TEAM_MODULE: 40}
    assert found["num_episodes_lifetime"] == 10
    assert found["episode_len_mean"] == 2
    assert 60 <= found["episode_return_min"] <= found["episode_return_mean"] <= found["episode_return_max"] <= 66
    by_agent = found[EPISODE_AGENT_RETURN_MEAN]
    assert sum(by_agent.values()) == pytest.approx(found["episode_return_mean"])
    runner.get_metrics()
    runner.sample()
    assert runner.metrics.peek()["num_env_steps_sampled"] == 10, "reported once, then counted anew"
    assert runner.num_env_steps_sampled_lifetime == 30


def test_returns_are_summed_over_rollouts_until_the_episode_ends():
    config = clock_config(length=7)
    runner = runner_of(config)
    (one,), (two,) = runner.sample(explore=False), runner.sample(explore=False)
    totals = torch.cat([one.rewards, two.rewards])[:7].sum((0, 2))
    assert runner.metrics.peek()["episode_return_mean"] == pytest.approx(float(totals.mean()))
    assert runner.metrics.peek()["episode_len_mean"] == 7


def test_figures_of_the_floor_are_logged():
    runner = runner_of(qmix_config(floor_env(horizon_bars=6)))
    runner.sample()
    found = runner.metrics.peek()["floor"]
    assert found["episode_len"] == 6
    assert set(found) >= {"profit", "sharpe", "calmar", "max_drawdown", "num_trades", "turnover", "total_costs_usd"}


def test_the_same_seed_draws_the_same_rollouts_and_another_one_others():
    def sampled(seed, **kwargs):
        runner = runner_of(qmix_config(floor_env(), seed=seed), **kwargs)
        for parameter in runner.module[TEAM_MODULE].parameters():
            parameter.data.zero_()  # so that rollouts differ by their draws alone
        return [runner.sample()[0] for _ in range(2)]

    one, two = sampled(1), sampled(1)
    assert_same(one[0], two[0])
    assert_same(one[1], two[1])
    assert not torch.equal(one[0].actions, one[1].actions)
    assert not torch.equal(one[0].actions, sampled(2)[0].actions)
    assert not torch.equal(one[0].actions, sampled(1, worker_index=1)[0].actions)


@pytest.mark.parametrize("network", ["mlp", "gru"])
def test_a_saved_runner_goes_on_bit_for_bit_in_the_middle_of_its_episodes(network):
    def make():
        return runner_of(qmix_config(floor_env(horizon_bars=7), network=network, epsilon_end=0.3))

    one = make()
    one.sample()
    state = one.get_state()
    two = make()
    two.sample()
    two.sample()
    two.set_state(state)
    assert torch.equal(one._episodes.returns, two._episodes.returns)
    assert two._episodes.lens.tolist() == [1] * 4, "eight steps of episodes of seven"
    for _ in range(3):
        assert_same(one.sample()[0], two.sample()[0])
    assert torch.equal(one._episodes.returns, two._episodes.returns)


def test_memory_is_emptied_where_an_episode_ended():
    config = qmix_config(Clockwork, network="gru", rollout_fragment_length=3, num_envs_per_env_runner=1)
    config.environment(env_config={"length": 3})
    runner = runner_of(config)
    runner.sample(num_timesteps=2)
    assert bool(runner._carry.any())
    runner.sample(num_timesteps=1)
    assert not runner._carry.any()


def test_an_adapted_environment_starts_new_episodes_and_new_draws_after_a_restore():
    one, two = runner_of(clock_config(length=9)), runner_of(clock_config(length=9))
    one.sample()
    two.set_state(one.get_state())
    (rollout,) = two.sample()
    assert rollout.obs[0, :, 0, 0].tolist() == [0, 0]
    assert [e.seed_ for e in two.env.envs] != [e.seed_ for e in one.env.envs]


def test_the_state_of_another_runners_environment_is_left_alone():
    one = runner_of(qmix_config(floor_env()))
    one.sample()
    two = runner_of(qmix_config(floor_env(), num_envs_per_env_runner=2), worker_index=1)
    two.set_state(one.get_state())
    assert two.sample()[0].num_replicas == 2
    assert torch.equal(two.module[TEAM_MODULE].agents.head.weight, one.module[TEAM_MODULE].agents.head.weight)


def test_parts_of_the_state_can_be_asked_for_alone():
    runner = runner_of(clock_config())
    runner.sample()
    assert COMPONENT_RL_MODULE not in runner.get_state(not_components=COMPONENT_RL_MODULE)
    assert ENV_STATE in runner.get_state(not_components=COMPONENT_RL_MODULE)
    assert ENV_STATE not in runner.get_state(components=[COMPONENT_RL_MODULE])


def test_asking_for_episodes_starts_anew_and_stops_when_they_have_ended():
    runner = runner_of(clock_config(length=3))
    runner.sample()
    (rollout,) = runner.sample(num_episodes=3, explore=False)
    assert rollout.num_steps == 6, "two replicas end together, so three episodes take two rounds"
    assert rollout.obs[0, :, 0, 0].tolist() == [0, 0]
    (again,) = runner.sample(num_episodes=3, explore=False)
    assert_same(rollout, again)


def test_each_step_of_a_sample_is_told_and_what_is_raised_there_ends_it():
    class EnoughError(Exception):
        pass

    def stop_at_four(steps, ended):
        told.append((steps, ended))
        if steps == 4:
            raise EnoughError

    runner, told = runner_of(clock_config(length=3)), []
    (whole,) = runner.sample(num_episodes=3, explore=False)
    runner.on_step = stop_at_four
    with pytest.raises(EnoughError):
        runner.sample(num_episodes=3, explore=False)
    assert told == [(1, 0), (2, 0), (3, 2), (4, 2)], "two replicas end together"
    runner.on_step = None
    (again,) = runner.sample(num_episodes=3, explore=False)
    assert_same(whole, again)


def test_asking_for_steps_rounds_up_to_whole_joint_steps():
    runner = runner_of(clock_config())
    assert runner.sample(num_timesteps=7)[0].num_steps == 4
    assert runner.sample(num_timesteps=4, force_reset=True)[0].obs[0, :, 0, 0].tolist() == [0, 0]
    with pytest.raises(ValueError, match="either num_timesteps or num_episodes"):
        runner.sample(num_timesteps=1, num_episodes=1)
    with pytest.raises(ValueError, match="no random_actions"):
        runner.sample(random_actions=True)


def test_runners_return_rollouts_of_one_length_where_rllib_would_round_some_down():
    config = ppo_config(floor_env())
    config.training(train_batch_size_per_learner=100)
    config.env_runners(num_env_runners=3, num_envs_per_env_runner=8)
    rllibs = [config.get_rollout_fragment_length(i) for i in (1, 2, 3)]
    assert len(set(rllibs)) == 2
    steps = {runner_of(config.copy(copy_frozen=False), worker_index=i).sample()[0].num_steps for i in (1, 2, 3)}
    assert steps == {max(rllibs)}


def test_epsilon_counts_the_steps_of_all_runners():
    config = qmix_config(floor_env(), epsilon_start=1.0, epsilon_end=0.0, epsilon_decay_steps=96)
    config.env_runners(num_env_runners=3)
    runner = runner_of(config, worker_index=1)
    seen, act = [], runner._actor.act
    runner._actor.act = lambda *a, timestep, **k: (seen.append(timestep), act(*a, timestep=timestep, **k))[1]
    runner.sample()
    assert seen == [0, 12, 24, 36, 48, 60, 72, 84]


def test_a_runner_without_an_environment_takes_its_spaces_from_the_others():
    config = qmix_config(floor_env())
    config.env_runners(num_env_runners=1)
    spaces = runner_of(config.copy(copy_frozen=False), worker_index=1).get_spaces()
    local = runner_of(config, worker_index=0, spaces=spaces)
    assert local.get_spaces() == spaces
    with pytest.raises(ValueError, match="no environment"):
        local.sample()


def test_floor_and_networks_are_where_the_config_says():
    config = qmix_config(floor_env())
    config.floor_device = "meta"
    with pytest.raises(RuntimeError, match="meta"):
        runner_of(config)


def test_evaluation_is_greedy_repeatable_and_apart_from_training():
    config = with_evaluation(qmix_config(floor_env(), epsilon_end=1.0), num_envs_per_env_runner=2)
    algorithm = config.build_algo()
    found = [algorithm.evaluate()["env_runners"]["episode_return_mean"] for _ in range(2)]
    assert found[0] == found[1]
    runner = algorithm.eval_env_runner
    assert runner.env.num_replicas == 2
    assert runner.config.in_evaluation
    assert algorithm.env_runner.num_env_steps_sampled_lifetime == 0
    (rollout,) = runner.sample(num_episodes=1)
    best = runner.module[TEAM_MODULE].act(rollout.obs[0], None, explore=False).actions
    assert torch.equal(rollout.actions[0], best)
    algorithm.stop()

import numpy as np
import pytest
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.evaluation.postprocessing import Postprocessing
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME
from teams import WIDTHS, Clockwork, floor_env, ppo_config, to_own

from algos.learner import NonFiniteLossError
from algos.minibatches import cyclic_order
from algos.policy import flat_weights
from algos.ppo.algorithm import TeamPPO, apply_ppo_settings
from algos.ppo.catalog import NETWORK_KEYS
from algos.ppo.config import PPOSettings
from algos.ppo.module import MaskedPPOModule
from algos.rollout import Rollout
from common.errors import IncompatibleError

pytestmark = pytest.mark.usefixtures("ray_session")


def configure(config):
    config.training(
        lr=0.01,
        gamma=0.9,
        lambda_=0.8,
        train_batch_size_per_learner=64,
        minibatch_size=None,
        num_epochs=3,
        use_kl_loss=True,
        kl_coeff=0.7,
        kl_target=1e-5,
        entropy_coeff=0.01,
        vf_loss_coeff=0.3,
        vf_clip_param=0.02,
        grad_clip=0.5,
        grad_clip_by="global_norm",
    )
    config.rl_module(model_config={"fcnet_hiddens": [16], "fcnet_activation": "tanh"})
    config.debugging(seed=0, log_level="ERROR")
    return config


def episodes_of(rollout: Rollout, spaces) -> list[SingleAgentEpisode]:
    """The same data as RLlib would hold it: an episode object for each stretch of each agent in each replica."""
    finals = {tuple(i): k for k, i in enumerate(rollout.final_index.tolist())}
    episodes = []
    for b in range(rollout.num_replicas):
        for n in range(rollout.num_agents):
            start = 0
            for t in range(rollout.num_steps):
                ended = bool(rollout.ended[t, b])
                if not ended and t + 1 < rollout.num_steps:
                    continue
                last = rollout.final_obs[finals[t, b], n] if ended else rollout.obs[t + 1, b, n]
                part = slice(start, t + 1)
                episodes.append(
                    SingleAgentEpisode(
                        observations=[*rollout.obs[part, b, n].numpy(), last.numpy()],
                        actions=list(rollout.actions[part, b, n].numpy()),
                        rewards=rollout.rewards[part, b, n].tolist(),
                        terminated=bool(rollout.terminated[t, b]),
                        truncated=bool(rollout.truncated[t, b]),
                        extra_model_outputs={
                            Columns.ACTION_DIST_INPUTS: list(rollout.dist_inputs["shared"][part, b, n].numpy()),
                            Columns.ACTION_LOGP: list(rollout.logp[part, b, n].numpy()),
                        },
                        len_lookback_buffer=0,
                        observation_space=spaces[0],
                        action_space=spaces[1],
                    )
                )
                start = t + 1
    return episodes


def rllibs_columns(learner, rollout: Rollout, spaces) -> dict[str, torch.Tensor]:
    """Rows as RLlib's connectors make them, without its phantom steps, in the order of our rows."""
    episodes = episodes_of(rollout, spaces)
    batch = learner._learner_connector(rl_module=learner.module, batch={}, episodes=episodes, shared_data={})
    columns = batch[DEFAULT_MODULE_ID]
    real = columns.pop(Columns.LOSS_MASK)
    shape = (rollout.num_replicas, rollout.num_agents, rollout.num_steps)
    order = torch.arange(int(real.sum())).view(shape).permute(2, 0, 1).flatten()
    rows = {name: values[real][order] for name, values in columns.items()}
    # RLlib standardises over the phantom steps too; without them its advantages must be ours
    with torch.no_grad():
        raw = rows[Postprocessing.VALUE_TARGETS] - learner.module[DEFAULT_MODULE_ID].compute_values(rows)
    rows[Postprocessing.ADVANTAGES] = (raw - raw.mean()) / raw.std(unbiased=False).clamp_min(1e-4)
    return rows


@pytest.mark.parametrize("desk", [{}, {"action": "continuous"}], ids=["discrete", "continuous"])
def test_updates_equal_those_of_rllibs_own_learner_on_the_same_episodes(desk, monkeypatch):
    monkeypatch.setattr("algos.ppo.learner.cyclic_order", lambda rows, wanted, _: torch.arange(wanted) % rows)
    algorithm = configure(ppo_config(floor_env(horizon_bars=5, desk=desk))).build_algo()
    runner, ours = algorithm.env_runner, algorithm.learner_group._learner
    (rollout,) = runner.sample(num_timesteps=4 * 13)
    half = torch.arange(13).unsqueeze(1) // 5 == 1  # some of the ends as terminations, for the learner's sake
    rollout.terminated, rollout.truncated = rollout.truncated & half, rollout.truncated & ~half
    assert bool(rollout.terminated.any())
    assert bool(rollout.truncated.any())
    spaces = runner.get_spaces()["shared"]
    theirs = configure(PPOConfig()).build_learner(spaces={DEFAULT_MODULE_ID: spaces})
    theirs.module[DEFAULT_MODULE_ID].set_state(ours.module["shared"].get_state())

    wanted = rllibs_columns(theirs, rollout, spaces)
    agents, widths = algorithm._layout()
    for name, values in ours._columns(rollout, "shared", agents["shared"], widths["shared"]).items():
        assert torch.allclose(values, wanted[name], atol=2e-5), name

    rows = rollout.agent_steps()
    learn = {"agents": agents, "widths": widths, "num_epochs": 3, "minibatch_size": rows, "num_minibatches": 3}
    ours.update(training_data=TrainingData(batch=rollout), **learn)
    for _ in range(3):
        theirs._update({DEFAULT_MODULE_ID: wanted})
    theirs.after_gradient_based_update(timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: 0})
    state = theirs.module[DEFAULT_MODULE_ID].get_state()
    for name, value in ours.module["shared"].get_state().items():
        np.testing.assert_allclose(value, state[name], atol=1e-4, err_msg=name)
    coefficients = [x.curr_kl_coeffs_per_module[m] for x, m in ((ours, "shared"), (theirs, DEFAULT_MODULE_ID))]
    assert float(coefficients[0]) == float(coefficients[1]) == pytest.approx(0.7 * 1.5)
    algorithm.stop()


def test_forbidden_actions_have_no_probability_when_acting_and_when_learning():
    config = ppo_config(Clockwork, shared=None).multi_agent(policies=set(WIDTHS), policy_mapping_fn=to_own)
    config.environment(env_config={"use_masks": True})
    algorithm = config.build_algo()
    (rollout,) = algorithm.env_runner.sample()
    assert bool(rollout.action_mask[:-1].gather(-1, rollout.actions.unsqueeze(-1)).all())
    learner, (agents, widths) = algorithm.learner_group._learner, algorithm._layout()
    assert (agents, widths) == ({"zoe": [0], "abe": [1]}, {"zoe": 3, "abe": 2})
    for module_id, index in agents.items():
        columns = learner._columns(rollout, module_id, index, widths[module_id])
        out = learner.module[module_id].forward_train(columns)[Columns.ACTION_DIST_INPUTS]
        assert torch.allclose(out, columns[Columns.ACTION_DIST_INPUTS], atol=1e-5)
        assert not torch.softmax(out, -1)[~columns["action_mask"]].any()
    results = [algorithm.train() for _ in range(2)]
    assert all(np.isfinite(results[-1]["learners"][m]["total_loss"]) for m in WIDTHS)
    algorithm.stop()


def test_masks_leave_allowed_logits_as_they_are():
    algorithm = ppo_config(floor_env()).build_algo()
    module = algorithm.env_runner.module["shared"]
    assert isinstance(module.unwrapped(), MaskedPPOModule)
    obs = torch.randn(7, module.observation_space.shape[0])
    mask = torch.rand(7, 5) < 0.5
    free, masked = (
        module.forward_inference(b)[Columns.ACTION_DIST_INPUTS]
        for b in ({"obs": obs}, {"obs": obs, "action_mask": mask})
    )
    assert torch.equal(free[mask], masked[mask])
    assert bool((masked[~mask] < -1e8).all())
    algorithm.stop()


def test_books_of_different_width_learn_with_networks_of_their_own():
    env = {"is_box": True}
    config = ppo_config(Clockwork, shared=None).multi_agent(policies=set(WIDTHS), policy_mapping_fn=to_own)
    config.environment(env_config=env)
    algorithm = config.build_algo()
    before = flat_weights(algorithm)
    result = algorithm.train()
    (rollout,) = algorithm.env_runner.sample()
    learner, (agents, widths) = algorithm.learner_group._learner, algorithm._layout()
    for module_id, dims in (("zoe", 1), ("abe", 2)):
        columns = learner._columns(rollout, module_id, agents[module_id], widths[module_id])
        assert columns[Columns.ACTIONS].shape[-1] == dims
        assert np.isfinite(result["learners"][module_id]["total_loss"])
    after = flat_weights(algorithm)
    assert all((after[name] != before[name]).any() for name in before if "actor" in name)
    algorithm.stop()


def test_every_row_is_learned_from_equally_often():
    generator = torch.Generator().manual_seed(0)
    order = cyclic_order(10, 25, generator)
    assert order.shape == (25,)
    assert torch.bincount(order[:20], minlength=10).tolist() == [2] * 10
    assert order[:10].tolist() != order[10:20].tolist()


def test_trained_steps_are_counted_once_however_many_networks_there_are():
    config = ppo_config(Clockwork, shared=None).multi_agent(policies=set(WIDTHS), policy_mapping_fn=to_own)
    algorithm = config.build_algo()
    found = algorithm.train()["learners"]
    assert found["zoe"]["num_module_steps_trained"] == 128  # 64 steps, two epochs
    assert found["__all_modules__"]["num_module_steps_trained"] == 256
    assert found["__all_modules__"]["num_env_steps_trained_lifetime"] == 64
    algorithm.stop()


def test_minibatches_are_drawn_from_seed_and_update_alone():
    def trained(**kwargs):
        algorithm = ppo_config(floor_env(), **kwargs).build_algo()
        algorithm.train()
        torch.manual_seed(99)  # whatever else draws random numbers must not matter
        algorithm.train()
        weights = flat_weights(algorithm)
        algorithm.stop()
        return weights

    one, two = trained(), trained()
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_every_update_shuffles_anew(monkeypatch):
    seeds = []
    monkeypatch.setattr(
        "algos.ppo.learner.cyclic_order",
        lambda rows, wanted, generator: (seeds.append(generator.initial_seed()), torch.arange(wanted) % rows)[1],
    )
    algorithm = ppo_config(floor_env()).build_algo()
    for _ in range(3):
        algorithm.train()
    assert len(set(seeds)) == 3
    algorithm.stop()


def test_a_loss_that_is_not_finite_stops_the_trial():
    algorithm = ppo_config(floor_env()).build_algo()
    (rollout,) = algorithm.env_runner.sample()
    rollout.rewards[0, 0] = torch.nan
    agents, widths = algorithm._layout()
    learn = {"agents": agents, "widths": widths, "num_epochs": 1, "minibatch_size": 32, "num_minibatches": 2}
    with pytest.raises(NonFiniteLossError, match="loss of module 'shared' is nan"):
        algorithm.learner_group._learner.update(training_data=TrainingData(batch=rollout), **learn)
    algorithm.stop()


def test_agents_mapped_to_networks_that_do_not_exist_are_named():
    algorithm = ppo_config(floor_env()).build_algo()
    algorithm.config = algorithm.config.copy(copy_frozen=False)
    algorithm.config.multi_agent(policy_mapping_fn=to_own)
    with pytest.raises(IncompatibleError, match="modules that do not exist"):
        algorithm._layout()
    algorithm.stop()


def test_settings_reach_rllibs_config_under_their_names():
    settings = PPOSettings(lr=0.02, clip_param=0.11, hidden=(7,), activation="tanh", kl_target=0.5, grad_clip=None)
    config = apply_ppo_settings(TeamPPO.get_default_config(), settings)
    same = set(PPOSettings.__dataclass_fields__) - {"hidden", "activation", "use_shared_networks", "lr_decay_steps"}
    for name in same - {"num_envs_per_env_runner", *NETWORK_KEYS}:
        assert getattr(config, name) == getattr(settings, name), name
    falling = apply_ppo_settings(TeamPPO.get_default_config(), PPOSettings(lr=0.02, lr_decay_steps=100))
    assert falling.lr == [[0, 0.02], [100, pytest.approx(0.0002)]]
    assert config.model_config["fcnet_hiddens"] == [7]
    assert config.model_config["fcnet_activation"] == "tanh"


def test_transformer_reaches_rllibs_networks_and_a_gru_is_refused():
    settings = PPOSettings(network="transformer", d_model=8, num_heads=2, num_layers=3)
    model = apply_ppo_settings(TeamPPO.get_default_config(), settings).model_config
    assert [model[key] for key in NETWORK_KEYS] == ["transformer", 8, 2, 3]
    with pytest.raises(IncompatibleError, match="ppo's networks have no memory"):
        apply_ppo_settings(TeamPPO.get_default_config(), PPOSettings(network="gru"))

import json

import numpy as np
import pytest
import torch
from teams import (
    SMALL_TRANSFORMER,
    Clockwork,
    floor_env,
    maddpg_config,
    mappo_config,
    ppo_config,
    qmix_config,
    to_own,
    with_evaluation,
)

from algos.export import SHARED_PARTS, export_networks
from algos.policy import (
    LAYOUT_FILE,
    flat_weights,
    layout_differences,
    load_policy,
    read_layout,
    team_layout,
    weights_sha256,
)
from common.errors import IncompatibleError
from envs.rllib import TradingEnv

pytestmark = pytest.mark.usefixtures("ray_session")


def saved(config, folder):
    algorithm = config.build_algo()
    algorithm.train()
    algorithm.save_checkpoint(str(folder))
    (folder / LAYOUT_FILE).write_text(json.dumps(team_layout(algorithm)), encoding="utf-8")
    return algorithm


def own_networks(desk):
    config = ppo_config(floor_env(desk=desk), shared=None)
    agents = TradingEnv(floor_env(desk=desk)).possible_agents
    return config.multi_agent(policies=set(agents), policy_mapping_fn=to_own)


CONFIGS = {
    "qmix": lambda: qmix_config(floor_env()),
    "gru": lambda: qmix_config(floor_env(), network="gru", sequence_length=4),
    "transformer": lambda: qmix_config(floor_env(window=3), **SMALL_TRANSFORMER),
    "mappo-transformer-roles": lambda: mappo_config(
        floor_env(window=3, desk={"preset": "roles"}), use_shared_networks=False, **SMALL_TRANSFORMER
    ),
    "mappo-gru": lambda: mappo_config(floor_env(), network="gru"),
    "maddpg-gru": lambda: maddpg_config(
        floor_env(desk={"action": "continuous"}), network="gru", sequence_length=4, noise="ou"
    ),
    "ppo-transformer": lambda: ppo_config(floor_env(window=3), network=SMALL_TRANSFORMER),
    "ppo": lambda: ppo_config(floor_env()),
    "ppo-continuous": lambda: ppo_config(floor_env(desk={"action": "continuous"})),
    "ppo-roles": lambda: own_networks({"preset": "roles"}),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_loaded_policy_acts_like_the_runners_greedy_one(name, tmp_path):
    algorithm = saved(CONFIGS[name](), tmp_path)
    policy, runner = load_policy(tmp_path), algorithm.env_runner
    (tmp_path / "exported").mkdir()
    headers = {owner: {} for owner in (*policy.agent_ids, *SHARED_PARTS)}
    export_networks(tmp_path, tmp_path / "exported", policy.layout, headers=headers)
    exported = load_policy(tmp_path / "exported")
    (rollout,) = runner.sample(num_timesteps=20, explore=False, force_reset=True)
    assert policy.agent_ids == runner.env.agent_ids
    policy.reset()
    for t in range(5):  # in the sixth step the episodes end, and with them what is remembered
        mask = None if rollout.action_mask is None else rollout.action_mask[t]
        actions = policy.act(rollout.obs[t].numpy(), mask)
        assert torch.equal(exported.act(rollout.obs[t], mask), actions)
        if actions.dtype == torch.int64:
            assert torch.equal(actions, rollout.actions[t])
        else:
            assert torch.allclose(actions, rollout.actions[t].clamp(-1, 1), atol=1e-6)
    algorithm.stop()


def test_the_layout_names_agents_in_the_order_of_the_agent_axis(tmp_path):
    config = ppo_config(Clockwork, shared=None).multi_agent(policies={"zoe", "abe"}, policy_mapping_fn=to_own)
    algorithm = saved(config, tmp_path)
    layout = read_layout(tmp_path)
    assert layout["agent_ids"] == layout["modules"] == ["zoe", "abe"]
    assert layout["obs_dims"] == [3, 2]
    assert layout["actions"] == ["Discrete(2)", "Discrete(3)"]
    assert layout_differences(layout, team_layout(algorithm)) == []
    algorithm.stop()


def test_differences_are_told_in_words():
    layout = {"agent_ids": ["a"], "obs_dims": [3], "actions": ["Discrete(2)"], "modules": ["m"], "weights": {"w": [3]}}
    assert layout_differences(layout, layout) == []
    assert layout_differences(layout, {**layout, "obs_dims": [4]}) == [
        "observation widths: the checkpoint has [3], this run has [4]"
    ]
    saved, wanted = ({**layout, "network": name, "weights": {name: [1]}} for name in ("gru", "transformer"))
    assert layout_differences(saved, wanted) == ["network: the checkpoint has gru, this run has transformer"]
    assert layout_differences(layout, {**layout, "network": "gru"}) == [], "older checkpoints do not say"
    (told,) = layout_differences(layout, {**layout, "weights": {"w": [5], "v": [1]}})
    assert told == "2 weights, the first of them v: the checkpoint has shape None, this run has [1]"


def test_damaged_checkpoints_are_refused(tmp_path):
    with pytest.raises(IncompatibleError, match=f"is no checkpoint: it has no {LAYOUT_FILE}"):
        load_policy(tmp_path)
    (tmp_path / LAYOUT_FILE).write_text("{", encoding="utf-8")
    with pytest.raises(IncompatibleError, match="does not describe a team"):
        load_policy(tmp_path)
    layout = {"agent_ids": ["a"], "modules": ["shared"], "obs_dims": [3], "actions": ["Discrete(3)"]}
    for changed in ([], layout | {"modules": [1]}, layout | {"obs_dims": []}, {"agent_ids": ["a"]}):
        (tmp_path / LAYOUT_FILE).write_text(json.dumps(changed), encoding="utf-8")
        with pytest.raises(IncompatibleError, match=f"{LAYOUT_FILE} does not describe a team"):
            load_policy(tmp_path)
    (tmp_path / LAYOUT_FILE).write_text(json.dumps(layout), encoding="utf-8")
    with pytest.raises(IncompatibleError, match="holds no weights"):
        load_policy(tmp_path)


def test_the_fingerprint_of_weights_sees_names_types_shapes_and_bytes():
    weights = {"b": np.zeros((2, 3), np.float32), "a": np.ones(2)}
    wanted = weights_sha256(weights)
    assert weights_sha256(dict(reversed(weights.items()))) == wanted
    assert weights_sha256({**weights, "b": np.asfortranarray(weights["b"])}) == wanted
    for changed in (
        {"c": weights["b"], "a": weights["a"]},
        {**weights, "b": weights["b"].astype(np.float64)},
        {**weights, "b": weights["b"].reshape(3, 2)},
        {**weights, "a": np.array([1.0, 1.0 + 1e-15])},
    ):
        assert weights_sha256(changed) != wanted


def test_flat_weights_hold_what_learns_and_its_targets():
    algorithm = with_evaluation(qmix_config(floor_env())).build_algo()
    weights = flat_weights(algorithm)
    learner = algorithm.learner_group._learner.module["team"]
    assert set(weights) == {f"team/{name}" for name in learner.state_dict()}
    assert any(name.startswith("team/target_mixer") for name in weights)
    algorithm.stop()

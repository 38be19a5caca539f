"""Masks reach RLlib's modules alike from Dict observations and from a column, and no forbidden action is taken."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.algorithms.dqn.dqn_learner import QF_NEXT_PREDS, QF_PREDS, QF_TARGET_NEXT_PREDS
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import TARGET_NETWORK_ACTION_DIST_INPUTS
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

from algos.dqn.module import MaskedDQNModule
from algos.impala.module import MaskedAPPOModule
from algos.masks import ACTION_MASK, OBSERVATIONS, MaskedObservations, bare_space
from algos.ppo.module import MaskedPPOModule

BARE = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
WHOLE = gym.spaces.Dict({OBSERVATIONS: BARE, ACTION_MASK: gym.spaces.Box(0, 1, (5,), np.int8)})
DQN = {
    "double_q": True, "dueling": True, "epsilon": [(0, 1.0)], "num_atoms": 1, "std_init": 0.1,
    "v_min": -1.0, "v_max": 1.0, "fcnet_hiddens": [8], "fcnet_activation": "relu",
}  # fmt: skip


def modules(kind, model_config):
    pair = [
        kind(observation_space=s, action_space=gym.spaces.Discrete(5), model_config=model_config) for s in (WHOLE, BARE)
    ]
    pair[1].load_state_dict(pair[0].state_dict())
    return pair


def rows(seed, num=64):
    generator = torch.Generator().manual_seed(seed)
    obs = torch.randn(num, 3, generator=generator)
    mask = torch.rand(num, 5, generator=generator) < 0.4
    mask[:, 2] |= ~mask.any(-1)
    return obs, mask


@pytest.mark.parametrize("forward", ["forward_inference", "forward_exploration", "forward_train"])
def test_ppo_gives_the_same_masked_logits_for_a_dict_and_for_a_column(forward):
    with_dict, with_column = modules(MaskedPPOModule, DefaultModelConfig(fcnet_hiddens=[8]))
    obs, mask = rows(0)
    in_dict = {Columns.OBS: {OBSERVATIONS: obs, ACTION_MASK: mask.to(torch.int8)}}
    logits = getattr(with_dict, forward)(in_dict)[Columns.ACTION_DIST_INPUTS]
    assert set(in_dict[Columns.OBS]) == {OBSERVATIONS, ACTION_MASK}, "the batch is left as it was"
    assert torch.equal(
        logits, getattr(with_column, forward)({Columns.OBS: obs, ACTION_MASK: mask})[Columns.ACTION_DIST_INPUTS]
    )
    assert bool((torch.softmax(logits, -1)[~mask] == 0).all())
    assert torch.equal(with_dict.compute_values(in_dict), with_column.compute_values({Columns.OBS: obs}))


def test_target_policy_of_appo_forbids_what_the_policy_does():
    with_dict, with_column = modules(MaskedAPPOModule, DefaultModelConfig(fcnet_hiddens=[8]))
    obs, mask = rows(0)
    in_dict = {Columns.OBS: {OBSERVATIONS: obs, ACTION_MASK: mask.to(torch.int8)}}
    for module, batch in ((with_dict, in_dict), (with_column, {Columns.OBS: obs, ACTION_MASK: mask})):
        module.make_target_networks()
        logits = module.forward_target(batch)[TARGET_NETWORK_ACTION_DIST_INPUTS]
        assert torch.equal(logits, module.forward_train(batch)[Columns.ACTION_DIST_INPUTS])
        assert bool((torch.softmax(logits, -1)[~mask] == 0).all())


@pytest.mark.parametrize("epsilon", [0.0, 1.0])
def test_dqn_never_explores_or_exploits_a_forbidden_action(epsilon):
    module, bare = modules(MaskedDQNModule, {**DQN, "epsilon": [(0, epsilon)]})
    obs, mask = rows(1, num=2_000)
    for one, batch in (
        (module, {Columns.OBS: {OBSERVATIONS: obs, ACTION_MASK: mask.to(torch.int8)}}),
        (bare, {Columns.OBS: obs, ACTION_MASK: mask}),
    ):
        for actions in (one.forward_exploration(batch, t=0)["actions"], one.forward_inference(batch)["actions"]):
            assert bool(mask.gather(-1, actions.unsqueeze(-1)).all())
    free = bare.compute_q_values({Columns.OBS: obs})[QF_PREDS].masked_fill(~mask, -torch.inf)
    assert torch.equal(bare.forward_inference({Columns.OBS: obs, ACTION_MASK: mask})["actions"], free.argmax(-1))


def test_dqn_bootstraps_by_the_mask_of_the_next_bar():
    module, _ = modules(MaskedDQNModule, DQN)
    module.make_target_networks()
    (obs, mask), (next_obs, next_mask) = rows(2), rows(3)
    batch = {
        Columns.OBS: {OBSERVATIONS: obs, ACTION_MASK: mask.to(torch.int8)},
        Columns.NEXT_OBS: {OBSERVATIONS: next_obs, ACTION_MASK: next_mask.to(torch.int8)},
    }
    out = module.forward_train(batch)
    assert torch.equal(out[QF_PREDS].isinf(), ~mask)
    assert torch.equal(out[QF_NEXT_PREDS].isinf(), ~next_mask)
    assert torch.equal(out[QF_TARGET_NEXT_PREDS].isinf(), ~next_mask)
    out[QF_PREDS][mask].sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in module.parameters() if p.grad is not None)


def test_only_dicts_of_observations_and_mask_are_unpacked():
    other = gym.spaces.Dict({OBSERVATIONS: BARE, "more": BARE})
    assert bare_space(WHOLE) is WHOLE[OBSERVATIONS]
    assert bare_space(other) is other
    batch, mask = MaskedObservations.split_mask({Columns.OBS: torch.zeros(2, 3)})
    assert mask is None
    assert set(batch) == {Columns.OBS}

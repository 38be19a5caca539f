import pickle
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from teams import rollout_of

from algos.rollout import Rollout, concatenate

ENDS = {(1, 0): "terminated", (1, 2): "truncated", (4, 1): "truncated", (5, 2): "terminated"}


def assert_same(a: Rollout, b: Rollout) -> None:
    for f in fields(Rollout):
        x, y = getattr(a, f.name), getattr(b, f.name)
        if isinstance(x, torch.Tensor):
            assert x.dtype == y.dtype, f.name
            assert torch.equal(x, y), f.name
        elif isinstance(x, dict):
            assert x.keys() == y.keys()
            assert all(torch.equal(x[k], y[k]) for k in x)
        else:
            assert x == y, f.name


def test_counts_steps_of_the_environment_and_of_agents():
    rollout = rollout_of(num_steps=6, num_replicas=3, num_agents=2)
    assert (len(rollout), rollout.env_steps(), rollout.agent_steps()) == (18, 18, 36)
    assert not isinstance(rollout, list | dict | tuple)


def test_next_values_are_final_values_where_an_episode_ended():
    rollout = rollout_of(ends=ENDS)
    values, final_values = rollout.obs[..., 0], torch.full((4, 2), -99.0)
    following = rollout.next_values(values, final_values)
    for t in range(6):
        for b in range(3):
            wanted = -99.0 if (t, b) in ENDS else float(t + 1)
            assert following[t, b].tolist() == [wanted, wanted]
    assert float(values[2, 0, 0]) == 2.0, "the values that were given must not be written to"


@settings(max_examples=30, deadline=None)
@given(num_replicas=st.integers(1, 7), num_shards=st.integers(1, 7), seed=st.integers(0, 99))
def test_shards_keep_joint_steps_and_final_rows_together_and_join_again(num_replicas, num_shards, seed):
    rng = np.random.default_rng(seed)
    ends = {(t, b): "truncated" for t in range(5) for b in range(num_replicas) if rng.random() < 0.3}
    rollout = rollout_of(num_steps=5, num_replicas=num_replicas, ends=ends, seed=seed)
    if num_replicas < num_shards:
        with pytest.raises(ValueError, match="raise num_envs_per_env_runner"):
            rollout.shards(num_shards)
        return
    shards = rollout.shards(num_shards)
    sizes = [s.num_replicas for s in shards]
    assert sum(sizes) == num_replicas
    assert max(sizes) - min(sizes) <= 1
    start = 0
    for shard in shards:
        assert torch.equal(shard.obs, rollout.obs[:, start : start + shard.num_replicas])
        for (t, b), final, state, mask in zip(
            shard.final_index.tolist(), shard.final_obs, shard.final_state, shard.final_mask, strict=True
        ):
            assert torch.equal(final, -rollout.obs[t + 1, start + b])
            assert torch.equal(state, final[0, :2])
            k = rollout.final_index.tolist().index([t, start + b])
            assert torch.equal(mask, rollout.final_mask[k])
        assert len(shard.final_index) == int(shard.ended.sum())
        start += shard.num_replicas
    joined = concatenate(shards)
    order = np.lexsort(joined.final_index.numpy().T[::-1])
    for name in ("final_index", "final_obs", "final_state", "final_mask"):
        setattr(joined, name, getattr(joined, name)[order])
    assert_same(joined, rollout)


def test_rollouts_of_two_runners_stand_side_by_side():
    one, two = rollout_of(ends={(1, 0): "truncated"}), rollout_of(ends=ENDS, source=2)
    both = concatenate([one, two])
    assert both.num_replicas == 6
    assert both.final_index.tolist() == [[1, 0], *[[t, b + 3] for t, b in sorted(ENDS)]]
    assert torch.equal(both.dist_inputs["shared"][:, 3:], two.dist_inputs["shared"])
    assert concatenate([one]) is one


def test_rollouts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="no rollout"):
        concatenate([])
    with pytest.raises(ValueError, match=r"differ in length: \[6, 5\]"):
        concatenate([rollout_of(), rollout_of(num_steps=5)])


@pytest.mark.parametrize("with_extras", [True, False])
def test_pickling_brings_everything_back(with_extras):
    rollout = rollout_of(ends=ENDS, source=3, with_extras=with_extras)
    assert_same(pickle.loads(pickle.dumps(rollout)), rollout)
    assert all(not isinstance(v, torch.Tensor) for v in rollout.__getstate__().values())


def test_arrays_that_must_not_be_written_to_are_copied_on_arrival():
    state = rollout_of().__getstate__()
    for value in state.values():
        if isinstance(value, np.ndarray):
            value.setflags(write=False)
    arrived = Rollout.__new__(Rollout)
    arrived.__setstate__(state)
    arrived.obs += 1.0
    assert float(arrived.obs[0, 0, 0, 0]) == 1.0


def test_moving_keeps_every_part():
    rollout = rollout_of(ends=ENDS, source=1)
    assert_same(rollout.to("cpu"), rollout)
    assert rollout.to("meta").dist_inputs["shared"].device.type == "meta"

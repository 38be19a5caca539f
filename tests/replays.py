"""Replay buffers that are filled at random, a naive record to compare them with, and their saves."""

import numpy as np
import pytest
import torch
from ray.rllib.env.multi_agent_episode import MultiAgentEpisode
from teams import rollout_of

from algos.priorities import PriorityRule
from algos.replay import TeamReplay
from algos.replay_files import load_replay, snapshot_replay
from algos.rollout import Rollout
from algos.snapshots import Snapshot


class NaiveReplay:
    """Every step as a plain record, found by what its observation says: (time, replica)."""

    def __init__(self) -> None:
        self.steps: dict[tuple[int, int], dict] = {}

    def add(self, rollout: Rollout) -> None:
        index = rollout.final_index.tolist()
        for t in range(rollout.num_steps):
            for b in range(rollout.num_replicas):
                ended = bool(rollout.ended[t, b])
                k = index.index([t, b]) if ended else -1
                final = [v[k] for v in (rollout.final_obs, rollout.final_mask, rollout.final_state)] if ended else None
                after = final or [v[t + 1, b] for v in (rollout.obs, rollout.action_mask, rollout.state)]
                self.steps[int(rollout.obs[t, b, 0, 0]), b] = {
                    "obs": rollout.obs[t, b],
                    "actions": rollout.actions[t, b],
                    "reward": rollout.rewards[t, b].mean(),
                    "terminated": bool(rollout.terminated[t, b]),
                    "ended": ended,
                    "next_obs": after[0],
                    "next_mask": after[1],
                    "state": rollout.state[t, b],
                    "next_state": after[2],
                }


def ends_of(rng, T, B, chance):
    return {
        (t, b): "terminated" if rng.random() < 0.5 else "truncated"
        for t in range(T)
        for b in range(B)
        if rng.random() < chance
    }


def fill(replay, *, num_rollouts, rng, T=5, B=3, chance=0.2, naive=None, source=0, start=0):
    last = None
    for i in range(num_rollouts):
        rollout = rollout_of(
            num_steps=T,
            num_replicas=B,
            start=start + i * T,
            ends=ends_of(rng, T, B, chance),
            source=source,
            seed=int(rng.integers(10**6)),
        )
        if last is not None:  # what that saw last, masks too, is what this one sees first
            rollout.action_mask[0] = last.action_mask[-1]
        last = rollout
        replay.add(rollout)
        if naive is not None:
            naive.add(rollout)


def check_against(naive, batch, *, length, n_step, gamma):
    for s in range(batch.obs.shape[1]):
        for i in range(length):
            t, b = int(batch.obs[i, s, 0, 0]), int(batch.obs[i, s, 0, 1])
            if i:
                assert (t, b) == (int(batch.obs[0, s, 0, 0]) + i, int(batch.obs[0, s, 0, 1]))
            step = naive.steps[t, b]
            reward, discount, last = 0.0, 1.0, step
            for k in range(n_step):
                last = naive.steps[t + k, b]
                reward += discount * float(last["reward"])
                discount *= gamma
                if last["ended"]:
                    break
            assert torch.equal(batch.obs[i, s], step["obs"])
            assert torch.equal(batch.actions[i, s], step["actions"])
            assert torch.equal(batch.state[i, s], step["state"])
            assert float(batch.rewards[i, s]) == pytest.approx(reward, rel=1e-6, abs=1e-4)
            assert float(batch.discounts[i, s]) == pytest.approx(0.0 if last["terminated"] else discount, abs=1e-6)
            assert bool(batch.ended[i, s]) == last["ended"]
            for name in ("next_obs", "next_mask", "next_state"):
                assert torch.equal(getattr(batch, name)[i, s], last[name]), name


def saved(replay, folder, previous=None):
    folder.mkdir()
    Snapshot(replay=snapshot_replay(replay, previous=previous)).write(folder)
    return folder


def loaded(folder, *args, **kwargs):
    replay = TeamReplay(*args, **kwargs)
    load_replay(replay, folder)
    return replay


def check_same_draws(one, two, **kind):
    draws = [one_batch(r, 50, np.random.default_rng(4), gamma=0.9, with_mask=True, **kind) for r in (one, two)]
    assert all(a is b or torch.equal(a, b) for a, b in zip(*draws, strict=True))


def one_batch(replay, num, rng, **kind):
    (batch,) = replay.sample(1, num, rng, **kind)
    return batch


def by_priority(capacity, *, span=1, alpha=0.7, **sources):
    return TeamReplay(capacity, priorities=PriorityRule(alpha, span), **sources)


def draw(replay, num, rng, *, length=1, n_step=1, beta=0.5):
    (batch,), (drawn,) = replay.sample_by_priority(1, num, rng, length=length, n_step=n_step, gamma=0.9, beta=beta)
    return batch, drawn


def stored_priorities(replay):
    """(time, replica) -> priority of every start, as the rings tell it."""
    found = {}
    for ring in replay.rings.values():
        for row in ring.starts(replay.priorities.span):
            for b in range(ring.num_replicas):
                found[int(ring.rows["obs"][row, b, 0, 0]), b] = float(ring.priorities.values[row, b])
    return found


def map_to_named(agent, _):
    """Each agent has a network that is called after it."""
    return f"of {agent}"


def whole_episode(*agents, num_steps=8):
    """An episode of RLlib's that has ended, of agents with a network each, which see the time."""
    every = [dict.fromkeys(agents, float(t)) for t in range(num_steps + 1)]
    return MultiAgentEpisode(
        observations=every,
        actions=every[1:],
        rewards=every[1:],
        infos=[{}] * len(every),
        truncateds={"__all__": True},
        agent_to_module_mapping_fn=map_to_named,
        len_lookback_buffer=0,
    )

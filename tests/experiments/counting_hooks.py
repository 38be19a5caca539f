"""Hooks that tests watch runs with, by name ``counting_hooks:NAME``."""

import hashlib

from algos.hooks import Hook


class Counter(Hook):
    """Counts all calls, and keeps which iterations, evaluations and episodes it has seen, as plain JSON."""

    def __init__(self):
        self.seen = {"steps": 0, "rows": [], "evaluations": [], "iterations": [], "checkpoints": []}

    def on_episode(self, context, episodes):
        for batch in episodes:
            assert batch.returns.shape == (len(batch.replica), len(batch.agent_ids))
            for e, replica in enumerate(batch.replica):
                of = [batch.runner, int(replica), int(batch.replica_episode[e]), int(batch.length[e])]
                self.seen["rows"].append([*of, batch.returns[e].tolist()])
        assert context.episodes == len(self.seen["rows"])

    def on_evaluation(self, context, figures):
        self.seen["evaluations"].append([context.iteration, context.episodes, figures["score"]])

    def on_iteration(self, context, result):
        self.seen["iterations"].append([context.iteration, context.env_steps, result["total_steps"]])

    def on_checkpoint(self, context, path):
        assert not path.exists()
        self.seen["checkpoints"].append([context.iteration, path.name])

    def get_state(self):
        return self.seen

    def set_state(self, state):
        self.seen = state


class StepCounter(Counter):
    """Sees steps, too."""

    def on_step(self, context, rollout):
        self.seen["steps"] += rollout.env_steps()
        assert context.env_steps >= self.seen["steps"], "the steps of all runners are counted before"
        rewards = self.seen.get("rewards", "") + rollout.rewards.numpy().tobytes().hex()
        self.seen["rewards"] = hashlib.sha256(rewards.encode()).hexdigest()


class Silent(Hook):
    """Wants nothing."""


class Failing(Hook):
    """Raises in its second iteration."""

    def on_iteration(self, context, result):
        if context.iteration == 2:
            raise KeyError("no such figure")


def not_a_hook():
    return 4

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from teams import Clockwork, qmix_config

from algos.hooks import (
    HOOKS,
    METHODS,
    EndedEpisodes,
    Hook,
    HookContext,
    HookError,
    Hooks,
    register_hook,
    take_episodes,
)
from algos.runner import TeamEnvRunner

CONTEXT = HookContext(run_folder=None, trial_folder=None, settings={}, iteration=1, env_steps=0, episodes=0)


class Evaluations(Hook):
    def __init__(self):
        self.seen = []

    def on_evaluation(self, context, figures):
        self.seen.append(figures["score"])

    def get_state(self):
        return self.seen

    def set_state(self, state):
        self.seen = state


class Sick(Hook):
    def on_step(self, context, rollout):
        raise KeyError("price")

    def get_state(self):
        return {"value": float("nan")}


def test_only_what_a_hook_overrides_is_wanted():
    hooks = Hooks({"plain": Hook(), "evaluations": Evaluations(), "sick": Sick()})
    wanted = {method: hooks.wanting(method) for method in METHODS if hooks.wanting(method)}
    assert wanted == {"on_evaluation": ["evaluations"], "on_step": ["sick"]}


def test_states_are_of_the_instant_and_a_hook_without_one_begins_anew():
    hooks = Hooks({"evaluations": Evaluations(), "plain": Hook()})
    hooks.call("on_evaluation", CONTEXT, {"score": 1.5})
    states = hooks.get_state()
    hooks.call("on_evaluation", CONTEXT, {"score": 2.5})
    assert states == {"evaluations": [1.5], "plain": None}
    other = Hooks({"new": Evaluations(), "evaluations": Evaluations()})
    other.set_state({**states, "gone": 3})
    assert other.get_state() == {"new": [], "evaluations": [1.5]}


def test_hook_that_fails_is_named():
    hooks = Hooks({"plain": Hook(), "my.hooks:Sick": Sick()})
    with pytest.raises(HookError, match=r"hook my.hooks:Sick failed in on_step: KeyError: 'price'"):
        hooks.call("on_step", CONTEXT, None)
    with pytest.raises(HookError, match=r"hook my.hooks:Sick failed in get_state: ValueError"):
        hooks.get_state()


def test_name_belongs_to_one_class(monkeypatch):
    monkeypatch.setattr("algos.hooks.HOOKS", dict(HOOKS))
    assert register_hook("evaluations")(Evaluations) is Evaluations
    with pytest.raises(ValueError, match="there is a hook named evaluations already"):
        register_hook("evaluations")(Sick)


def test_example_of_the_documentation_counts_on_from_its_state(tmp_path):
    page = Path(__file__).parents[2] / "docs" / "hooks.md"
    (example,) = re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)
    found: dict[str, Any] = {}
    exec(example, found)
    count = np.zeros(3, np.int64)
    ended = EndedEpisodes(
        agent_ids=("a",), runner=0, replica=count, replica_episode=count, length=count, returns=np.zeros((3, 1))
    )
    before, after = (Hooks({"counter": found["Counter"]()}) for _ in range(2))
    before.call("on_episode", replace(CONTEXT, trial_folder=tmp_path), [ended, ended])
    after.set_state(before.get_state())
    after.call("on_episode", replace(CONTEXT, trial_folder=tmp_path, iteration=2), [ended])
    assert [path.read_text() for path in tmp_path.iterdir()] == ["iteration 2: 9 episodes\n"]


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("collects", [True, False])
def test_team_runner_keeps_what_ended_only_where_it_is_wanted(collects):
    config = qmix_config(Clockwork, rollout_fragment_length=7, num_envs_per_env_runner=2)
    config.environment(env_config={"length": 3})
    config.collect_episodes = collects
    config.freeze()
    runner = TeamEnvRunner(config=config)
    (rollout,) = runner.sample()
    found = take_episodes(runner)
    assert take_episodes(runner) == []
    assert len(found) == (2 if collects else 0)
    for k, batch in enumerate(found):
        assert (batch.replica.tolist(), batch.replica_episode.tolist()) == ([0, 1], [k, k])
        assert batch.length.tolist() == [3, 3]
        assert np.allclose(batch.returns, rollout.rewards[3 * k : 3 * k + 3].sum(0).numpy())
        assert batch.agent_ids == tuple(runner.env.agent_ids)

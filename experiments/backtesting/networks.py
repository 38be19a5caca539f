"""Whether the networks of a checkpoint are those that its run's settings make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from algos.policy import layout_differences
from common.errors import InputError
from envs.backtest import Policy
from envs.floor import build_floor
from envs.market import Market
from experiments.runs.models import Model


def check_networks(policy: Policy, model: Model, market: Market) -> None:
    """Refuse a checkpoint that another run has made: other agents, observations, actions, networks or weights.

    Args:
        policy: The team as it was loaded; one without networks of RLlib's has nothing to compare.
        model: Which checkpoint it comes from, and the settings of its run.
        market: The prices that it is to trade, with the model's own agents.

    Raises:
        InputError: saying what differs.
    """
    modules = getattr(policy, "modules", None)
    if modules is None:
        return
    from experiments.builders.algorithms import algorithm_config  # only now: RLlib's algorithms take seconds to import

    spec, floor = market.spec, build_floor(market)
    config = algorithm_config(replace(model.config, data=spec.data, desk=spec.desk, floor=spec.floor))
    mapping: Any = config.policy_mapping_fn
    wanted = {
        "agent_ids": list(floor.agent_ids),
        "modules": [mapping(agent_id, None) for agent_id in floor.agent_ids],
        "obs_dims": list(floor.obs_dims),
        "actions": [str(floor.action_spaces[agent_id]) for agent_id in floor.agent_ids],
    }
    found = dict(getattr(policy, "layout", {})) | {"weights": {}}
    differences = layout_differences(found, wanted)
    if not differences:
        spaces = {name: (module.observation_space, module.action_space) for name, module in modules.items()}
        made = config.get_multi_rl_module_spec(spaces=spaces, inference_only=False).build()
        shapes, expected = _shapes(modules), _shapes({name: made[name] for name in modules})
        differences = layout_differences({"weights": shapes}, {"weights": expected})
    if differences:
        raise InputError(
            f"{model.checkpoint} was not made by the run that {model.record.folder} describes: {'; '.join(differences)}"
        )


def _shapes(modules: Mapping[str, Any]) -> dict[str, list[int]]:
    states = {name: module.get_state() for name, module in modules.items()}
    return {f"{name}/{key}": list(value.shape) for name, state in states.items() for key, value in state.items()}

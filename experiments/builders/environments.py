"""What a run trains in: the trading floor, or any environment that the user names.

The market of a floor is made without torch and RLlib; a team that acts in one, and what the user names, need them.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal, Protocol

from algos.registry import CONTINUOUS, DISCRETE, algorithm, algorithms
from common.errors import IncompatibleError, InputError
from envs.agents import check_agents, describe_agents
from envs.market import Market, build_market, spec_to_json
from experiments.settings.arguments import import_object, named_values
from experiments.settings.metric_names import RETURN, VALIDATION_METRICS
from experiments.settings.run_config import RunConfig, floor_spec

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

    from algos.team_env import TeamEnv

NEVER = 10**9
"""An interval that is never reached: the trainable evaluates by its own clock, RLlib would by iterations."""


class Environment(Protocol):
    """What a run trains in, and by which figures its policies are told apart.

    Attributes:
        source: Where it comes from, for messages.
        fingerprint: Of its data; None where it has none.
        has_prices: Whether a policy can be backtested on it.
        prefers_later: Whether of policies that are worth the same the latest is the best, or the first.
    """

    source: str
    fingerprint: str | None
    has_prices: bool
    prefers_later: bool

    @property
    def acts(self) -> str:
        """Whether its agents choose (``discrete``) or set numbers (``continuous``)."""

    @property
    def scaler(self) -> dict[str, Any] | None:
        """Of its features, as JSON; None where it has none."""

    @property
    def agents(self) -> list[dict[str, Any]]:
        """What the networks of its agents depend on, one entry each, as JSON."""

    @property
    def team(self) -> TeamEnv:
        """One replica of it."""

    @property
    def episode_len(self) -> int | None:
        """Steps of an episode; None where that is not known."""

    @property
    def evaluation_size(self) -> tuple[int, Literal["bars", "episodes"]] | None:
        """How many of what an evaluation passes through; None where it does not step RLlib's evaluation runner."""

    def facts(self) -> dict[str, Any]:
        """What is about to be trained on, as plain JSON."""

    def lines(self) -> list[str]:
        """The same in words."""

    def set_up(self, config: AlgorithmConfig, scaler: Mapping[str, Any] | None, *, use_action_mask: bool) -> None:
        """Tell RLlib how to make it, for training and for evaluation."""

    def evaluate(self, algorithm: Any) -> tuple[dict[str, Any], dict[str, float]]:
        """Value the greedy policy: RLlib's results, and their figures by name; ``return`` is always among these."""

    def check_agents(self, trained: Sequence[Mapping[str, Any]], model: str) -> None:
        """Refuse agents that are others than a model was trained with.

        Raises:
            InputError: saying what differs.
        """


def environment_of(run: RunConfig) -> Environment:
    """What the settings name: ``env``, or where that is None the trading floor.

    Raises:
        InputError: if it cannot be made.
    """
    if run.env is None:
        return FloorEnvironment(build_market(floor_spec(run)))
    return NamedEnvironment(run.env, run.env_settings, num_episodes=run.evaluation_episodes)


def check_actions(algo: str, environment: Environment) -> None:
    """Refuse an algorithm that cannot act as its environment asks.

    Raises:
        IncompatibleError: if it chooses, and numbers are asked for.
        InputError: if it sets numbers, and choices are asked for.
    """
    kinds, acts, is_floor = algorithm(algo).actions, environment.acts, environment.has_prices
    where = "desk.action is" if is_floor else f"the actions of {environment.source} are"
    if DISCRETE not in kinds and acts != CONTINUOUS:
        raise InputError(
            f"--algo {algo} sets numbers, but {where} {acts}: "
            f"{'give --desk.action continuous, or ' if is_floor else ''}use dqn"
        )
    if CONTINUOUS not in kinds and acts != DISCRETE:
        *others, last = (name for name, a in algorithms().items() if CONTINUOUS in a.actions)
        raise IncompatibleError(
            f"--algo {algo} chooses among discrete actions, but {where} {acts}: use {', '.join(others)} or {last}"
        )


def acts_by(team: TeamEnv) -> str:
    """Whether a team chooses (``discrete``) or sets numbers (``continuous``)."""
    import gymnasium as gym

    spaces = team.action_spaces.values()
    return DISCRETE if all(isinstance(space, gym.spaces.Discrete) for space in spaces) else CONTINUOUS


class FloorEnvironment:
    """The trading floor.

    Args:
        market: Its prices and agents.

    Raises:
        InputError: if orders are to move prices, and there are no volumes.
    """

    has_prices = True
    prefers_later = False

    def __init__(self, market: Market) -> None:
        self.market, self.source = market, market.bars.source
        self.fingerprint: str | None = market.bars.fingerprint
        self.agents = describe_agents(market.mandates)
        if market.spec.floor.costs.needs_volume:
            market.bars.volume_for_impact(sorted({asset for mandate in market.mandates for asset in mandate.assets}))

    @property
    def acts(self) -> str:
        """Whether its agents choose or set numbers, as the desk says."""
        return DISCRETE if all(mandate.is_discrete for mandate in self.market.mandates) else CONTINUOUS

    @cached_property
    def scaler(self) -> dict[str, Any] | None:
        """Of its features, as fitted on the training split."""
        return dict(self.market.scaler.to_json())

    @cached_property
    def team(self) -> TeamEnv:
        """One replica."""
        from envs.floor import build_floor

        return build_floor(self.market)

    @property
    def episode_len(self) -> int | None:
        """Bars of a training episode."""
        train, horizon = self.market.splits.train, self.market.spec.floor.horizon_bars
        return min(horizon or train.num_decisions, train.num_decisions)

    @property
    def evaluation_size(self) -> tuple[int, Literal["bars", "episodes"]] | None:
        """Bars of the one pass over the validation split."""
        return self.market.splits.validation.num_decisions, "bars"

    def facts(self) -> dict[str, Any]:
        """Prices, splits and agents."""
        bars, splits = self.market.bars, self.market.splits
        return {
            "prices": {
                "source": bars.source,
                "assets": list(bars.assets),
                "num_bars": bars.num_bars,
                "frequency": bars.frequency,
                "periods_per_year": bars.periods_per_year,
                "notes": list(bars.notes),
            },
            "splits": {
                split.name: {
                    "start": str(bars.dates[split.start]),
                    "end": str(bars.dates[split.stop - 1]),
                    "num_bars": split.num_bars,
                    "num_blocks": len(split.blocks),
                }
                for split in (splits.train, splits.validation, splits.test)
            },
            "agents": {mandate.name: list(mandate.assets) for mandate in self.market.mandates},
        }

    def lines(self) -> list[str]:
        """The same in words."""
        facts = self.facts()
        prices = facts["prices"]
        lines = [
            f"prices: {prices['source']}, {len(prices['assets'])} assets, {prices['num_bars']} bars of "
            f"{prices['frequency']}, {prices['periods_per_year']:g} a year"
        ]
        lines += [f"  {note}" for note in prices["notes"]]
        for name, split in facts["splits"].items():
            blocks = f" in {split['num_blocks']} blocks" if split["num_blocks"] > 1 else ""
            lines.append(f"  {name}: {split['start'][:10]} to {split['end'][:10]}, {split['num_bars']} bars{blocks}")
        agents = ", ".join(
            f"{name} ({', '.join(assets[:3])}{', ...' if len(assets) > 3 else ''})"
            for name, assets in facts["agents"].items()
        )
        return [*lines, f"agents: {agents}"]

    def set_up(self, config: AlgorithmConfig, scaler: Mapping[str, Any] | None, *, use_action_mask: bool) -> None:
        """Train on random episodes of the training split; evaluate by one pass over the validation split."""
        from envs.rllib import register

        env = {"spec": spec_to_json(self.market.spec), "scaler": scaler}
        trained = {**env, "use_action_mask": use_action_mask, "split": "train"}
        config.environment(register(), env_config=trained, disable_env_checking=True)
        _evaluate(config, {**env, "split": "validation", "start": "first"}, num_episodes=1)

    def evaluate(self, algorithm: Any) -> tuple[dict[str, Any], dict[str, float]]:
        """The floor's own figures; ``return`` is the profit by its other name."""
        from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS

        found: dict[str, Any] = algorithm.evaluate()
        values = {name: float(found[ENV_RUNNER_RESULTS]["floor"][name]) for name in VALIDATION_METRICS}
        return found, values | {RETURN: values["profit"]}

    def check_agents(self, trained: Sequence[Mapping[str, Any]], model: str) -> None:
        """Refuse other mandates."""
        check_agents([dict(agent) for agent in trained], self.agents, model=model, prices=self.source)


class NamedEnvironment:
    """An environment that the user names as ``module:object``, of whatever kind ``as_multi_agent_env`` takes.

    Args:
        name: As ``module:object``.
        settings: Of the environment, as ``name=value``.
        num_episodes: By which a policy is evaluated.

    Raises:
        InputError: if it cannot be imported or made.
    """

    has_prices = False
    prefers_later = False
    fingerprint: str | None = None
    scaler: dict[str, Any] | None = None
    episode_len: int | None = None

    def __init__(self, name: str, settings: Sequence[str], *, num_episodes: int) -> None:
        self.source, self._make, self._num_episodes = name, maker_of(name, settings), num_episodes

    @cached_property
    def team(self) -> TeamEnv:
        """One replica."""
        from algos.any_env import as_multi_agent_env
        from algos.team_env import make_team_env

        try:
            return make_team_env(partial(as_multi_agent_env, self._make), 1, device="cpu", seed=0, with_state=True)
        except (InputError, IncompatibleError):
            raise
        except Exception as error:  # whatever the user's own code raises
            raise InputError(f"--env {self.source} cannot be made: {type(error).__name__}: {error}") from error

    @property
    def acts(self) -> str:
        """Whether its agents choose or set numbers, as their spaces say."""
        return acts_by(self.team)

    @property
    def evaluation_size(self) -> tuple[int, Literal["bars", "episodes"]] | None:
        """Episodes by which a policy is evaluated."""
        return self._num_episodes, "episodes"

    @property
    def agents(self) -> list[dict[str, Any]]:
        """Their names, the width of what they observe, and their actions."""
        team = self.team
        spaces = [team.action_spaces[name] for name in team.agent_ids]
        return [
            {"name": name, "action": str(space), "num_observed": int(width)}
            for name, space, width in zip(team.agent_ids, spaces, team.obs_dims, strict=True)
        ]

    def facts(self) -> dict[str, Any]:
        """Environment and agents."""
        return {"environment": self.source, "agents": {agent["name"]: agent["action"] for agent in self.agents}}

    def lines(self) -> list[str]:
        """The same in words."""
        agents = ", ".join(f"{agent['name']} ({agent['action']})" for agent in self.agents)
        return [f"environment: {self.source}", f"agents: {agents}"]

    def set_up(self, config: AlgorithmConfig, scaler: Mapping[str, Any] | None, *, use_action_mask: bool) -> None:
        """Train on it, and evaluate by episodes of it."""
        from ray.tune.registry import register_env

        from algos.any_env import as_multi_agent_env

        register_env(self.source, lambda _: as_multi_agent_env(self._make))
        config.environment(self.source, disable_env_checking=True)
        _evaluate(config, {}, num_episodes=self._num_episodes)

    def evaluate(self, algorithm: Any) -> tuple[dict[str, Any], dict[str, float]]:
        """The mean return of an episode, summed over agents."""
        from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, EPISODE_RETURN_MEAN

        found: dict[str, Any] = algorithm.evaluate()
        return found, {RETURN: float(found[ENV_RUNNER_RESULTS].get(EPISODE_RETURN_MEAN, math.nan))}

    def check_agents(self, trained: Sequence[Mapping[str, Any]], model: str) -> None:
        """Refuse other agents."""
        for before, now in zip(trained, self.agents, strict=False):
            if dict(before) != now:
                raise InputError(f"{model} was trained with the agent {dict(before)}, but {self.source} has {now}")
        if len(trained) != len(self.agents):
            raise InputError(
                f"{model} was trained with {len(trained)} agents, but {self.source} has {len(self.agents)}"
            )


def maker_of(name: str, words: Sequence[str]) -> Callable[..., Any]:
    """Find what makes an environment, and bind its settings.

    Args:
        name: ``module:object``, a class or a function.
        words: Its settings, as ``name=value``.

    Raises:
        InputError: if it cannot be imported, or does not take the settings.
    """
    found = import_object(name, flag="--env", example="my_package.markets:make_env")
    settings = named_values(words, flag="--env-settings")
    if _takes_one_config(found):
        return partial(found, settings)
    try:
        inspect.signature(found).bind_partial(**settings)
    except TypeError as error:
        raise InputError(f"--env-settings do not fit {name}: {error}") from None
    except ValueError:  # it has no signature that could be read
        pass
    return partial(found, **settings)


def _takes_one_config(maker: Callable[..., Any]) -> bool:
    """Whether it takes its settings as RLlib gives them: one mapping, called ``config``."""
    try:
        names = [name for name in inspect.signature(maker).parameters if name != "self"]
    except (TypeError, ValueError):
        return False
    return names in (["config"], ["env_config"])


def _evaluate(config: AlgorithmConfig, env_config: Mapping[str, Any], *, num_episodes: int) -> None:
    """Let RLlib evaluate the greedy policy when the trainable asks for it."""
    from algos.runner import TeamEnvRunner

    config.evaluation(
        evaluation_interval=NEVER,
        evaluation_duration=num_episodes,
        evaluation_duration_unit="episodes",
        evaluation_config=config.overrides(
            env_runner_cls=TeamEnvRunner,
            env_config=dict(env_config),
            num_envs_per_env_runner=1,
            explore=False,
            metrics_num_episodes_for_smoothing=num_episodes,
        ),
    )

"""The baselines of a backtest, found by name; rules of the user's own among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError, nearest, told
from envs.baseline_names import RANDOM
from envs.baselines import BASELINES
from envs.calendars import show_date
from envs.portfolio_rules import History, Rule
from experiments.settings.arguments import import_object

_ROUNDING = 1e-9


def own_rules(names: Sequence[str]) -> Mapping[str, Rule]:
    """Check the names of baselines, and import those that are rules of the user's own.

    Args:
        names: Of ``envs.baselines``, or ``module:function``.

    Returns:
        The user's rules, by the names that were given.

    Raises:
        InputError: if a name is unknown, stands twice, or cannot be imported.
    """
    if len(set(names)) < len(names):
        raise InputError(f"--baselines names one twice: {' '.join(names)}")
    return {name: _own_rule(name) for name in names if name not in BASELINES and name != RANDOM}


def _own_rule(name: str) -> Rule:
    """The user's function, whose failures and impossible answers are one line."""
    if ":" not in name:
        known = (*BASELINES, RANDOM)
        raise InputError(
            f"--baselines {name} is unknown{nearest(name, known)}: there are {', '.join(known)}; name one of your own "
            "as module:function"
        )
    rule: Rule = import_object(name, flag="--baselines", example="my_package.rules:my_rule")

    def checked(history: History) -> NDArray[np.float64] | None:
        at = f"--baselines {name} on {show_date(history.days[-1])}"
        try:
            answer = rule(history)
        except Exception as error:  # whatever the user's own code raises
            raise InputError(f"{at} fails: {told(error)}") from error
        return None if answer is None else _weights(answer, at, num_assets=len(history.assets))

    return checked


def _weights(answer: object, at: str, *, num_assets: int) -> NDArray[np.float64]:
    """What a rule has answered, as weights [A].

    Raises:
        InputError: if it is none.
    """
    try:
        weights = np.array(answer, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{at} returns {type(answer).__name__}: return weights, or None to trade nothing") from None
    if weights.shape != (num_assets,):
        raise InputError(f"{at} returns weights of shape {weights.shape}: return {num_assets}, one for each asset")
    if not np.isfinite(weights).all():
        raise InputError(f"{at} returns weights that are no finite numbers: return 0 where nothing is to be held")
    if (gross := float(np.abs(weights).sum())) > 1 + _ROUNDING:
        raise InputError(f"{at} returns weights of {gross:.6g} in all: they are fractions of the capital, at most 1")
    return weights

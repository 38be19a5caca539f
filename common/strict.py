"""How every group of settings is checked, and what a setting says of itself beside its type and default."""

from dataclasses import dataclass
from typing import Any

from pydantic import ConfigDict, Field, ValidationError

STRICT = ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)
"""Nothing that is misspelt, and no number without an end; a setting that may be infinite would say so in its type."""


@dataclass(frozen=True)
class Uniform:
    """A search draws from here, all numbers alike."""

    low: float
    high: float


@dataclass(frozen=True)
class LogUniform:
    """A search draws from here, all orders of magnitude alike."""

    low: float
    high: float


@dataclass(frozen=True)
class Choice:
    """A search draws one of these."""

    values: tuple[Any, ...]


Range = Uniform | LogUniform | Choice


@dataclass(frozen=True)
class About:
    """What a setting says of itself.

    Attributes:
        search: What a search draws it from; None leaves it as it is.
        may_change: Whether a branch, or a member of a population, may go on with another value: it is not in the
            weights, the optimizers or the replay buffer.
    """

    search: Range | None = None
    may_change: bool = False


def first_fault(error: ValidationError) -> str:
    """Where pydantic found the first thing wrong in what was read, and what, in a line."""
    fault = error.errors()[0]
    place = ".".join(map(str, fault["loc"]))
    return f"{place}: {fault['msg']}" if place else fault["msg"]


_KEY = "about"


def setting(default: Any, *, search: Range | None = None, may_change: bool = False, **checks: Any) -> Any:
    """Declare a field of a group of settings.

    Args:
        default: Its default.
        search: See ``About``.
        may_change: See ``About``.
        checks: What pydantic's ``Field`` checks, as ``gt=0``.
    """
    return Field(default=default, json_schema_extra={_KEY: About(search, may_change)}, **checks)  # type: ignore[dict-item]


def about(default: Any) -> About:
    """What a field says of itself.

    Args:
        default: What the field was declared with: a plain default, or what ``setting`` or ``Field`` gave.
    """
    found = (getattr(default, "json_schema_extra", None) or {}).get(_KEY)
    return found if isinstance(found, About) else About()

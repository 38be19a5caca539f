"""Where in an observation the bars of a window stand: what an encoder must know that looks at them bar by bar."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import gymnasium as gym


class Window(NamedTuple):
    """Bars in a flat observation; what stands before and behind them are numbers of the agent's own."""

    lead: int
    """Numbers before the first bar."""
    num_bars: int
    """W: the bars, oldest first."""
    width: int
    """f: numbers of each bar."""


class WindowBox(gym.spaces.Box):
    """The Box of an observation, which says where the bars of its window stand.

    Args:
        box: One axis.
        window: Its bars.
    """

    def __init__(self, box: gym.spaces.Box, window: Iterable[int]) -> None:
        super().__init__(box.low, box.high, box.shape, cast(Any, box.dtype))
        self.window = Window(*map(int, window))


def with_windows(
    observation_spaces: Mapping[str, gym.Space], windows: Sequence[tuple[int, int, int]]
) -> dict[str, gym.Space]:
    """Spaces of a TeamEnv's agents that say where the bars of each observation stand."""
    pairs = zip(observation_spaces.items(), windows, strict=True)
    return {agent: WindowBox(cast(gym.spaces.Box, space), window) for (agent, space), window in pairs}


def window_of(space: gym.Space) -> Window:
    """The bars of an observation; one that says nothing of bars is a single one."""
    return space.window if isinstance(space, WindowBox) else Window(0, 1, width_of(space))


def width_of(space: gym.Space) -> int:
    """Numbers in an observation."""
    return int(cast(Any, space.shape)[0])

"""Bars: the prices and volumes of several assets on one calendar, as arrays."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError, nearest
from envs.calendars import lives

PRICE_FIELDS = ("open", "high", "low", "close")
_BY_ASSET = ("tradable", "members", *PRICE_FIELDS, "volume", "signal")


@dataclass(frozen=True, kw_only=True, eq=False)
class Bars:
    """Prices and volumes of A assets on one calendar of T bars.

    The close of bar t is known when an agent decides at t. Arrays are read-only, so that one copy can be shared by
    every floor of a process.

    Attributes:
        dates: Stamp of each bar, strictly increasing, [T] datetime64[us]: the exchange's date of bars of a day or
            longer; of intraday bars as its source gives it, UTC where the source had a time zone.
        assets: Names, in the order of the asset axis, A of them.
        open: First price of the bar, [T, A] float64, > 0.
        high: Highest price, [T, A] float64, at least ``open``, ``close`` and ``low``.
        low: Lowest price, [T, A] float64, > 0.
        close: Last price, [T, A] float64, > 0.
        volume: Shares (or coins) traded, [T, A] float64, >= 0; None where the source has none.
        tradable: Whether the asset really traded in the bar, [T, A] bool: its source has the bar, with a volume above
            zero. Of an asset without any volume every bar of the source counts. Prices of other bars are repeated ones.
        without_volume: Assets of which nothing is known to be traded in any bar of the source: all of them where it has
            no volumes.
        lives: First bar of each asset's life, and the bar after its last, [A] each: ``envs.calendars.lives``. As in a
            table of listings, what is said of an asset stays true where later bars are left out.
        members: Bars in which an asset belongs to the universe, [T, A] bool; None where all do in all.
        frequency: Spacing of the bars in words: ``"1d"``, ``"1h"``, ``"5min"``, ``"1w"``, ``"1mo"``.
        periods_per_year: Bars in a year, for annualising.
        source: Where the bars come from: a path, or ``"synthetic"``.
        notes: What was inferred, filled or dropped on the way, one sentence each, to be shown to the user.
        regimes: Index into ``envs.settings.REGIMES`` of each bar, [T] int64; None where unknown.
        signal: Planted signal visible at each bar, [T, A] float64, about unit variance; None where none was planted.
        costs: What assets cost where it is not what the settings say, by the setting's name: [1, A] float64 each, NaN
            where it is, or [T, A] where it differs from bar to bar; and ``envs.settings.FUNDING``, where longs pay
            shorts, [T, A].
    """

    dates: NDArray[np.datetime64]
    assets: tuple[str, ...]
    open: NDArray[np.float64]
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    volume: NDArray[np.float64] | None = None
    tradable: NDArray[np.bool_] = None  # type: ignore[assignment]  # where it is left out, what the volumes say
    lives: tuple[NDArray[np.int64], NDArray[np.int64]] = None  # type: ignore[assignment]  # what ``tradable`` says
    without_volume: frozenset[str] = None  # type: ignore[assignment]  # what the volumes say
    members: NDArray[np.bool_] | None = None
    frequency: str = "1d"
    periods_per_year: float = 252.0
    source: str = "memory"
    notes: tuple[str, ...] = ()
    regimes: NDArray[np.int64] | None = None
    signal: NDArray[np.float64] | None = None
    costs: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = (len(self.dates), len(self.assets))
        object.__setattr__(self, "dates", np.asarray(self.dates, dtype="datetime64[us]"))
        for name in (*PRICE_FIELDS, "volume", "signal"):
            value = getattr(self, name)
            if value is None:
                continue
            array = np.array(value, dtype=np.float64, order="C")
            if array.shape != shape:
                raise ValueError(f"Bars.{name} has shape {array.shape}, expected [T, A] = {shape}")
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        if self.without_volume is None:
            volume = self.volume
            silent = (asset for a, asset in enumerate(self.assets) if volume is None or not volume[:, a].any())
            object.__setattr__(self, "without_volume", frozenset(silent))
        traded = self._traded()
        tradable = traded if self.tradable is None else np.asarray(self.tradable, dtype=np.bool_) & traded
        if tradable.shape != shape:
            raise ValueError(f"Bars.tradable has shape {tradable.shape}, expected [T, A] = {shape}")
        tradable.flags.writeable = False
        object.__setattr__(self, "tradable", tradable)
        if self.members is not None:
            members = np.array(self.members, dtype=np.bool_)
            if members.shape != shape:
                raise ValueError(f"Bars.members has shape {members.shape}, expected [T, A] = {shape}")
            members.flags.writeable = False
            object.__setattr__(self, "members", members)
        if self.lives is None:
            object.__setattr__(self, "lives", lives(tradable, self.dates))
        if self.regimes is not None and self.regimes.shape != shape[:1]:
            raise ValueError(f"Bars.regimes has shape {self.regimes.shape}, expected [T] = {shape[:1]}")

    def _traded(self) -> NDArray[np.bool_]:
        """What volumes say of the bars that traded, [T, A]: all of those of an asset of which none is known."""
        if self.volume is None:
            return np.ones((len(self.dates), len(self.assets)), dtype=np.bool_)
        return (self.volume > 0) | ~self.has_volume

    @cached_property
    def has_volume(self) -> NDArray[np.bool_]:
        """Whether anything is known to be traded of each asset, [A] bool: that it is not in ``without_volume``."""
        return np.array([asset not in self.without_volume for asset in self.assets], dtype=np.bool_)

    @property
    def num_bars(self) -> int:
        """Length of the time axis, T."""
        return len(self.dates)

    @property
    def num_assets(self) -> int:
        """Length of the asset axis, A."""
        return len(self.assets)

    @property
    def alive(self) -> NDArray[np.bool_]:
        """Bars of each asset's life in which it is a member, [T, A] bool."""
        rows, (first, stop) = np.arange(self.num_bars)[:, None], self.lives
        within = (rows >= first) & (rows < stop)
        return within if self.members is None else within & self.members

    @cached_property
    def ends(self) -> NDArray[np.bool_]:
        """Bars after which an asset is not alive, [T, A] bool: who holds it is paid out at the close of the next."""
        alive = self.alive
        return alive & np.concatenate([~alive[1:], np.zeros_like(alive[:1])])

    def volume_for_impact(self, assets: Sequence[str]) -> NDArray[np.float64]:
        """Volumes of K assets whose trades move prices, [T, K], shares.

        Raises:
            InputError: if an asset has none, naming the settings that do without.
        """
        still = [asset for asset in assets if asset in self.without_volume]
        if self.volume is None or still:
            more = f" and {len(still) - 1} more" if len(still) > 1 else ""
            found = "none" if self.volume is None else f"only zeros for {still[0]}{more}"
            raise InputError(
                f"price impact needs volumes, but {self.source} has {found}: set --floor.costs.temporary-impact 0 "
                "--floor.costs.permanent-impact 0, or give a volume column"
            )
        return self.volume[:, [self.assets.index(asset) for asset in assets]]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, over assets, dates and every array: equal where an agent could see no difference."""
        digest = hashlib.sha256()
        digest.update("\x1f".join(self.assets).encode())
        digest.update(self.dates.astype("datetime64[us]").astype("<i8").tobytes())
        for name in (*PRICE_FIELDS, "volume", "signal"):
            value = getattr(self, name)
            digest.update(f"{name}:{value is not None}".encode())
            if value is not None:
                digest.update(value.astype("<f8").tobytes())
        if not np.array_equal(self.tradable, self._traded()):  # which is what volumes do not say
            digest.update(np.packbits(self.tradable).tobytes())
        if self.members is not None:
            digest.update(b"members" + np.packbits(self.members).tobytes())
        for name, value in sorted(self.costs.items()):
            digest.update(f"{name}:{value.shape}".encode() + value.astype("<f8").tobytes())
        return digest.hexdigest()

    @cached_property
    def has_only_closes(self) -> bool:
        """Whether every open is the close of its bar, as where the source has closes only: opens say nothing more."""
        return bool(np.array_equal(self.open, self.close))

    def select(self, assets: Sequence[str]) -> Bars:
        """Keep some assets, in the order asked for.

        Args:
            assets: Names out of ``self.assets``, each once.

        Raises:
            InputError: if a name is unknown (the nearest one is named) or stands twice, or none is given.
        """
        if not assets:
            raise InputError(f"no assets chosen: name at least one of {', '.join(self.assets)}")
        for name in assets:
            if name not in self.assets:
                raise InputError(f"asset {name!r} is not in {self.source}{nearest(name, self.assets)}")
        if len(set(assets)) < len(assets):
            raise InputError(f"an asset is named twice in {', '.join(assets)}")
        columns = [self.assets.index(name) for name in assets]
        arrays: dict[str, Any] = {name: getattr(self, name) for name in _BY_ASSET}
        picked: dict[str, Any] = {name: None if value is None else value[:, columns] for name, value in arrays.items()}
        first, stop = self.lives
        return dataclasses.replace(
            self,
            assets=tuple(assets),
            lives=(first[columns], stop[columns]),
            without_volume=self.without_volume & set(assets),
            costs={name: value[:, columns] for name, value in self.costs.items()},
            **picked,
        )

    def between(self, start: int, stop: int) -> Bars:
        """Keep bars ``start`` to ``stop`` (half-open), as a new ``Bars``."""
        arrays = {name: getattr(self, name) for name in ("dates", "regimes", *_BY_ASSET)}
        cut: dict[str, Any] = {name: None if value is None else value[start:stop] for name, value in arrays.items()}
        cut["costs"] = {name: value if len(value) == 1 else value[start:stop] for name, value in self.costs.items()}
        return dataclasses.replace(self, lives=(self.lives[0] - start, self.lives[1] - start), **cut)

"""One resource in numbers: what is there, used, promised and left; and sums of such amounts."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# From these shares on, a resource counts as nearly full, and as full.
HIGH_SHARE = 0.75
FULL_SHARE = 0.90


class Level(enum.Enum):
    """How full a resource is; decides the colour of its bar."""

    OK = "ok"
    HIGH = "high"
    FULL = "full"

    @classmethod
    def of(cls, share: float | None) -> Level:
        """Return the level of a share. An unknown share is OK."""
        if share is None or share < HIGH_SHARE:
            return cls.OK
        return cls.FULL if share >= FULL_SHARE else cls.HIGH


@dataclass(frozen=True, kw_only=True, slots=True)
class Amount:
    """One resource, in CPUs or bytes. None means not known.

    :ivar total: the physical amount
    :ivar used: the measured use; for CPUs, the vCPUs of active guests
    :ivar free: the rest; negative if more is used than there is
    :ivar growth: how much the images on this storage can still grow by themselves
    :ivar capacity: what may be promised to guests
    :ivar claimed: what is promised to guests
    :ivar claimed_twice: the part of it that another hypervisor of the fleet claims too, as its guests are
        migrating in from there; in no sum
    """

    total: int | None
    used: int | None
    free: int | None
    growth: int | None = 0
    capacity: int | None = None
    claimed: int | None = None
    claimed_twice: int = 0

    @property
    def used_share(self) -> float | None:
        """The used part of the physical amount; above 1 if it is over-committed."""
        return _share(self.used, self.total)

    @property
    def claimed_share(self) -> float | None:
        """The promised part of the capacity."""
        return _share(self.claimed, self.capacity)

    @property
    def used_level(self) -> Level:
        """How full the physical amount is.

        More vCPUs than CPUs are normal: the allocation ratio allows them. If the capacity is known, the
        claims show how full it is.
        """
        is_over_committed = self.capacity is not None and (self.used_share or 0) > 1
        return Level.OK if is_over_committed else Level.of(self.used_share)

    @property
    def claimed_level(self) -> Level:
        """How full the capacity is."""
        return Level.of(self.claimed_share)

    @property
    def over(self) -> int:
        """How much the use plus its possible growth exceeds the physical amount."""
        if self.used is None or self.free is None or self.growth is None:
            return 0
        return max(0, self.growth - self.free)

    @property
    def left(self) -> int | None:
        """How much of the capacity may still be promised; negative if it is over-claimed."""
        return subtract(self.capacity, self.claimed)


UNKNOWN_AMOUNT = Amount(total=None, used=None, free=None)


def sum_amounts(amounts: Iterable[Amount]) -> Amount:
    """Add up the known amounts. Capacity and claims are added up only where both are known."""
    amounts = list(amounts)
    known = [each for each in amounts if each.total is not None and each.used is not None]
    placed = [each for each in amounts if each.capacity is not None and each.claimed is not None]
    return Amount(
        total=sum(each.total or 0 for each in known) if known else None,
        used=sum(each.used or 0 for each in known) if known else None,
        free=sum(each.free or 0 for each in known) if known else None,
        growth=_sum_growth(known),
        capacity=sum(each.capacity or 0 for each in placed) if placed else None,
        claimed=_sum_claimed(placed),
    )


def merge_amounts(amounts: Iterable[Amount]) -> Amount:
    """Return the amount of one storage that several hypervisors see.

    As in the recording rules: the smallest size and the largest use count, because they were read at
    different moments. Growth and claims are those of all guests. The smallest capacity counts, but for
    hypervisors that offer nothing.
    """
    amounts = list(amounts)
    known = [each for each in amounts if each.total is not None and each.used is not None]
    placed = [each for each in amounts if each.capacity is not None and each.claimed is not None]
    free = [each.free for each in known if each.free is not None]
    offered = [each.capacity for each in amounts if each.capacity is not None]
    return Amount(
        total=min((each.total or 0 for each in known), default=None),
        used=max((each.used or 0 for each in known), default=None),
        free=min(free, default=None),
        growth=_sum_growth(known) if len(known) == len(amounts) else None,
        capacity=min(filter(None, offered), default=0) if placed else None,
        claimed=_sum_claimed(placed),
    )


def subtract(total: int | None, used: int | None) -> int | None:
    """Return the difference; None if one of them is not known."""
    return total - used if total is not None and used is not None else None


def _sum_claimed(amounts: Sequence[Amount]) -> int | None:
    """Add up the claims, those of a guest that is migrating once."""
    return sum((each.claimed or 0) - each.claimed_twice for each in amounts) if amounts else None


def _sum_growth(amounts: Sequence[Amount]) -> int | None:
    """Add up the growth; None if one is not known, because the free space is that of all."""
    known = [each.growth for each in amounts if each.growth is not None]
    return sum(known) if len(known) == len(amounts) else None


def _share(part: int | None, whole: int | None) -> float | None:
    return part / whole if part is not None and whole else None

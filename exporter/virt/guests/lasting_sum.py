"""The sum of counters that come and go, such as those of a guest's vCPUs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

Key = TypeVar("Key")


class LastingSum(Generic[Key]):
    """Adds up counters to one that never steps back.

    If one of them ends, what it has counted stays: `rate()` would take a smaller sum for a restart, and all
    of it for new. One that comes later counts from when it is first seen: it may have counted elsewhere.
    """

    def __init__(self) -> None:
        self._total = 0
        self._last: dict[Key, int] | None = None

    def add(self, counters: Mapping[Key, int]) -> int:
        """Return the sum.

        :param counters: all that are there now; one that is smaller than before has begun anew
        """
        before = self._last
        for key, value in counters.items():
            seen = 0 if before is None else before.get(key, value)
            self._total += value - seen if value >= seen else value
        self._last = dict(counters)
        return self._total

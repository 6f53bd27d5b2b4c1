"""Backoff: when to try again what failed."""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Doubles the wait after each failure, up to a maximum. Each wait is random, at least half of that.

    :param first: seconds after the first failure
    :param maximum: the maximum seconds; 0 means no wait, because a try is almost free
    :param draw: returns a random number from [0, 1)
    """

    def __init__(self, *, first: float, maximum: float, draw: Callable[[], float] = random.random) -> None:
        self._first = first
        self._maximum = maximum
        self._draw = draw
        self._failures = 0
        self._retry_at = 0.0

    @property
    def has_failed(self) -> bool:
        """Whether the last try failed."""
        return self._failures > 0

    def may_try(self, now: float) -> bool:
        """Whether the wait is over."""
        return not self.has_failed or now >= self._retry_at

    def fail(self, now: float) -> None:
        """Record a failure."""
        wait = min(self._maximum, self._first * 2 ** min(self._failures, 16))
        self._failures += 1
        self._retry_at = now + wait * (1 + self._draw()) / 2

    def reset(self) -> None:
        """Record a success: the next failure starts again with the shortest wait."""
        self._failures = 0

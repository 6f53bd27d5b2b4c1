"""Backoff: when to try again what failed."""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Doubles the wait with each failure, up to a maximum, and draws each wait from its upper half.

    :param first: seconds after the first failure
    :param maximum: seconds at most; 0 where trying costs next to nothing: no wait then
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
        """Take note of a failure."""
        wait = min(self._maximum, self._first * 2 ** min(self._failures, 16))
        self._failures += 1
        self._retry_at = now + wait * (1 + self._draw()) / 2

    def reset(self) -> None:
        """Take note of a success: the next failure waits as little as a first one."""
        self._failures = 0

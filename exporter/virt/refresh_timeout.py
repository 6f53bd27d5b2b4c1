"""The timeout that all calls and reads of one refresh share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from exporter.attempt import Attempt, Failure, Success

T = TypeVar("T")

TOTAL_SECONDS = 1.0
# A refresh waits this long for a call if the call before took all of its time, or if the call did not answer
# in time before. If it works again, it answers at once.
SHORT_SECONDS = 0.2
# A call that takes longer may hang. So the other calls are started in parallel.
_OTHERS_BEGIN_AFTER_SECONDS = 0.25
# An answer may be there in a thread that has not run yet. Such an answer is not lost.
_LEAST_SECONDS = 0.01


class RefreshTimeout:
    """How long one refresh may still wait for calls and reads that hang: one second for all of them.

    Each refresh has a new one. Not thread-safe.

    :param clock: monotonic seconds
    :param begin_others: starts, without waiting, the remaining calls of the refresh
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        seconds: float = TOTAL_SECONDS,
        begin_others: Callable[[], None] = lambda: None,
    ) -> None:
        self._clock = clock
        self._left = seconds
        self.begin_others = begin_others

    @property
    def left(self) -> float:
        """The seconds that are left, never less than 0."""
        return max(0.0, self._left)

    def spend(self, seconds: float) -> None:
        """Record that this number of seconds was waited."""
        self._left -= seconds

    def wait(self, call: Attempt[T], *, timeout: float) -> Success[T] | Failure | None:
        """Return the result of a call that was started in this refresh; None if it takes too long.

        :param timeout: the maximum seconds since its start
        """
        age = self._clock() - call.started_at
        seconds = max(min(timeout - age, max(self.left, SHORT_SECONDS - age)), _LEAST_SECONDS)
        began_at = self._clock()
        outcome = call.wait(min(seconds, _OTHERS_BEGIN_AFTER_SECONDS))
        if outcome is None and seconds > _OTHERS_BEGIN_AFTER_SECONDS:
            self.begin_others()
            outcome = call.wait(seconds - (self._clock() - began_at))
        self.spend(self._clock() - began_at)
        return outcome

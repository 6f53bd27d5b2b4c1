"""The timeout that all calls and reads of one refresh share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from exporter.attempt import Attempt, Failure, Success

T = TypeVar("T")

TOTAL_SECONDS = 1.0
# For so long a refresh waits for what comes after something that took all of its time, and for what did not
# answer in time when it was last asked: if it is well again, it answers at once.
SHORT_SECONDS = 0.2
# A call that takes longer than this may be about to hang: what else is needed is asked beside it.
_OTHERS_BEGIN_AFTER_SECONDS = 0.25
# An answer that is there, but in a thread that the machine has not come to yet, is not lost for that.
_LEAST_SECONDS = 0.01


class RefreshTimeout:
    """How long one refresh may still wait for calls and reads that hang: a second for all of them.

    Each refresh has a new one. Not for two threads at once.

    :param clock: monotonic seconds
    :param begin_others: begins, without waiting, the calls that the refresh has yet to make, if they have not
        begun
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
        """Seconds that may still be waited, never less than 0."""
        return max(0.0, self._left)

    def spend(self, seconds: float) -> None:
        """Take note that so many seconds were waited."""
        self._left -= seconds

    def wait(self, call: Attempt[T], *, timeout: float) -> Success[T] | Failure | None:
        """Return what came of a call that began in this refresh; None if that takes too long.

        :param timeout: seconds since it began for which it is waited for at most
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

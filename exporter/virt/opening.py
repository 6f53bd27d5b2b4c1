"""Opening a connection that may never be answered.

Keep-alive checks a connection only after it is open. If a hypervisor hangs before that, or is switched off
before it answers, the caller would wait for ever. So connections are opened in threads that can be abandoned.
Their number is limited.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from exporter.attempt import Attempt, Failure, Success

T = TypeVar("T")

TIMEOUT_SECONDS = 30.0
_MAX_GAP_SECONDS = 3600.0
_MAX_ATTEMPTS = 16


class OpeningTimeoutError(Exception):
    """No answer within the timeout. The attempt continues, and the next call uses its result."""


class Opener(Generic[T]):
    """Opens connections one at a time, and waits for each until its timeout.

    The next call checks the result of an attempt that hangs. Another attempt is started beside it after a
    wait that doubles each time, up to an hour. A hypervisor uses at most 16 threads.

    :param open_: opens one; may block for ever
    :param clock: monotonic seconds
    :param timeout: seconds that one call waits
    """

    def __init__(
        self, open_: Callable[[], T], *, clock: Callable[[], float], timeout: float = TIMEOUT_SECONDS
    ) -> None:
        self._open = open_
        self._clock = clock
        self._timeout = timeout
        self._attempts: list[Attempt[T]] = []

    @property
    def hung(self) -> int:
        """How many attempts have not ended."""
        return sum(not each.is_over for each in tuple(self._attempts))

    def open(self) -> T:
        """Return a new connection. Not thread-safe.

        :raises OpeningTimeoutError: if there is none in time
        :raises Exception: what opening it raised
        """
        opened = self._pop_opened()
        if opened is not None:
            return opened.value
        if self._may_start():
            self._attempts.append(Attempt(self._open, name="open connection", clock=self._clock))
        newest = self._attempts[-1]
        outcome = newest.wait(self._timeout)
        if outcome is None:
            raise OpeningTimeoutError(f"no answer to opening a connection for {self._timeout:g} s")
        self._attempts.remove(newest)
        if isinstance(outcome, Failure):
            raise outcome.error
        return outcome.value

    def _pop_opened(self) -> Success[T] | None:
        """Return a connection that was opened late, and forget failed attempts."""
        opened = None
        for each in tuple(self._attempts):
            if each.is_over:
                self._attempts.remove(each)
                if isinstance(each.outcome, Success):
                    opened = each.outcome
        return opened

    def _may_start(self) -> bool:
        if not self._attempts:
            return True
        if len(self._attempts) >= _MAX_ATTEMPTS:
            return False
        gap = min(_MAX_GAP_SECONDS, self._timeout * 2 ** len(self._attempts))
        return bool(self._clock() - self._attempts[-1].started_at >= gap)

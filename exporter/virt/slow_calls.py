"""Calls whose answer may take long, and what counts meanwhile: their last answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from exporter.attempt import Attempt, Failure
from exporter.errors import NoAnswerError
from exporter.virt.connections import Connections, LentHypervisor

H = TypeVar("H", bound=LentHypervisor)
T = TypeVar("T")

TIMEOUT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What a call answered, and how many seconds ago it was asked; 0 if that was just now."""

    value: T
    age_seconds: float


class SlowCall(Generic[H, T]):
    """A call that each refresh makes anew, but waits for no longer than `timeout`.

    A call that takes longer goes on by itself, and no second one is made beside it. Until it ends, its last
    answer counts, and nobody waits for it any more. Not for two threads at once.

    :param call: makes the call; may block for ever
    :param what: what is asked for, to begin a message: "the list of domains"
    :param max_age: seconds for which the last answer counts
    :param clock: monotonic seconds
    """

    def __init__(
        self,
        connections: Connections[H],
        call: Callable[[H], T],
        *,
        what: str,
        max_age: float,
        clock: Callable[[], float],
        timeout: float = TIMEOUT_SECONDS,
    ) -> None:
        self._connections = connections
        self._call = call
        self._what = what
        self._max_age = max_age
        self._clock = clock
        self._timeout = timeout
        self._attempt: Attempt[T] | None = None
        self._is_outdated = False
        self._last: tuple[T, float] | None = None

    @property
    def hung(self) -> int:
        """How many calls are under way for longer than anybody waits for: 0 or 1."""
        attempt = self._attempt
        return int(attempt is not None and not attempt.is_over and self._left(attempt) <= 0)

    def configure(self, *, max_age: float) -> None:
        """Let the last answer count for so many seconds from now on."""
        self._max_age = max_age

    def abandon(self) -> None:
        """Leave alone a call that may be asking a hypervisor that is gone; the last answer counts on."""
        self._attempt, self._is_outdated = None, False

    def forget(self) -> None:
        """Forget the last answer, and let that of a call under way count for nothing: others are wanted."""
        self._last = None
        self._is_outdated = self._attempt is not None

    def get(self) -> Answer[T]:
        """Ask, and return the answer; the last one while this one takes too long.

        :raises NoAnswerError: when there is no last answer, or it is too old
        :raises HypervisorError: what the call raised
        """
        if self._attempt is not None and (self._attempt.is_over or self._is_outdated):
            self._end(self._attempt)
        if self._attempt is None:
            self._attempt = self._connections.start(self._call, name=self._what)
        attempt = self._attempt
        outcome = None if self._is_outdated else attempt.wait(self._left(attempt))
        if outcome is None:
            return self._get_last(attempt)
        self._take(attempt)
        if isinstance(outcome, Failure):
            raise outcome.error
        return Answer(outcome.value, 0.0)

    def _end(self, attempt: Attempt[T]) -> None:
        """Take what came too late for the refresh that began it, or what nobody wants any more."""
        attempt.wait(self._left(attempt))
        if attempt.is_over:
            self._take(attempt)

    def _left(self, attempt: Attempt[T]) -> float:
        return self._timeout - (self._clock() - attempt.started_at)

    def _take(self, attempt: Attempt[T]) -> None:
        is_wanted, self._is_outdated = not self._is_outdated, False
        self._attempt = None
        if is_wanted and attempt.outcome is not None and not isinstance(attempt.outcome, Failure):
            self._last = (attempt.outcome.value, self._clock())

    def _get_last(self, attempt: Attempt[T]) -> Answer[T]:
        waiting = f"{self._what}: no answer from libvirt for {self._clock() - attempt.started_at:.0f} s"
        if self._last is None:
            raise NoAnswerError(waiting)
        value, answered_at = self._last
        age = self._clock() - answered_at
        if age > self._max_age:
            raise NoAnswerError(f"{waiting}, and the last one is older than {self._max_age:g} s")
        return Answer(value, age)

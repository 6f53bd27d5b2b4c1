"""Calls whose answer may take long. Until then, their last answer is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from exporter.attempt import Attempt, Failure
from exporter.errors import NoAnswerError
from exporter.virt.calls import LentHypervisor
from exporter.virt.connections import Connections
from exporter.virt.refresh_timeout import SHORT_SECONDS, RefreshTimeout

H = TypeVar("H", bound=LentHypervisor)
T = TypeVar("T")

TIMEOUT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """A call's answer, and its age in seconds; 0 if it was asked just now."""

    value: T
    age_seconds: float


class SlowCall(Generic[H, T]):
    """A call that each refresh makes again.

    A refresh waits for it until `timeout`, or until the refresh's own timeout. A call that takes longer
    continues, and no second one is made beside it. Until it ends, the last answer is used, and no refresh
    waits for it. The next call gets only a short time, until one was answered within `timeout`. Not
    thread-safe.

    :param call: makes the call; may block for ever
    :param what: the subject of a message: "the list of domains"
    :param max_age: seconds for which the last answer is used
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
        self._begun_in: RefreshTimeout | None = None
        self._given_up: Attempt[T] | None = None
        self._is_outdated = False
        self._was_late = False
        self._last: tuple[T, float] | None = None

    @property
    def hung(self) -> int:
        """How many calls are past their timeout: 0 or 1."""
        given_up = self._given_up
        return int(given_up is not None and given_up is self._attempt and not given_up.is_over)

    def configure(self, *, max_age: float) -> None:
        """From now on, use the last answer for this number of seconds."""
        self._max_age = max_age

    def abandon(self) -> None:
        """Abandon a call that may be asking a hypervisor that is gone. The last answer is still used."""
        self._attempt, self._is_outdated, self._was_late = None, False, False

    def forget(self) -> None:
        """Forget the last answer, and ignore the answer of a call under way: the question changed."""
        self._last = None
        self._is_outdated = self._attempt is not None

    def begin(self, refresh_timeout: RefreshTimeout) -> None:
        """Start the call, without waiting, unless the refresh has done so or a call is under way.

        :param refresh_timeout: of the refresh that needs the answer
        """
        if refresh_timeout is not self._begun_in:
            self._begin(refresh_timeout)

    def get(self, refresh_timeout: RefreshTimeout) -> Answer[T]:
        """Start the call if necessary and return its answer, or the last answer if it takes too long.

        :param refresh_timeout: of the refresh that needs the answer
        :raises NoAnswerError: if there is no last answer, or it is too old
        :raises HypervisorError: whatever the call raised
        """
        attempt = self._begin(refresh_timeout)
        if self._begun_in is not refresh_timeout or self._is_outdated:
            return self._get_last(attempt)
        timeout = min(SHORT_SECONDS, self._timeout) if self._was_late else self._timeout
        outcome = refresh_timeout.wait(attempt, timeout=timeout)
        if outcome is None:
            self._given_up = attempt
            return self._get_last(attempt)
        self._take(attempt)
        if isinstance(outcome, Failure):
            raise outcome.error
        return Answer(outcome.value, 0.0)

    def _begin(self, refresh_timeout: RefreshTimeout) -> Attempt[T]:
        """Return the call that is under way, or start a new one."""
        attempt = self._attempt
        if attempt is not None and attempt.is_over and self._begun_in is not refresh_timeout:
            self._take(attempt)  # too late for the refresh that started it
        if self._attempt is None:
            self._attempt = self._connections.start(self._call, name=self._what)
            self._begun_in = refresh_timeout
        return self._attempt

    def _take(self, attempt: Attempt[T]) -> None:
        is_wanted, self._is_outdated = not self._is_outdated, False
        self._attempt = None
        ended_at = self._clock() if attempt.ended_at is None else attempt.ended_at
        self._was_late = ended_at - attempt.started_at > self._timeout
        if is_wanted and attempt.outcome is not None and not isinstance(attempt.outcome, Failure):
            self._last = (attempt.outcome.value, attempt.started_at)

    def _get_last(self, attempt: Attempt[T]) -> Answer[T]:
        waiting = f"{self._what}: no answer from libvirt for {self._clock() - attempt.started_at:.0f} s"
        if self._last is None:
            raise NoAnswerError(waiting)
        value, asked_at = self._last
        age = self._clock() - asked_at
        if age > self._max_age:
            raise NoAnswerError(f"{waiting}, and the last answer is older than {self._max_age:g} s")
        return Answer(value, age)

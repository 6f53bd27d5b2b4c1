"""CallSource: a source of one libvirt call, which each refresh makes."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Generic, TypeVar

from exporter.attempt import Failure, attempt
from exporter.compute.problems import make_unreadable
from exporter.compute.source import Settings, Source
from exporter.errors import ConnectError, ConnectionLostError, HypervisorError, UnsupportedError
from exporter.model import Problem, Severity
from exporter.virt.calls import WaitingHypervisor
from exporter.virt.connections import Connections
from exporter.virt.refresh_timeout import RefreshTimeout
from exporter.virt.slow_calls import Answer, SlowCall

log = logging.getLogger(__name__)

T = TypeVar("T")


class CallSource(Source, Generic[T]):
    """A source of one libvirt call. A subclass has a `name`, and the call in `ask`. Not thread-safe.

    While libvirt does not answer, the last answer is used, but not for longer than `stale_grace`. An error of
    the call is a problem, and no other number is missing because of it. A call that the hypervisor does not
    have is a note, and is made again after a new connection only.

    :param connections: lends the connection for the call
    :param clock: monotonic seconds
    """

    def __init__(
        self,
        connections: Connections[WaitingHypervisor],
        settings: Settings,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._call = SlowCall(
            connections, self.ask, what=self.name, max_age=settings.stale_grace, clock=clock
        )
        self._answer: Answer[T] | None = None
        self._problem: Problem | None = None

    @abstractmethod
    def ask(self, connection: WaitingHypervisor) -> T:
        """Make the call, and return what collectors get. In a thread of its own; it may block for ever.

        :raises HypervisorError: whatever the call raises
        """

    @property
    def hung(self) -> int:
        """How many calls are past their timeout: 0 or 1."""
        return self._call.hung

    def get_ages(self) -> Mapping[str, float]:
        """Return the age of the answer; nothing where there is none."""
        return {} if self._answer is None else {self.name: self._answer.age_seconds}

    def get_part(self) -> T | None:
        """Return the answer; None where there is none."""
        return None if self._answer is None else self._answer.value

    def get_problems(self) -> Sequence[Problem]:
        """Return why there is no answer."""
        return () if self._problem is None else (self._problem,)

    def configure(self, settings: Settings) -> None:
        """Use these times from now on."""
        self._call.configure(max_age=settings.stale_grace)

    def note_reconnected(self) -> None:
        """Abandon a call that may be asking a hypervisor that is gone. Try an unsupported call again."""
        self._call.abandon()
        self._problem = None

    def begin(self, refresh_timeout: RefreshTimeout) -> None:
        """Start the call that a refresh will wait for, without waiting."""
        if not self._is_unsupported:
            self._call.begin(refresh_timeout)

    def read(self, refresh_timeout: RefreshTimeout) -> None:
        """Make the call, and keep its answer or its error.

        :raises ConnectError: if it cannot connect
        :raises ConnectionLostError: if the connection broke
        """
        self._answer = None
        if self._is_unsupported:
            return
        before, self._problem = self._problem, None
        outcome = attempt(partial(self._call.get, refresh_timeout))
        if not isinstance(outcome, Failure):
            self._answer = outcome.value
            return
        error = outcome.error
        if isinstance(error, ConnectError | ConnectionLostError):
            raise error
        severity = Severity.NOTE if isinstance(error, UnsupportedError) else Severity.ERROR
        self._problem = make_unreadable(self.name, error, severity=severity)
        if not isinstance(error, HypervisorError) and before is None:
            log.error("a defect of this program", exc_info=error, extra={"job": self.name})

    @property
    def _is_unsupported(self) -> bool:
        return self._problem is not None and self._problem.reason == UnsupportedError.reason

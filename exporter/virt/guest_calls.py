"""Calls that may wait for a guest: made for one guest at a time, the guests that answer first.

A guest that is frozen, migrating or being killed may hold up every call about it for as long as it likes. So
such a call has its own time and its own connection. When a guest does not answer in time, its call is left
waiting and the next guest is asked over another connection. Few calls may wait so at once: each takes one of
the 20 workers that libvirtd has for all its clients.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from exporter.attempt import Attempt, Failure
from exporter.errors import ConnectionLostError, HypervisorError, NoAnswerError
from exporter.virt.connections import Connections, WaitingHypervisor

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 0.25
REMOTE_TIMEOUT_SECONDS = 1.0  # an answer takes two or three round trips there
MAX_WAITING = 5  # a quarter of libvirtd's workers


@dataclass(frozen=True, slots=True)
class GuestJob:
    """What is to be asked about one guest.

    :ivar kind: what is asked for: a guest may be waited for by one call of each kind
    :ivar ask: makes the calls and keeps what they answer; raises ConnectionLostError and NoAnswerError only
    :ivar may_wait_for_monitor: whether it is in vain while the guest's monitor is busy
    :ivar is_first: whether the guest never answered this process, so that it may have hung for long already
    """

    uuid: str
    kind: str
    ask: Callable[[WaitingHypervisor], None]
    may_wait_for_monitor: bool = True
    is_first: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from other jobs."""
        return self.uuid, self.kind


class Unanswered(NamedTuple):
    """The UUIDs of guests of which nothing was learnt.

    :ivar slow: those that do not answer, now or since an earlier call
    :ivar not_asked: those that could not be asked, as time was over or too many others do not answer
    """

    slow: frozenset[str]
    not_asked: frozenset[str]


class GuestCalls:
    """Asks about guests, one after the other, and leaves those waiting that do not answer.

    :param connections: lends a connection to each call that waits
    :param timeout: seconds after which the next guest is asked
    :param maximum: how many calls may wait at once
    :param clock: monotonic seconds
    """

    def __init__(
        self,
        connections: Connections[WaitingHypervisor],
        *,
        clock: Callable[[], float],
        timeout: float = TIMEOUT_SECONDS,
        maximum: int = MAX_WAITING,
    ) -> None:
        self._connections = connections
        self._clock = clock
        self._timeout = timeout
        self._maximum = maximum
        self._lock = threading.Lock()
        self._waiting: dict[tuple[str, str], Attempt[None]] = {}
        self._slow: frozenset[str] = frozenset()  # UUIDs of guests that did not answer when last asked

    @property
    def hung(self) -> int:
        """How many calls are waiting for their guests."""
        with self._lock:
            return sum(not attempt.is_over for attempt in self._waiting.values())

    @property
    def slow(self) -> frozenset[str]:
        """The UUIDs of the guests that did not answer when they were last asked, or were busy."""
        with self._lock:
            return self._slow

    def clear(self) -> None:
        """Forget which guests were slow: after a reconnection all are asked alike."""
        with self._lock:
            self._slow = frozenset()

    def forget_others(self, uuids: Collection[str]) -> None:
        """Forget guests that are not among these: one that vanished while it was slow never answers again."""
        with self._lock:
            self._slow &= frozenset(uuids)

    def list_waiting(self, kind: str) -> frozenset[str]:
        """Return the UUIDs of the guests for which a call of this kind is waiting."""
        with self._lock:
            waiting = dict(self._waiting)
        return frozenset(uuid for (uuid, each), call in waiting.items() if each == kind and not call.is_over)

    def ask(self, jobs: Sequence[GuestJob], *, seconds: float, may_hang: int = MAX_WAITING) -> Unanswered:
        """Do these jobs, and return the guests of which nothing was learnt.

        :param seconds: how long to go on at most; what is left then was not asked
        :param may_hang: how many of these calls may be left waiting; what is left then was not asked
        :raises HypervisorError: when the connection is lost or cannot be made
        """
        end = self._clock() + seconds
        left = self._sort(jobs)
        hung = 0
        while left and self._clock() < end and self.hung < self._maximum and hung < may_hang:
            batch = _Batch(self, left, clock=self._clock)
            attempt = self._connections.start(batch.run, name="ask guests")
            batch.wait(attempt, timeout=self._timeout, end=end)
            if isinstance(attempt.outcome, Failure):
                if isinstance(attempt.outcome.error, NoAnswerError):
                    break
                raise attempt.outcome.error
            left = left[batch.done :]
            if not attempt.is_over and left:
                self._note_waiting(left.pop(0), attempt)
                hung += 1
        with self._lock:
            slow = frozenset(job.uuid for job in jobs if job.uuid in self._slow or job.key in self._waiting)
        return Unanswered(slow=slow, not_asked=frozenset(job.uuid for job in left) - slow)

    def is_worth_asking(self, hypervisor: WaitingHypervisor, job: GuestJob) -> bool:
        """Whether to make the call now. Whatever is wrong with one guest may be so with others.

        Only where a guest is known not to answer, or this one was never asked, libvirt is asked first whether
        this one is busy: that call waits for nobody, and spares a worker.
        """
        with self._lock:
            is_trouble = bool(self._waiting) or bool(self._slow)
        if not job.may_wait_for_monitor or not (is_trouble or job.is_first):
            return True
        try:
            is_busy = hypervisor.is_guest_busy(job.uuid)
        except ConnectionLostError:
            raise
        except HypervisorError:
            return True  # it is shut off, gone, or libvirt cannot tell
        if is_busy:
            self._note_slow(job.uuid)
        return not is_busy

    def do(self, job: GuestJob, hypervisor: WaitingHypervisor) -> None:
        """Make the call, and take note of whether the guest answers.

        An answer that comes late is none, and one that waits for no guest says nothing of it.
        """
        began_at = self._clock()
        try:
            job.ask(hypervisor)
        except NoAnswerError:
            self._note_slow(job.uuid)
            return
        is_quick = self._clock() - began_at < self._timeout
        if job.may_wait_for_monitor and is_quick and job.uuid in self._slow:
            with self._lock:
                self._slow -= {job.uuid}

    def _sort(self, jobs: Sequence[GuestJob]) -> list[GuestJob]:
        """Leave out what is still waited for, and put guests last that did not answer before."""
        with self._lock:
            self._waiting = {key: attempt for key, attempt in self._waiting.items() if not attempt.is_over}
            waiting, slow = set(self._waiting), self._slow
        return sorted((job for job in jobs if job.key not in waiting), key=lambda job: job.uuid in slow)

    def _note_waiting(self, job: GuestJob, attempt: Attempt[None]) -> None:
        log.debug("a guest does not answer", extra={"uuid": job.uuid, "asked_for": job.kind})
        with self._lock:
            self._waiting[job.key] = attempt
        self._note_slow(job.uuid)

    def _note_slow(self, uuid: str) -> None:
        with self._lock:
            self._slow |= {uuid}


class _Batch:
    """Jobs that one thread does over one connection, until one of them takes too long.

    :ivar done: how many are done; it stays as it is once the batch was given up
    """

    def __init__(self, calls: GuestCalls, jobs: Sequence[GuestJob], *, clock: Callable[[], float]) -> None:
        self.done = 0
        self._calls = calls
        self._jobs = tuple(jobs)
        self._clock = clock
        # An answer may come in the moment in which its job is given up: that is done then, or left waiting.
        self._lock = threading.Lock()
        self._began_at: float | None = None  # the job under way; None while there is no connection yet
        self._is_given_up = False

    def run(self, hypervisor: WaitingHypervisor) -> None:
        """Do the jobs that are left, but none after it was given up."""
        while not self._is_given_up and self.done < len(self._jobs):
            job = self._jobs[self.done]
            self._began_at = self._clock()
            if self._calls.is_worth_asking(hypervisor, job):
                self._calls.do(job, hypervisor)
            self._go_on()

    def _go_on(self) -> None:
        with self._lock:
            if not self._is_given_up:
                self.done += 1
                self._began_at = self._clock()

    def wait(self, attempt: Attempt[None], *, timeout: float, end: float) -> None:
        """Wait until all is done, a job takes longer than `timeout`, or it is `end` on the clock."""
        while not attempt.is_over:
            left = self._give_up_if_late(timeout, end)
            if left <= 0:
                break
            attempt.wait(left)

    def _give_up_if_late(self, timeout: float, end: float) -> float:
        """Return for how many seconds the job under way may go on; if for none, it is given up."""
        with self._lock:
            now, began_at = self._clock(), self._began_at
            # Before there is a connection nothing has begun: look again after a while.
            job_ends = now + timeout if began_at is None else began_at + timeout
            left = min(end, job_ends) - now
            self._is_given_up = left <= 0
            return left

"""Calls that may wait for a guest. They are made for one guest at a time, first for guests that answer.

A guest that is frozen, migrating or being killed may block every call about it. So such a call has its own
timeout and its own connection. If a guest does not answer in time, its call is left waiting, and the next
guest is asked over another connection. Only a few calls may wait at once: each uses one of the 20 workers
that libvirtd has for all its clients.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from exporter.attempt import Attempt, Failure
from exporter.errors import ConnectionLostError, HypervisorError, NoAnswerError
from exporter.virt.calls import WaitingHypervisor
from exporter.virt.connections import Connections

log = logging.getLogger(__name__)

# Where two guests begin to hang at once, the refresh still takes less than half a second.
TIMEOUT_SECONDS = 0.2
REMOTE_TIMEOUT_SECONDS = 1.0  # a remote answer takes two or three round trips
# A connection that has to be opened may take so long, or three times the above. The next try may use it then.
OPENING_SECONDS = 1.0
MAX_WAITING = 5  # a quarter of libvirtd's workers


@dataclass(frozen=True, slots=True)
class GuestJob:
    """A job that asks about one guest.

    :ivar kind: the kind of question; only one call of each kind may wait for a guest
    :ivar ask: makes the calls and keeps the answers; raises only ConnectionLostError and NoAnswerError
    :ivar may_wait_for_monitor: whether it is useless while the guest's monitor is busy
    :ivar does_not_queue: whether libvirt answers at once, without the guest, while its monitor is busy. Then
        `ask` tells `note_answered` if it was the guest that answered
    :ivar is_first: whether the guest never answered this process, so that it may already hang
    """

    uuid: str
    kind: str
    ask: Callable[[WaitingHypervisor], None]
    may_wait_for_monitor: bool = True
    does_not_queue: bool = False
    is_first: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """Identifies the job."""
        return self.uuid, self.kind


class Unanswered(NamedTuple):
    """The UUIDs of guests without an answer.

    :ivar slow: guests that do not answer, now or since an earlier call
    :ivar not_asked: guests that were not asked, because the time was over, too many others do not answer, or
        there was no connection in time
    """

    slow: frozenset[str]
    not_asked: frozenset[str]


class GuestCalls:
    """Asks about guests, one after the other. Calls that are not answered are left waiting.

    :param connections: lends a connection to each call that waits
    :param timeout: seconds after which the next guest is asked
    :param maximum: how many calls may wait at once. A batch under way counts, as its next call may
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
        self._under_way: list[_Batch] = []  # each has one of the places, until its thread ends
        self._slow: frozenset[str] = frozenset()  # UUIDs of guests that did not answer when last asked

    @property
    def hung(self) -> int:
        """How many calls are waiting for their guests."""
        with self._lock:
            return sum(not attempt.is_over for attempt in self._waiting.values())

    @property
    def may_wait(self) -> bool:
        """Whether one more call may be left waiting."""
        return self.hung < self._maximum

    @property
    def slow(self) -> frozenset[str]:
        """The UUIDs of guests that did not answer the last call, or were busy."""
        with self._lock:
            return self._slow

    def clear(self) -> None:
        """Forget which guests were slow: after a reconnection all are asked in the same way."""
        with self._lock:
            self._slow = frozenset()

    def forget_others(self, uuids: Collection[str]) -> None:
        """Forget all other guests: a slow guest that disappeared never answers again."""
        with self._lock:
            self._slow &= frozenset(uuids)

    def list_waiting(self, kind: str) -> frozenset[str]:
        """Return the UUIDs of guests with a waiting call of this kind."""
        with self._lock:
            waiting = dict(self._waiting)
        return frozenset(uuid for (uuid, each), call in waiting.items() if each == kind and not call.is_over)

    def ask(
        self,
        jobs: Sequence[GuestJob],
        *,
        seconds: float,
        may_hang: int = MAX_WAITING,
        timeout: float | None = None,
    ) -> Unanswered:
        """Do these jobs and return the guests without an answer.

        :param seconds: the total timeout; jobs that are left then were not asked
        :param timeout: seconds after which the next guest is asked, instead of the usual ones
        :param may_hang: how many of these calls may be left waiting; jobs that are left then were not asked
        :raises HypervisorError: if the connection is lost or cannot be opened
        """
        end = self._clock() + seconds
        timeout = self._timeout if timeout is None else timeout
        left = self._sort(jobs)
        hung = 0
        while left and self._clock() < end and hung < may_hang:
            batch = _Batch(self, left, timeout=timeout, clock=self._clock)
            attempt = self._start(batch) or self._start_soon(batch, end=end)
            if attempt is None:
                break
            batch.wait(attempt, end=end)
            if isinstance(attempt.outcome, Failure):
                if isinstance(attempt.outcome.error, NoAnswerError):
                    break
                raise attempt.outcome.error
            left = left[batch.done :]
            if not batch.has_begun:
                break  # no connection: that is no guest's fault
            if not attempt.is_over and left:
                self._note_waiting(left.pop(0), attempt)
                hung += 1
        with self._lock:
            slow = frozenset(job.uuid for job in jobs if job.uuid in self._slow or job.key in self._waiting)
        return Unanswered(slow=slow, not_asked=frozenset(job.uuid for job in left) - slow)

    def is_worth_asking(self, hypervisor: WaitingHypervisor, job: GuestJob) -> bool:
        """Whether to make the call now. If one guest has a problem, others may have the same.

        If any guest does not answer, or this one was never asked, ask libvirt first whether this one is busy.
        That call does not wait, and saves a worker.
        """
        with self._lock:
            is_trouble = bool(self._waiting) or bool(self._slow)
        if not job.may_wait_for_monitor or job.does_not_queue or not (is_trouble or job.is_first):
            return True
        try:
            is_busy = hypervisor.is_guest_busy(job.uuid)
        except ConnectionLostError:
            raise
        except HypervisorError:
            return True  # it is shut off or gone, or libvirt does not know
        if is_busy:
            self._note_slow(job.uuid)
        return not is_busy

    def do(self, job: GuestJob, hypervisor: WaitingHypervisor, *, timeout: float) -> None:
        """Make the call, and record whether the guest answers. An answer after the timeout does not count.

        A call that waits for no guest proves nothing. Nor does one that does not queue, but for its answer.
        """
        began_at = self._clock()
        try:
            job.ask(hypervisor)
        except NoAnswerError:
            self._note_slow(job.uuid)
            return
        is_quick = self._clock() - began_at < timeout
        if job.may_wait_for_monitor and not job.does_not_queue and is_quick:
            self.note_answered(job.uuid)

    def note_answered(self, uuid: str) -> None:
        """Record that a guest itself has answered, in time."""
        if uuid in self._slow:
            with self._lock:
                self._slow -= {uuid}

    def _start(self, batch: _Batch) -> Attempt[None] | None:
        """Start a batch if there is a place for it, whatever other threads start at the same moment."""
        with self._lock:
            self._under_way = [each for each in self._under_way if not each.is_over]
            if len(self._under_way) >= self._maximum:
                return None
            self._under_way.append(batch)
            batch.attempt = self._connections.start(batch.run, name="ask guests")
            return batch.attempt

    def _start_soon(self, batch: _Batch, *, end: float) -> Attempt[None] | None:
        """Start a batch after another one that is at work, and not waiting for a guest, if that ends soon."""
        with self._lock:
            at_work = [each for each in self._under_way if not each.is_given_up]
        if not at_work or at_work[0].attempt is None:
            return None
        at_work[0].attempt.wait(min(self._timeout, end - self._clock()))
        return self._start(batch)

    def _sort(self, jobs: Sequence[GuestJob]) -> list[GuestJob]:
        """Leave out jobs whose calls still wait. Put guests that did not answer before last."""
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

    :ivar done: how many are done; it does not change after the batch was abandoned
    :ivar attempt: its thread's; None until it is started
    """

    def __init__(
        self, calls: GuestCalls, jobs: Sequence[GuestJob], *, timeout: float, clock: Callable[[], float]
    ) -> None:
        self.done = 0
        self.attempt: Attempt[None] | None = None
        self._calls = calls
        self._timeout = timeout
        self._jobs = tuple(jobs)
        self._clock = clock
        # An answer may come at the moment when its job is abandoned. Then the job is either done or left
        # waiting.
        self._lock = threading.Lock()
        self._began_at: float | None = None  # start of the current job; None while there is no connection
        self._opening_ends = clock() + max(OPENING_SECONDS, 3 * timeout)
        self._is_given_up = False

    @property
    def is_given_up(self) -> bool:
        """Whether it was abandoned: nobody waits for it any more."""
        return self._is_given_up

    @property
    def is_over(self) -> bool:
        """Whether its thread has ended."""
        return self.attempt is not None and self.attempt.is_over

    @property
    def has_begun(self) -> bool:
        """Whether it had a connection before it was abandoned."""
        return self._began_at is not None

    def run(self, hypervisor: WaitingHypervisor) -> None:
        """Do the remaining jobs, but none after the batch was abandoned."""
        while self._begin():
            job = self._jobs[self.done]
            if self._calls.is_worth_asking(hypervisor, job):
                self._calls.do(job, hypervisor, timeout=self._timeout)
            self._go_on()

    def _begin(self) -> bool:
        """Begin the next job, if there is one and the batch was not abandoned."""
        with self._lock:
            if self._is_given_up or self.done >= len(self._jobs):
                return False
            self._began_at = self._clock()
            return True

    def _go_on(self) -> None:
        with self._lock:
            if not self._is_given_up:
                self.done += 1
                self._began_at = self._clock()

    def wait(self, attempt: Attempt[None], *, end: float) -> None:
        """Wait until all jobs are done, a job or the opening takes too long, or the clock reaches `end`."""
        while not attempt.is_over:
            left = self._give_up_if_late(end)
            if left <= 0:
                break
            attempt.wait(left)

    def _give_up_if_late(self, end: float) -> float:
        """Return how many seconds the current job may still take; if none, abandon it."""
        with self._lock:
            now, began_at = self._clock(), self._began_at
            # Without a connection nothing has started. Check again soon: a job may begin at any time.
            job_ends = (
                min(now + self._timeout, self._opening_ends) if began_at is None else began_at + self._timeout
            )
            left = min(end, job_ends) - now
            self._is_given_up = left <= 0
            return left

"""Guest statistics: what QEMU counts of disks, and what guests tell of their memory. Read between scrapes.

libvirt has to ask the guest's monitor for it (virDomainListGetStats of BALLOON and BLOCK). A guest that is
frozen does not answer until it goes on, and NOWAIT does not help: it keeps a call from queueing for the
guest's job, but whoever comes first takes the job and waits. So no scrape makes these calls. One round
follows each refresh, and asks one guest after the other over a connection that is lent to it:

- A guest whose process is seen to be stopped is not asked.
- A guest that takes longer than ANSWER_SECONDS is left waiting, and not asked again before that call is over.
- No more than `exporter.virt.guests.calls.MAX_WAITING` calls may wait, with those for XML and for images.
  Then no guest is asked any more until one of them answers: libvirtd's workers are for Nova.
- An answer without what the monitor tells changes nothing: another client has the guest's job.

What was read counts for `stale_grace`. If nobody scrapes, nobody is asked.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

from exporter.compute.source import Job, Settings, Source
from exporter.errors import (
    ConnectionLostError,
    GoneError,
    HypervisorError,
    NoAnswerError,
    UnsupportedError,
)
from exporter.guest_records import (
    ANSWER_BUCKETS_SECONDS,
    AllGuestStatistics,
    AnswerTimes,
    ChosenGuest,
    ChosenGuests,
    GuestStatistics,
)
from exporter.model import DomainRecord, DomainState, Problem, Severity
from exporter.state_reasons import get_reason
from exporter.virt.calls import StatisticsGroup, WaitingHypervisor
from exporter.virt.guests.calls import GuestCalls, GuestJob
from exporter.virt.guests.other_devices import OtherDevices
from exporter.virt.guests.processes import GuestProcesses
from exporter.virt.guests.statistics import is_of_the_monitor, parse_disks, parse_interfaces, parse_memory

NAME = "guest statistics"
ANSWER_SECONDS = 2.0
# Scrapes that come sooner after a round find its numbers. A little less than 10 s: no scrape is on the dot.
MIN_INTERVAL_SECONDS = 9.5
# The next round begins no sooner than this many times the last one's duration after the last one's start.
MIN_INTERVAL_DURATIONS = 2
# Guests that are left then are the first ones in the next round.
ROUND_SECONDS = 60.0
# A guest that has booted tells its memory within seconds.
SILENT_SECONDS = 300.0
_KIND = "statistics"
_NAMED_GUESTS = 3
# A guest that is paused so migrates in, and another client has its job all the time; or it starts.
_REASONS_TO_WAIT = ("migration", "starting_up")


@dataclass(frozen=True, slots=True)
class _Known:
    """What was read of a guest.

    :ivar id: libvirt's id of this run of the guest: the next run counts anew
    :ivar told_at: when its monitor answered
    :ivar host_told_at: when its host did, where control groups do not tell what it uses
    """

    id: int
    statistics: GuestStatistics = field(default_factory=GuestStatistics)
    told_at: float = -math.inf
    host_told_at: float = -math.inf
    silent_since: float | None = None  # its balloon tells nothing since then
    others: OtherDevices = field(default_factory=OtherDevices)


class _CpuTime(NamedTuple):
    """What the host told of a guest's CPU time, and when (seconds since the epoch)."""

    cpu_ns: int
    read_at: float


class GuestStatisticsRounds(Source):
    """Asks the guests that are shown, one by one, after each refresh.

    `want`, `get_part` and `get_problems` are for the thread of the refresh. The job may run beside it.

    :param calls: asks about one guest at a time
    :param clock: monotonic seconds
    :param wall_clock: seconds since the epoch
    :param processes: looks at guests' processes, if they run on this machine
    """

    name = NAME
    needs = frozenset({"guests", "chosen guests"})
    follows_refreshes = True

    def __init__(
        self,
        calls: GuestCalls,
        settings: Settings,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        processes: GuestProcesses | None = None,
    ) -> None:
        self._calls = calls
        self._clock = clock
        self._wall_clock = wall_clock
        self._processes = processes or GuestProcesses()
        self._lock = threading.Lock()  # held for moments only, never during a call
        self._wanted: Mapping[str, ChosenGuest] = {}
        self._known: dict[str, _Known] = {}
        self._stopped: frozenset[str] = frozenset()  # UUIDs of guests whose processes are stopped
        self._busy: frozenset[str] = frozenset()  # UUIDs of guests that do not answer another client
        self._errors: dict[str, HypervisorError] = {}
        self._unsupported: UnsupportedError | None = None
        self._counts = [0] * len(AnswerTimes().counts)
        self._total_seconds = 0.0
        self._is_due = self._is_under_way = self._has_read = False
        self._next_at = -math.inf
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """Use these times, and ask the host itself where control groups do not tell the use."""
        self._stale_grace = settings.stale_grace
        hypervisor = settings.hypervisor
        self._sees_processes = hypervisor.has_process_files
        self._asks_host = hypervisor.tells_use

    def note_reconnected(self) -> None:
        """Try again what was not supported: it may be another libvirt."""
        self._unsupported = None

    def want(self, chosen: ChosenGuests | None) -> None:
        """Set the guests that are shown, and let a round follow unless the last one was a moment ago.

        What is known of all others is forgotten.

        :param chosen: None while the list of domains is not known: then no guest is asked
        """
        guests = {} if chosen is None else {each.record.uuid: each for each in chosen.guests}
        with self._lock:
            before = self._wanted
            self._wanted = {uuid: each for uuid, each in guests.items() if _may_be_asked(each.record)}
            if chosen is not None:
                is_same = {uuid for uuid, each in before.items() if self._is_wanted(each.record)}
                self._known = {
                    uuid: known
                    for uuid, known in self._known.items()
                    if uuid in guests and guests[uuid].record.id == known.id
                }
                self._errors = {uuid: error for uuid, error in self._errors.items() if uuid in self._wanted}
                self._stopped &= is_same
                self._busy &= is_same
            is_time = not self._is_under_way and self._clock() >= self._next_at
            may_tell = self._unsupported is None or self._asks_host
            self._is_due = bool(self._wanted) and (self._is_due or is_time) and may_tell

    def list_jobs(self) -> Sequence[Job]:
        """Return the round, if one is due. The first one ends the cache, so that the next scrape shows it."""
        return [Job(key="round", run=self._ask_all, ends_cache=not self._has_read)] if self._is_due else ()

    def get_ages(self) -> Mapping[str, float]:
        """Return the age of the oldest statistics that count; nothing while there are none."""
        now = self._clock()
        told = [each.told_at for each in dict(self._known).values() if self._counts_still(each.told_at)]
        return {"the oldest statistics of a guest": now - min(told)} if told else {}

    def get_part(self) -> AllGuestStatistics:
        """Return what is known of the guests that are shown, and is not too old."""
        waiting = self._calls.list_waiting(_KIND)
        with self._lock:
            wanted, known = self._wanted, dict(self._known)
            unresponsive = (waiting | self._stopped | self._busy) & wanted.keys()
            answer_times = AnswerTimes(counts=tuple(self._counts), total_seconds=self._total_seconds)
        answered = {uuid for uuid, each in known.items() if self._counts_still(each.told_at)}
        return AllGuestStatistics(
            statistics={uuid: self._drop_old(each) for uuid, each in known.items()},
            is_responsive={
                uuid: uuid not in unresponsive for uuid in wanted if uuid in unresponsive or uuid in answered
            },
            is_suspended=not self._calls.may_wait,
            answer_times=answer_times,
        )

    def get_problems(self) -> Sequence[Problem]:
        """Return why guests are not asked, could not be read, or tell nothing of their memory."""
        return (
            *self._list_suspended(),
            *self._list_unsupported(),
            *self._list_errors(),
            *self._list_silent(),
        )

    # The round.

    def _ask_all(self) -> None:
        """Ask every guest that is shown. Called between scrapes, by any thread.

        :raises HypervisorError: if the connection is lost or cannot be opened
        """
        started = self._clock()
        with self._lock:
            self._is_due, self._is_under_way = False, True
            self._next_at = started + MIN_INTERVAL_SECONDS
            told_at = {uuid: each.told_at for uuid, each in self._known.items()}
            wanted = sorted(self._wanted.values(), key=lambda each: told_at.get(each.record.uuid, -math.inf))
        try:
            stopped = self._look_at_processes(wanted)
            jobs = [
                GuestJob(uuid=each.record.uuid, kind=_KIND, ask=partial(self._ask, each), does_not_queue=True)
                for each in wanted
                if each.record.uuid not in stopped
            ]
            self._calls.ask(jobs, seconds=ROUND_SECONDS, timeout=ANSWER_SECONDS)
            self._has_read = True
        finally:
            duration = self._clock() - started
            with self._lock:
                self._is_under_way = False
                self._next_at = max(self._next_at, started + MIN_INTERVAL_DURATIONS * duration)

    def _look_at_processes(self, wanted: Sequence[ChosenGuest]) -> frozenset[str]:
        """Return the UUIDs of guests that are seen not to answer."""
        names = (
            self._processes.find_stopped(each.record.name for each in wanted) if self._sees_processes else ()
        )
        stopped = frozenset(each.record.uuid for each in wanted if each.record.name in names)
        with self._lock:
            self._stopped = stopped
        return stopped

    def _ask(self, guest: ChosenGuest, hypervisor: WaitingHypervisor) -> None:
        """Ask one guest, if it is still shown."""
        uuid, began_at = guest.record.uuid, self._clock()
        if not self._is_wanted(guest.record):
            return
        try:
            cpu = self._ask_host(uuid, hypervisor) if self._asks_host else None
            statistics = self._ask_for_statistics(guest, hypervisor)
            is_told = is_of_the_monitor(statistics)
            is_busy = bool(statistics) and not is_told and _is_busy(uuid, hypervisor)
        except (ConnectionLostError, NoAnswerError):
            raise
        except GoneError:
            return
        except HypervisorError as error:
            with self._lock:
                if self._is_wanted(guest.record):
                    self._errors[uuid] = error
                    self._busy -= {uuid}
            return
        seconds = self._clock() - began_at
        if is_told and seconds < ANSWER_SECONDS:
            self._calls.note_answered(uuid)
        self._keep(guest, statistics, cpu, is_told=is_told, is_busy=is_busy, seconds=seconds)

    def _ask_host(self, uuid: str, hypervisor: WaitingHypervisor) -> _CpuTime:
        """Return a guest's CPU time, which needs no answer of its QEMU."""
        cpu_ns = hypervisor.get_domain_info(uuid).cpu_time_ns
        return _CpuTime(cpu_ns, self._wall_clock())

    def _ask_for_statistics(self, guest: ChosenGuest, hypervisor: WaitingHypervisor) -> Mapping[str, object]:
        """Return a guest's statistics; none if the driver has none, for which it is asked once."""
        if self._unsupported is not None:
            return {}
        try:
            statistics = hypervisor.get_domain_statistics(guest.record.uuid, self._choose_groups(guest))
        except UnsupportedError as error:
            self._unsupported = error
            return {}
        if not statistics:
            self._unsupported = UnsupportedError("libvirt's driver of this hypervisor tells none")
        return statistics

    def _choose_groups(self, guest: ChosenGuest) -> Sequence[StatisticsGroup]:
        """Return what to ask for. libvirt runs ovs-vsctl for each vhost-user interface, up to 5 s each."""
        interfaces = () if guest.guest is None else guest.guest.interfaces
        has_slow_interfaces = any(each.type == "vhostuser" for each in interfaces)
        if self._asks_host and not has_slow_interfaces:
            return ("balloon", "block", "interface")
        return ("balloon", "block")

    def _keep(
        self,
        guest: ChosenGuest,
        statistics: Mapping[str, object],
        cpu: _CpuTime | None,
        *,
        is_told: bool,
        is_busy: bool,
        seconds: float,
    ) -> None:
        """Keep an answer, unless the guest is not shown any more, or has begun anew."""
        record, now, interfaces = guest.record, self._clock(), parse_interfaces(statistics)
        targets = () if guest.guest is None else [each.target for each in guest.guest.interfaces]
        disks, memory = parse_disks(statistics), parse_memory(statistics)
        with self._lock:
            if not self._is_wanted(record):
                return
            self._busy = self._busy | {record.uuid} if is_busy else self._busy - {record.uuid}
            self._errors.pop(record.uuid, None)
            if is_told:
                self._counts[bisect_left(ANSWER_BUCKETS_SECONDS, seconds)] += 1
                self._total_seconds += seconds
            known = self._known.get(record.uuid)
            if known is None or known.id != record.id:
                known = _Known(record.id)
            if cpu is not None:
                others = known.others.sum_interfaces(interfaces, targets)
                told = replace(
                    known.statistics,
                    cpu_ns=cpu.cpu_ns,
                    cpu_read_at=cpu.read_at,
                    interfaces=interfaces,
                    other_interfaces=others,
                )
                known = replace(known, statistics=told, host_told_at=now)
            if is_told:
                told = replace(
                    known.statistics,
                    read_at=self._wall_clock(),
                    disks=disks,
                    other_disks=known.others.sum_disks(disks),
                    memory=memory,
                )
                is_silent = memory is None or memory.updated_at is None
                silent_since = (known.silent_since or now) if is_silent else None
                known = replace(known, statistics=told, told_at=now, silent_since=silent_since)
            if is_told or cpu is not None:
                self._known[record.uuid] = known

    def _is_wanted(self, record: DomainRecord) -> bool:
        """Whether this run of a guest is still shown."""
        wanted = self._wanted.get(record.uuid)
        return wanted is not None and wanted.record.id == record.id

    # What came of it.

    def _counts_still(self, at: float) -> bool:
        return self._clock() - at <= self._stale_grace

    def _drop_old(self, known: _Known) -> GuestStatistics:
        """Return what counts still."""
        statistics = known.statistics
        if not self._counts_still(known.told_at):
            statistics = replace(statistics, disks={}, other_disks=None, memory=None)
        if statistics.cpu_ns is not None and not self._counts_still(known.host_told_at):
            statistics = replace(
                statistics, cpu_ns=None, cpu_read_at=None, interfaces={}, other_interfaces=None
            )
        return statistics

    def _list_suspended(self) -> Sequence[Problem]:
        if self._calls.may_wait:
            return ()
        message = (
            f"{self._calls.hung} calls about guests wait for an answer. No guest is asked for its statistics"
            " until one of them is answered, so that libvirt has workers for others"
        )
        advice = "Look for guests that are frozen: virsh domcontrol NAME"
        return (
            Problem(severity=Severity.NOTE, reason="timeout", subject=NAME, message=message, advice=advice),
        )

    def _list_unsupported(self) -> Sequence[Problem]:
        unsupported = self._unsupported
        if unsupported is None:
            return ()
        message = f"no statistics of guests: {unsupported}"
        return (Problem(severity=Severity.NOTE, reason=unsupported.reason, subject=NAME, message=message),)

    def _list_errors(self) -> Sequence[Problem]:
        """Return one problem for all guests that cannot be read, as they may all have the same."""
        with self._lock:
            errors, wanted = dict(self._errors), self._wanted
        if not errors:
            return ()
        uuid, error = next(iter(errors.items()))
        name = wanted[uuid].record.name if uuid in wanted else uuid
        message = f"the statistics of {len(errors)} guests cannot be read, such as of {name}: {error}"
        return (
            Problem(
                severity=Severity.ERROR,
                reason=error.reason,
                subject=NAME,
                message=message,
                advice=error.advice,
            ),
        )

    def _list_silent(self) -> Sequence[Problem]:
        """Return one problem for all guests that have a balloon which tells nothing."""
        now = self._clock()
        with self._lock:
            names = sorted(
                self._wanted[uuid].record.name
                for uuid, known in self._known.items()
                if known.silent_since is not None
                and now - known.silent_since >= SILENT_SECONDS
                and uuid in self._wanted
                and _may_tell_its_memory(self._wanted[uuid])
            )
        if not names:
            return ()
        named = ", ".join(names[:_NAMED_GUESTS]) + (", …" if len(names) > _NAMED_GUESTS else "")
        message = f"{len(names)} guests do not tell how they use their memory: {named}"
        advice = (
            "Set mem_stats_period_seconds in [libvirt] of nova.conf, and start the guests anew. A guest needs"
            " a driver for virtio's balloon, and on Windows its service"
        )
        return (
            Problem(
                severity=Severity.NOTE,
                reason="unsupported",
                subject="guest memory",
                message=message,
                advice=advice,
            ),
        )


def _is_busy(uuid: str, hypervisor: WaitingHypervisor) -> bool:
    """Whether another client has a guest's job and waits for the guest, instead of being at work on it."""
    try:
        return hypervisor.is_guest_busy(uuid)
    except (ConnectionLostError, NoAnswerError):
        raise
    except HypervisorError:
        return False  # the driver has no such call


def _may_tell_its_memory(guest: ChosenGuest) -> bool:
    """Whether it runs, and was not made without a balloon."""
    return guest.record.state is DomainState.RUNNING and (guest.guest is None or guest.guest.has_balloon)


def _may_be_asked(record: DomainRecord) -> bool:
    """Whether a guest's monitor may answer: not while it migrates in or starts, and not if it is shut off."""
    reason = get_reason(record.state, record.reason)
    return record.is_active and not (record.state is DomainState.PAUSED and reason in _REASONS_TO_WAIT)

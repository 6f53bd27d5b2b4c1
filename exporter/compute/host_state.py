"""HostState: the last state of one hypervisor, with a short cache, and at most one refresh at a time.

Its states: what is shown in each, and what a scrape and the maintenance between scrapes do in each.

    state                                   up   numbers   a scrape     maintenance
    new                                     no   no        reads it     nothing
    up                                      yes  yes       nothing      reads what is due
    up, for longer than cache_ttl           yes  yes       reads it     reads what is due
    incomplete                              no   yes       nothing      reads what is due
    failed                                  no   the last  reads it     nothing
    unreachable                             no   the last  nothing      nothing
    unreachable, its wait is over           no   the last  reads it     reads it
    unreachable, for longer than the grace  no   no        reads it     reads it
    lost                                    yes  yes       reads it     reads it
    being read                              yes  yes       waits        reads what is due, later
    late                                    no   the last  waits        reads what is due, later
    late, for longer than a scrape          no   the last  nothing      reads what is due, later
    reconfigured                            no   no        reads it     nothing

- A refresh leads to *up*; to *incomplete* where a field is missing that Nova requires; to *unreachable* where
  it cannot connect; to *failed* where anything else goes wrong. Only *unreachable* waits, each time longer.
- *lost*: libvirt reported that the connection is closed, and no refresh has noticed it yet.
- *being read*: shown as before. All scrapes share one refresh. *late*: a scrape's time was up before its end.
- What maintenance has read is not shown yet: the next scrape reads the host even if it is *up*.

tests/unit/test_host_state_table.py goes through this table.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Set
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Protocol

from exporter.attempt import Failure, Success, attempt_in_thread
from exporter.compute.backoff import Backoff
from exporter.compute.maintenance import Driver as MaintenanceDriver
from exporter.compute.maintenance import Maintenance
from exporter.config.settings import Config, HypervisorConfig
from exporter.errors import ConnectError, HypervisorError
from exporter.model import DriverStats, HostView, Problem, RefreshCost, Resources, Severity, Snapshot
from exporter.recorder import REFRESH, STEP, Recorder, Recording

log = logging.getLogger(__name__)

# Every value of the label `reason`, so that each counter exists with 0 before its first increment.
REASONS = (
    "connect",
    "connection_lost",
    "cpu_set",
    "daemon",
    "denied",
    "domains",
    "duplicate",
    "gone",
    "guest_xml",
    "hostname",
    "incomplete",
    "internal",
    "libvirt",
    "metadata",
    "storage",
    "timeout",
    "unsupported",
)


# A refresh that is still running after this only waits for libvirt. Its slot is given to the next one.
SLOT_SECONDS = 1.0

# HostNames finds this problem among all targets. So a refresh cannot end it.
_DUPLICATE = ("duplicate", "")


class Driver(MaintenanceDriver, Protocol):
    """The methods of a driver that HostState uses: exporter.virt.driver.LibvirtDriver."""

    def get_available_resource(self) -> Resources:
        """Read the hypervisor; may block for ever."""

    def get_stats(self) -> DriverStats:
        """Return the counters."""

    def has_lost_connection(self) -> bool:
        """Whether the connection was lost since the last read."""

    def configure(self, *, resync_interval: float, stale_grace: float) -> None:
        """Use these times from now on."""

    def reconfigure(self, config: HypervisorConfig) -> None:
        """Use these settings from the next refresh on. The URI is the same."""

    def close(self) -> None:
        """Release the hypervisor; may block for ever."""


class HostState:
    """The state of one hypervisor. A scrape starts a refresh in its own thread.

    All methods run in the event loop's thread.

    :param target: the hypervisor's name in the configuration
    :param labels: its labels in the configuration
    :param config: has the timeouts and cache times
    :param slots: limits how many hypervisors are refreshed at once
    :param backoff: decides when to try to connect again
    :param observe_duration: called with the seconds of each refresh
    :param clock: monotonic seconds; used for ages, so that a change of the wall clock does no harm
    :param wall_clock: seconds since the epoch
    :param recorder: records the reads of the hypervisor, for debugging
    :ivar hostname: the first one that the hypervisor reported; None before its first answer
    """

    def __init__(
        self,
        *,
        target: str,
        labels: tuple[tuple[str, str], ...] = (),
        driver: Driver,
        config: Config,
        slots: asyncio.Semaphore,
        backoff: Backoff,
        observe_duration: Callable[[float], None],
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        recorder: Recorder | None = None,
    ) -> None:
        self.target = target
        self.labels = labels
        self._driver = driver
        self._config = config
        self._slots = slots
        self._backoff = backoff
        self._observe_duration = observe_duration
        self._maintenance = Maintenance(driver, target=target)
        self._is_maintenance_due = False
        self._clock = clock
        self._wall_clock = wall_clock
        self._recorder = recorder or Recorder(clock=clock)
        self._refresh: asyncio.Task[None] | None = None
        self._refresh_started = 0.0
        self._reconfigured = 0
        self._snapshot: Snapshot | None = None
        self._snapshot_taken = 0.0
        self._jobs_seen = 0
        self._has_answered = False
        self._succeeded_at: float | None = None
        self._is_up = False
        self._is_late = False
        self.hostname: str | None = None
        self._cost: RefreshCost | None = None
        self._cache_hits = 0
        self._errors = Counter(dict.fromkeys(REASONS, 0))
        self._problems: dict[tuple[str, str], Problem] = {}
        self._told = dict(self._problems)  # problems whose start is in the log, but not their end
        self._has_reported_view = False

    async def get_host_stats(self, *, refresh: bool, deadline: float) -> None:
        """Refresh the hypervisor if `refresh` is set or the snapshot is too old.

        Get_view then shows the result.

        :param deadline: how long to wait, on the clock. A refresh that takes longer continues, and all
            callers share it.
        """
        if self._is_cached() and not refresh:
            self._cache_hits += 1
        else:
            await self._wait_for_refresh(deadline, is_forced=refresh)

    def recording(self) -> AbstractContextManager[Recording]:
        """Record the reads of the hypervisor in this block."""
        return self._recorder.recording()

    @property
    def is_shown(self) -> bool:
        """Whether there are numbers that are not older than stale_grace."""
        return self._snapshot is not None and self._age <= self._config.stale_grace

    @property
    def _age(self) -> float:
        return self._clock() - self._snapshot_taken

    def get_view(self, *, duplicate_of: str | None = None) -> HostView:
        """Return the current view: the last snapshot, unless it is older than stale_grace.

        :param duplicate_of: the target that is shown instead of this one, and why
        """
        now = self._clock()
        snapshot = self._snapshot if self.is_shown and duplicate_of is None else None
        duplicate = () if duplicate_of is None else (self._make_duplicate(duplicate_of),)
        driver = self._driver.get_stats()
        return HostView(
            target=self.target,
            is_up=self._is_up and not self._is_late and duplicate_of is None,
            snapshot=snapshot,
            refresh=self._cost,
            is_refreshing=self._refresh is not None,
            errors=dict(self._errors),
            cache_hits=self._cache_hits,
            driver=driver,
            hung_calls=driver.hung + self._maintenance.hung + self._is_late,
            problems=(*self._problems.values(), *duplicate),
            age_seconds=None if snapshot is None else self._age,
            seconds_since_success=None if self._succeeded_at is None else now - self._succeeded_at,
        )

    def note_duplicate(self, duplicate_of: str | None) -> None:
        """Count and log that another target is shown instead of this one (None: not any more)."""
        if duplicate_of is None:
            self._tell_over({_DUPLICATE})
        else:
            self._errors["duplicate"] += 1
            self._tell_begun([self._make_duplicate(duplicate_of)])

    def _make_duplicate(self, owner: str) -> Problem:
        message = f"host name {self.hostname} belongs to target {owner}; this target is not shown"
        return Problem(severity=Severity.FATAL, reason="duplicate", subject="", message=message)

    def configure(self, config: Config) -> None:
        """Use this configuration's times from now on."""
        self._config = config
        self._driver.configure(resync_interval=config.resync_interval, stale_grace=config.stale_grace)

    def reconfigure(self, hypervisor: HypervisorConfig, config: Config) -> None:
        """Use other settings for the same URI, and show nothing until it was read with them.

        The connections and what is known about guests stay. Calls that hang, hang in libvirt, whatever the
        settings are. They stay limited and counted.
        """
        self.configure(config)
        self._driver.reconfigure(hypervisor)
        self.target, self.labels = hypervisor.target, hypervisor.labels
        self._reconfigured += 1
        self._snapshot, self._has_answered, self._is_up = None, False, False
        self._has_reported_view = False

    async def finish_maintenance(self) -> None:
        """If the hypervisor answers, read what is due between scrapes, and wait until it is read."""
        if self._has_answered:
            await self._maintenance.finish()

    def maintain(self) -> None:
        """Do the due work between scrapes: reconnect, or read guests, images and devices again.

        Do nothing while a refresh is under way, because libvirt may be hanging.
        """
        if self._refresh is not None:
            self._is_maintenance_due = True
        elif self._is_to_reconnect():
            self._start_refresh()
        elif self._has_answered:
            self._maintenance.start()

    def _is_to_reconnect(self) -> bool:
        is_lost = self._backoff.has_failed or (self._has_answered and self._driver.has_lost_connection())
        return is_lost and self._backoff.may_try(self._clock())

    def close(self) -> None:
        """Release the hypervisor without waiting for it."""
        if self._refresh is not None:
            self._refresh.cancel()
        self._maintenance.close()
        attempt_in_thread(self._driver.close, name=f"close {self.target}")

    def _is_cached(self) -> bool:
        """Whether the snapshot is young, and contains everything that was read between scrapes."""
        is_young = self._clock() - self._snapshot_taken < self._config.cache_ttl
        is_latest = self._jobs_seen == self._maintenance.jobs_done
        return is_young and is_latest and self._has_answered and not self._driver.has_lost_connection()

    async def _wait_for_refresh(self, deadline: float, *, is_forced: bool) -> None:
        now = self._clock()
        if self._refresh is None and not is_forced and not self._backoff.may_try(now):
            return
        refresh = self._refresh or self._start_refresh()
        is_overdue = now - self._refresh_started >= self._config.scrape_timeout
        timeout = 0 if is_overdue else max(0, deadline - now)
        done, _pending = await asyncio.wait({refresh}, timeout=timeout)
        if not done or refresh.cancelled():
            self._note_late()

    def _start_refresh(self) -> asyncio.Task[None]:
        self._refresh_started = self._clock()
        self._refresh = asyncio.get_running_loop().create_task(self._refresh_once())
        return self._refresh

    def _note_late(self) -> None:
        """Record, once for each refresh, that a scrape could not wait for it."""
        if self._is_late:
            return
        self._is_late = True
        self._errors["timeout"] += 1
        self._problems["timeout", ""] = Problem(
            severity=Severity.FATAL,
            reason="timeout",
            subject="",
            message="no answer within the scrape's deadline; the refresh goes on; the last numbers are shown",
        )
        self._tell_begun(self._problems.values())

    async def _refresh_once(self) -> None:
        """Read the hypervisor once, however long it takes. Repeat it if its settings changed meanwhile."""
        try:
            with self._recorder.step(REFRESH):
                outcome = await self._read_by_present_settings()
            self._is_late = False
            if isinstance(outcome, Failure):
                self._handle_failure(outcome)
            else:
                self._handle_resources(outcome)
        finally:
            self._refresh = None
        self._report_refresh()
        if self._is_maintenance_due and self._has_answered:
            # Start this at once: without a cache, the next refresh may follow immediately.
            self._maintenance.start()
        self._is_maintenance_due = False

    async def _read_by_present_settings(self) -> Success[Resources] | Failure:
        while True:
            reconfigured = self._reconfigured
            outcome = await self._read()
            if reconfigured == self._reconfigured:
                return outcome

    async def _read(self) -> Success[Resources] | Failure:
        """Let the driver read.

        A slow read gives its slot back, so that hung hypervisors do not block others.
        """
        waiting = self._recorder.begin(STEP, "wait for a place among the refreshes under way")
        async with self._slots:
            self._recorder.end(waiting)
            started, before = self._clock(), self._driver.get_stats()
            self._jobs_seen = self._maintenance.jobs_done
            reading = attempt_in_thread(self._driver.get_available_resource, name=f"refresh {self.target}")
            await asyncio.wait({reading}, timeout=SLOT_SECONDS)
        outcome = await reading
        after = self._driver.get_stats()
        self._cost = RefreshCost(
            duration_seconds=self._clock() - started,
            libvirt_calls=after.libvirt_calls - before.libvirt_calls,
            guests_read=after.guests_read - before.guests_read,
        )
        self._observe_duration(self._cost.duration_seconds)
        return outcome

    def _handle_failure(self, outcome: Failure) -> None:
        error = outcome.error
        is_expected = isinstance(error, HypervisorError)
        reason = error.reason if isinstance(error, HypervisorError) else "internal"
        message = str(error) if is_expected else f"unexpected {type(error).__name__}: {error}"
        advice = error.advice if isinstance(error, HypervisorError) else ""
        problem = Problem(severity=Severity.FATAL, reason=reason, subject="", message=message, advice=advice)
        if not is_expected and (reason, "") not in self._problems:
            log.error("a defect of this program", exc_info=error, extra={"target": self.target})
        self._has_answered = False
        self._is_up = False
        if isinstance(error, ConnectError):
            self._backoff.fail(self._clock())
        self._update_problems((problem,))

    def _handle_resources(self, outcome: Success[Resources]) -> None:
        self._backoff.reset()
        self._has_answered = True
        resources = outcome.value
        problems = [*resources.problems, *self._check_hostname(resources), *_check_complete(resources)]
        self._is_up = not any(problem.severity is Severity.FATAL for problem in problems)
        self._snapshot = Snapshot(
            target=self.target,
            resources=replace(resources, hypervisor_hostname=self.hostname or ""),
            timestamp_seconds=self._wall_clock(),
            labels=self.labels,
        )
        self._snapshot_taken = self._clock()
        if self._is_up:
            self._succeeded_at = self._snapshot_taken
        self._update_problems(problems)
        self._tell_over(self._told.keys() - self._problems.keys() - {_DUPLICATE})
        self._report_hypervisor_resource_view(self._snapshot.resources)

    def _check_hostname(self, resources: Resources) -> list[Problem]:
        """Keep the first host name. Nova also refuses a change (Host.get_hostname)."""
        if self.hostname is None:
            self.hostname = resources.hypervisor_hostname
        if resources.hypervisor_hostname == self.hostname:
            return []
        message = (
            f"host name changed from {self.hostname} to {resources.hypervisor_hostname}:"
            f" keeping {self.hostname} until this exporter is restarted"
        )
        return [Problem(severity=Severity.ERROR, reason="hostname", subject="", message=message)]

    def _report_refresh(self) -> None:
        """Log what the refresh did, in one line."""
        if self._cost is None or not log.isEnabledFor(logging.DEBUG):
            return
        what = {
            "target": self.target,
            "seconds": round(self._cost.duration_seconds, 6),
            "libvirt_calls": self._cost.libvirt_calls,
            "guests_read": self._cost.guests_read,
            "problems": ",".join(sorted({reason for reason, _subject in self._problems})) or "none",
        }
        log.debug("refreshed", extra=what)

    def _update_problems(self, problems: list[Problem] | tuple[Problem, ...]) -> None:
        self._errors.update({p.reason for p in problems if p.severity is not Severity.NOTE})
        self._problems = {(problem.reason, problem.subject): problem for problem in problems}
        self._tell_begun(self._problems.values())

    def _tell_begun(self, problems: Iterable[Problem]) -> None:
        """Log new problems, once."""
        for problem in problems:
            key = (problem.reason, problem.subject)
            if key not in self._told:
                level = logging.WARNING if problem.severity is Severity.NOTE else logging.ERROR
                # Message and advice are two sentences in the log; the page shows them separately.
                text = f"{problem.message}. {problem.advice}" if problem.advice else problem.message
                log.log(level, "%s", text, extra={"target": self.target, "reason": problem.reason})
            self._told[key] = problem

    def _tell_over(self, keys: Set[tuple[str, str]]) -> None:
        """Log problems that have ended, once. A failed refresh ends no problem."""
        for key in [key for key in self._told if key in keys]:
            problem = self._told.pop(key)
            extra = {"target": self.target, "reason": problem.reason, "was": problem.message}
            log.info("no longer a problem", extra=extra)

    def _report_hypervisor_resource_view(self, resources: Resources) -> None:
        """Log what is free, first at level info, then debug (_report_hypervisor_resource_view)."""
        level = logging.DEBUG if self._has_reported_view else logging.INFO
        self._has_reported_view = True
        view = {
            "target": self.target,
            "hypervisor_hostname": resources.hypervisor_hostname,
            "free_ram_mb": _difference(resources.memory_mb, resources.memory_mb_used),
            "free_disk_gb": _difference(resources.local_gb, resources.local_gb_used),
            "free_vcpus": _difference(resources.vcpus, resources.vcpus_used)
            if resources.vcpus
            else "unknown",
        }
        log.log(level, "hypervisor resource view", extra=view)


# The fields that Nova's ResourceTracker._verify_resources needs, and the source of each.
_REQUIRED = {
    "vcpus": None,
    "memory_mb": None,
    "local_gb": "storage",
    "cpu_info": "capabilities",
    "vcpus_used": "guests",
    "memory_mb_used": "guests",
    "local_gb_used": "storage",
}


def verify_resources(resources: Resources) -> tuple[str, ...]:
    """Return the missing fields among those that Nova's ResourceTracker._verify_resources needs.

    numa_topology is not included: in Nova too, None means that the host has none. What is not needed, and was
    therefore not read, is not missing.
    """
    return tuple(
        name
        for name, source in _REQUIRED.items()
        if getattr(resources, name) is None and source not in resources.left_out
    )


def _check_complete(resources: Resources) -> list[Problem]:
    missing = verify_resources(resources)
    if not missing:
        return []
    message = f"missing fields of Nova's dictionary: {', '.join(missing)}"
    return [Problem(severity=Severity.FATAL, reason="incomplete", subject="", message=message)]


def _difference(total: int | None, used: int | None) -> int | str:
    return "unknown" if total is None or used is None else total - used

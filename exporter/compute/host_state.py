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
    late                                    no   the last  nothing      reads what is due, later
    reconfigured                            no   no        reads it     nothing
    closed                                  yes  yes       nothing      nothing

- A refresh leads to *up*; to *incomplete* where a field is missing that Nova requires; to *unreachable* where
  it cannot connect, or loses the connection; to *failed* where anything else goes wrong. Only *unreachable*
  waits, each time longer.
- *lost*: libvirt reported that the connection is closed, and no refresh has noticed it yet.
- *being read*: shown as before. All scrapes share one refresh, each until its own deadline. A scrape whose
  deadline is sooner gets what is known, and changes nothing for others.
- *late*: it is being read for as long as a scrape may take by the configuration (`scrape_timeout`), less a
  margin, whoever waits for it.
- *closed*: a reload took it out. A scrape that began before is shown it as it was, if nothing has its place.
- *failed*, *unreachable*: a scrape waits for FAILED_WAIT_SECONDS at most. So a hypervisor that hangs does not
  delay the others of each scrape.
- What maintenance has read is not shown yet: the next scrape reads the host even if it is *up*.

tests/unit/test_host_state_table.py goes through this table.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import replace

from exporter.attempt import Failure, Success, attempt_in_thread
from exporter.compute.backoff import Backoff
from exporter.compute.driver import Driver
from exporter.compute.maintenance import Maintenance
from exporter.compute.places import Rank, RefreshPlaces
from exporter.compute.problems import Problems, make_duplicate
from exporter.compute.refresh import Refresh
from exporter.compute.resource_view import check_complete, report_hypervisor_resource_view
from exporter.config.settings import Config, HypervisorConfig
from exporter.errors import ConnectError, ConnectionLostError
from exporter.model import HostView, Ignored, Problem, Resources, Severity, Snapshot
from exporter.recorder import Recorder, Recording

log = logging.getLogger(__name__)

# A refresh is late so many seconds before `scrape_timeout`. So the scrape that began it shows that when its
# time is up, although it came some milliseconds earlier. With a short `scrape_timeout`, a quarter of it.
LATE_MARGIN_SECONDS = 0.25
# Jobs that follow a refresh begin so much later: the scrape that waited for it is written meanwhile.
FOLLOW_SECONDS = 0.1
# How long a scrape waits for a hypervisor whose last refresh failed.
FAILED_WAIT_SECONDS = 1.0


class HostState:
    """The state of one hypervisor. A scrape starts a refresh in its own thread.

    All methods run in the event loop's thread.

    :param target: the hypervisor's name in the configuration
    :param labels: its labels in the configuration
    :param ignored: what its nova_conf says in vain
    :param config: has the timeouts and cache times
    :param places: limit how many hypervisors are refreshed at once
    :param backoff: decides when to try to connect again
    :param observe_duration: called with the seconds of each refresh
    :param clock: monotonic seconds; used for ages, so that a change of the wall clock does no harm
    :param wall_clock: seconds since the epoch
    :param recorder: records the reads of the hypervisor, for debugging
    :param needs: the sources that metrics need: it is down while numbers of these are missing. None for all
    :ivar hostname: the first one that the hypervisor reported; None before its first answer
    :ivar is_closed: whether it is in use no more
    :ivar changes: how many times its settings were replaced
    """

    def __init__(
        self,
        *,
        target: str,
        labels: tuple[tuple[str, str], ...] = (),
        ignored: tuple[Ignored, ...] = (),
        driver: Driver,
        config: Config,
        places: RefreshPlaces,
        backoff: Backoff,
        observe_duration: Callable[[float], None],
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        recorder: Recorder | None = None,
        needs: Collection[str] | None = None,
    ) -> None:
        self.target = target
        self.labels = labels
        self._ignored = ignored
        self._driver = driver
        self._config = config
        self._backoff = backoff
        self._clock = clock
        self._wall_clock = wall_clock
        self._recorder = recorder or Recorder(clock=clock)
        self._needs = needs
        self._maintenance = Maintenance(driver, target=target, clock=clock, followed=places.followed)
        self._is_maintenance_due = False
        self._refresh = Refresh(
            driver,
            self._maintenance,
            target=target,
            on_done=self._end_refresh,
            places=places,
            observe_duration=observe_duration,
            clock=clock,
            recorder=self._recorder,
        )
        self._problems = Problems(target=target)
        self._snapshot: Snapshot | None = None
        self._snapshot_taken = 0.0
        self._last_refresh_succeeded = False
        self._succeeded_at: float | None = None
        self._is_up = False
        self._was_noted_late = False
        self._is_refresh_new = False
        self.is_closed = False
        self.changes = 0
        self._changes_read = 0
        self.hostname: str | None = None
        self._cache_hits = 0
        self._has_reported_view = False

    async def get_host_stats(self, *, refresh: bool, deadline: float) -> None:
        """Refresh the hypervisor if `refresh` is set or the snapshot is too old.

        Get_view then shows the result. If the settings are replaced meanwhile, it is by the new ones.

        :param deadline: how long to wait, on the clock. A refresh that takes longer continues, and all
            callers share it.
        """
        if self.is_closed:
            return
        changes = self.changes
        if self._is_cached() and not refresh:
            self._cache_hits += 1
        else:
            await self._wait_for_refresh(deadline, is_forced=refresh)
        while changes != self.changes and not self.is_closed:
            changes = self.changes
            if self._changes_read != changes:
                await self._wait_for_refresh(deadline, is_forced=True)

    @property
    def has_answered(self) -> bool:
        """Whether it was read since the start."""
        return self.hostname is not None

    @property
    def has_failed(self) -> bool:
        """Whether its last refresh failed."""
        return self._refresh.rank is Rank.FAILED

    def recording(self) -> AbstractContextManager[Recording]:
        """Record the reads of the hypervisor in this block."""
        return self._recorder.recording()

    @property
    def has_usable_numbers(self) -> bool:
        """Whether there are numbers that are not older than stale_grace."""
        return self._snapshot is not None and self._age <= self._config.stale_grace

    @property
    def _age(self) -> float:
        return self._clock() - self._snapshot_taken

    def get_view(self, *, duplicate_of: str | None = None) -> HostView:
        """Return the current view: the last snapshot, unless it is older than stale_grace.

        :param duplicate_of: the target that is shown instead of this one, and why
        """
        self._note_if_late()
        now, is_late = self._clock(), self._is_late
        snapshot = self._snapshot if self.has_usable_numbers and duplicate_of is None else None
        duplicate = () if duplicate_of is None else (make_duplicate(self.hostname, duplicate_of),)
        driver = self._driver.get_stats()
        return HostView(
            target=self.target,
            is_up=self._is_up and not is_late and duplicate_of is None,
            snapshot=snapshot,
            refresh=self._refresh.cost,
            is_refreshing=self._refresh.is_under_way,
            errors=self._problems.get_errors(),
            cache_hits=self._cache_hits,
            driver=driver,
            hung_calls=driver.hung + self._maintenance.hung + is_late,
            problems=(*self._problems.get(), *duplicate),
            ignored=self._ignored,
            age_seconds=None if snapshot is None else self._age,
            seconds_since_success=None if self._succeeded_at is None else now - self._succeeded_at,
        )

    def note_duplicate(self, duplicate_of: str | None) -> None:
        """Log that another target is shown instead of this one (None: not any more).

        It is counted as an error once for each refresh.
        """
        problem = None if duplicate_of is None else make_duplicate(self.hostname, duplicate_of)
        self._problems.note_duplicate(problem, is_counted=self._is_refresh_new)
        self._is_refresh_new = False

    def configure(self, config: Config) -> None:
        """Use this configuration's times from now on."""
        self._config = config
        self._driver.configure(resync_interval=config.resync_interval, stale_grace=config.stale_grace)

    def reconfigure(self, hypervisor: HypervisorConfig, config: Config) -> None:
        """Use other settings for the same URI, and show nothing until it was read with them.

        The connections and what is known about guests stay. Calls that hang depend on libvirt, not on
        settings. They stay limited and counted.
        """
        self.configure(config)
        self._driver.reconfigure(hypervisor)
        self.target, self.labels = hypervisor.target, hypervisor.labels
        self._ignored = hypervisor.ignored
        self._problems.target = self._maintenance.target = hypervisor.target
        self._refresh.note_reconfigured(target=hypervisor.target)
        self._snapshot, self._last_refresh_succeeded, self._is_up = None, False, False
        self._has_reported_view = False
        self.changes += 1

    async def finish_maintenance(self) -> None:
        """If the hypervisor answers, read what is due between scrapes, and wait until it is read."""
        if self._last_refresh_succeeded and not self.is_closed:
            await self._maintenance.finish()

    def maintain(self) -> None:
        """Do the due work between scrapes: reconnect, or read guests, images and devices again.

        While a refresh is under way, libvirt may be hanging. Then the work starts when the refresh has ended
        well.
        """
        self._note_if_late()
        if self.is_closed:
            return
        if self._refresh.is_under_way:
            self._is_maintenance_due = True
        elif self._is_to_reconnect():
            self._refresh.start()
        elif self._last_refresh_succeeded:
            self._maintenance.start()

    def _is_to_reconnect(self) -> bool:
        is_lost = self._backoff.has_failed or (
            self._last_refresh_succeeded and self._driver.has_lost_connection()
        )
        return is_lost and self._backoff.may_try(self._clock())

    def end(self) -> None:
        """Release the hypervisor while scrapes may wait for it: at the end of the process.

        They show its last numbers, and that it did not answer in time.
        """
        self._is_up = self._is_up and not self._refresh.is_under_way
        self.close()

    def close(self) -> None:
        """Release the hypervisor for good, without waiting for it."""
        self.is_closed = True
        self._refresh.cancel()
        self._maintenance.close()
        self.stop_commands()
        attempt_in_thread(self._driver.close, name=f"close {self.target}")

    def stop_commands(self) -> None:
        """Kill the commands that run for the hypervisor, such as `vgs`: nobody would wait for their end."""
        self._driver.stop_commands()

    def _is_cached(self) -> bool:
        """Whether the snapshot is young, and contains everything that was read between scrapes."""
        is_young = self._clock() - self._snapshot_taken < self._config.cache_ttl
        is_latest = self._refresh.has_seen_maintenance
        return (
            is_young and is_latest and self._last_refresh_succeeded and not self._driver.has_lost_connection()
        )

    async def _wait_for_refresh(self, deadline: float, *, is_forced: bool) -> None:
        is_wanted = is_forced or self._backoff.may_try(self._clock())
        if (is_wanted or self._refresh.is_under_way) and not self._is_late:
            timeout = self._config.scrape_timeout
            if self.has_failed and not is_forced:
                timeout = min(timeout, FAILED_WAIT_SECONDS)
            await self._refresh.wait(deadline, timeout=timeout)

    @property
    def _is_late(self) -> bool:
        """Whether it is being read for as long as a scrape may take, whoever waits and for how long."""
        timeout = self._config.scrape_timeout
        margin = min(LATE_MARGIN_SECONDS, timeout / 4)
        return self._refresh.is_under_way and self._refresh.seconds_under_way >= timeout - margin

    def _note_if_late(self) -> None:
        """Record, once for each refresh, that it is late."""
        if self._is_late and not self._was_noted_late:
            self._was_noted_late = True
            self._problems.note_late()

    def _end_refresh(self, outcome: Success[Resources] | Failure) -> None:
        """Take over what came of a refresh."""
        self._was_noted_late = False
        self._is_refresh_new = True
        self._changes_read = self.changes
        if isinstance(outcome, Failure):
            self._handle_failure(outcome.error)
        else:
            self._handle_resources(outcome.value)
        self._report_refresh()
        if self._is_maintenance_due and self._last_refresh_succeeded:
            # Start this at once: without a cache, the next refresh may follow immediately.
            self._maintenance.start()
        self._is_maintenance_due = False
        asyncio.get_running_loop().call_later(FOLLOW_SECONDS, self._follow)

    def _follow(self) -> None:
        """Start the jobs that follow a refresh, unless the next one is under way: they then follow that."""
        if self._last_refresh_succeeded and not self.is_closed and not self._refresh.is_under_way:
            self._maintenance.start_followers()

    def _handle_failure(self, error: Exception) -> None:
        self._last_refresh_succeeded = False
        self._is_up = False
        if isinstance(error, ConnectError | ConnectionLostError):
            self._backoff.fail(self._clock())
        self._problems.note_failure(error)

    def _handle_resources(self, resources: Resources) -> None:
        self._backoff.reset()
        self._last_refresh_succeeded = True
        problems = [
            *resources.problems,
            *self._list_maintenance_problems(resources),
            *self._check_hostname(resources),
            *check_complete(resources, needs=self._needs),
        ]
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
        self._problems.note_found(problems)
        level = logging.DEBUG if self._has_reported_view else logging.INFO
        self._has_reported_view = True
        report_hypervisor_resource_view(self.target, self._snapshot.resources, level=level)

    def _list_maintenance_problems(self, resources: Resources) -> list[Problem]:
        """Return why sources cannot be read between scrapes, unless they report it themselves."""
        reported = {problem.subject for problem in resources.problems}
        return [each for each in self._maintenance.get_problems() if each.subject not in reported]

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
        cost = self._refresh.cost
        if cost is None or not log.isEnabledFor(logging.DEBUG):
            return
        what = {
            "target": self.target,
            "seconds": round(cost.duration_seconds, 6),
            "libvirt_calls": cost.libvirt_calls,
            "guests_read": cost.guests_read,
            "problems": ",".join(self._problems.list_reasons()) or "none",
        }
        log.debug("refreshed", extra=what)

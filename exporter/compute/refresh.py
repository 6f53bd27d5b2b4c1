"""Refresh: the reading of one hypervisor in a thread of its own, never twice at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from exporter.attempt import Failure, Success, attempt_in_thread
from exporter.compute.driver import Driver
from exporter.compute.maintenance import Maintenance
from exporter.compute.places import Rank, RefreshPlaces
from exporter.model import RefreshCost, Resources
from exporter.recorder import REFRESH, STEP, Recorder

# A refresh that is still running after this only waits for libvirt. Its place is given to the next one.
PLACE_SECONDS = 1.0
# The same, of a refresh whose connection is not open yet: to open one costs next to no CPU time.
OPENING_PLACE_SECONDS = 0.1


class Refresh:
    """The refresh of one hypervisor, however long it takes. Callers wait for it until their deadline.

    All methods run in the event loop's thread.

    :param target: names the thread
    :param maintenance: reads the hypervisor between refreshes
    :param on_done: called with what came of each refresh
    :param places: bound how many hypervisors are refreshed at once
    :param observe_duration: called with each refresh's seconds
    :param clock: monotonic seconds
    :param recorder: takes down the steps
    :ivar rank: its place among those that wait for a place: what came of the last one
    :ivar cost: of the last one; None before there was one
    """

    def __init__(
        self,
        driver: Driver,
        maintenance: Maintenance,
        *,
        target: str,
        on_done: Callable[[Success[Resources] | Failure], None],
        places: RefreshPlaces,
        observe_duration: Callable[[float], None],
        clock: Callable[[], float],
        recorder: Recorder,
    ) -> None:
        self._driver = driver
        self._maintenance = maintenance
        self._target = target
        self._on_done = on_done
        self._places = places
        self._observe_duration = observe_duration
        self._clock = clock
        self._recorder = recorder
        self._task: asyncio.Task[None] | None = None
        self._started_at = 0.0
        self._reconfigurations = 0
        self._jobs_seen = 0
        self.rank = Rank.NEW
        self.cost: RefreshCost | None = None

    @property
    def is_under_way(self) -> bool:
        """Whether the hypervisor is being read."""
        return self._task is not None

    @property
    def seconds_under_way(self) -> float:
        """For how long the hypervisor is being read; 0 if it is not."""
        return self._clock() - self._started_at if self.is_under_way else 0.0

    @property
    def has_seen_maintenance(self) -> bool:
        """Whether nothing was read between scrapes since the last refresh began."""
        return self._jobs_seen == self._maintenance.jobs_done

    def start(self) -> asyncio.Task[None]:
        """Start it; none may be under way."""
        self._started_at = self._clock()
        self._task = asyncio.get_running_loop().create_task(self._run())
        return self._task

    async def wait(self, deadline: float, *, timeout: float) -> None:
        """Wait for the end of the one that is under way, or of a new one.

        :param deadline: on the clock
        :param timeout: seconds after its start from which nobody waits for it any more
        """
        task = self._task or self.start()
        deadline = min(deadline, self._started_at + timeout)
        await asyncio.wait({task}, timeout=max(0, deadline - self._clock()))

    def note_reconfigured(self, *, target: str) -> None:
        """Read once more if a refresh is under way: the settings changed.

        :param target: its name from now on
        """
        self._target = target
        self._reconfigurations += 1

    def cancel(self) -> None:
        """Stop waiting for the driver."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            with self._recorder.step(REFRESH):
                outcome = await self._read_by_present_settings()
            self._on_done(outcome)
        finally:
            self._task = None

    async def _read_by_present_settings(self) -> Success[Resources] | Failure:
        while True:
            reconfigurations = self._reconfigurations
            outcome = await self._read()
            if reconfigurations == self._reconfigurations:
                return outcome

    async def _read(self) -> Success[Resources] | Failure:
        """Let the driver read.

        The place is given back while the driver waits, so hypervisors that hang do not delay healthy ones.
        """
        waiting = self._recorder.begin(STEP, "wait for a place among the refreshes under way")
        async with self._places.take(self.rank, is_opening=self._driver.has_to_connect) as keep_for:
            self._recorder.end(waiting)
            started, before = self._clock(), self._driver.get_stats()
            self._jobs_seen = self._maintenance.jobs_done
            reading = attempt_in_thread(self._driver.get_available_resource, name=f"refresh {self._target}")
            keep_for(reading)
            await asyncio.wait({reading}, timeout=OPENING_PLACE_SECONDS)
            if not self._driver.has_to_connect:
                await asyncio.wait({reading}, timeout=PLACE_SECONDS - OPENING_PLACE_SECONDS)
        await asyncio.wait({reading})  # cancelled or not, the thread ends only when libvirt does
        outcome = reading.result()
        self.rank = Rank.FAILED if isinstance(outcome, Failure) else Rank.ANSWERED
        after = self._driver.get_stats()
        self.cost = RefreshCost(
            duration_seconds=self._clock() - started,
            libvirt_calls=after.libvirt_calls - before.libvirt_calls,
            guests_read=after.guests_read - before.guests_read,
        )
        self._observe_duration(self.cost.duration_seconds)
        return outcome

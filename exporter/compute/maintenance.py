"""Maintenance: reads of a hypervisor between scrapes, so that scrapes need not wait for them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from exporter.attempt import Failure, Success, attempt, attempt_in_thread
from exporter.compute.backoff import Backoff
from exporter.compute.driver import Driver
from exporter.compute.places import Places, Rank
from exporter.compute.problems import make_unreadable
from exporter.compute.source import Job, Source
from exporter.errors import ConnectError, ConnectionLostError, HypervisorError
from exporter.model import Problem

log = logging.getLogger(__name__)

# The number of jobs of one source that may hang at once, each in its own thread.
MAX_HUNG_JOBS = 2
# The pause before a job that failed runs again. It doubles after each failure, up to the maximum.
RETRY_SECONDS = 5.0
MAX_RETRY_SECONDS = 60.0
# A job that was not due again for so long is not missed any more: the guest that it read may be gone.
FORGET_SECONDS = 600.0
# The key of the failure if a source cannot even list its jobs.
_LISTING = "the list of jobs"


@dataclass(frozen=True, kw_only=True, slots=True)
class _FailedJob:
    """A job whose last run failed.

    :ivar times: how many times in a row
    :ivar backoff: when it may run again
    """

    error: Exception
    failed_at: float
    times: int
    backoff: Backoff


class Maintenance:
    """Runs the jobs of one driver's sources: one at a time for each source, in parallel for different ones.

    A job that fails is run again after a pause. A job that hangs is not started again.

    :param clock: monotonic seconds
    :param followed: bounds at how many hypervisors jobs that follow refreshes are done at once
    :ivar target: the name of the hypervisor, in the log and in the names of threads
    :ivar jobs_done: how many have ended without an error, of those that end the cache of scrapes
    """

    def __init__(
        self, driver: Driver, *, target: str, clock: Callable[[], float], followed: Places | None = None
    ) -> None:
        self._driver = driver
        self._followed = followed or Places(1)
        self._clock = clock
        self.target = target
        self.jobs_done = 0
        self._failed: dict[tuple[str, str], _FailedJob] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._jobs: set[asyncio.Future[Success[None] | Failure]] = set()
        self._hung: dict[tuple[str, str], asyncio.Future[Success[None] | Failure]] = {}

    @property
    def hung(self) -> int:
        """How many jobs are past their timeout."""
        return sum(not job.done() for job in self._hung.values())

    def get_problems(self) -> tuple[Problem, ...]:
        """Return one problem for each source with a job that fails. Its subject is the source's name.

        A source that handles an error itself raises nothing here, and reports it in its own `get_problems`.
        """
        failed = {
            source: job.error for (source, _key), job in self._failed.items() if not _is_left_to_refresh(job)
        }
        return tuple(
            make_unreadable(each.name, failed[each.name])
            for each in self._driver.sources
            if each.name in failed
        )

    def start(self) -> None:
        """Start the due jobs of each source without running jobs, but of those that follow refreshes."""
        self._start([source for source in self._driver.sources if not source.follows_refreshes])

    def start_followers(self) -> None:
        """Start the due jobs of the sources whose jobs follow refreshes."""
        self._start([source for source in self._driver.sources if source.follows_refreshes])

    def _start(self, sources: Sequence[Source]) -> None:
        self._hung = {key: job for key, job in self._hung.items() if not job.done()}
        self._tasks = {name: task for name, task in self._tasks.items() if not task.done()}
        now = self._clock()
        self._failed = {key: job for key, job in self._failed.items() if now - job.failed_at < FORGET_SECONDS}
        for source in sources:
            if source.name not in self._tasks and (jobs := self._list_jobs(source)):
                run = self._run_in_a_place if source.follows_refreshes else self._run
                self._tasks[source.name] = asyncio.create_task(run(source.name, jobs))

    async def finish(self) -> None:
        """Do all due jobs, also those that follow refreshes, and wait until all are done or hang."""
        self._start(self._driver.sources)
        if self._tasks:
            await asyncio.wait(self._tasks.values())

    def close(self) -> None:
        """Stop waiting."""
        for task in self._tasks.values():
            task.cancel()
        for job in self._jobs:
            job.cancel()

    def _list_jobs(self, source: Source) -> list[Job]:
        if not self._may_run(source.name, _LISTING):
            return []
        listed = attempt(source.list_jobs)
        self._note_outcome(source.name, _LISTING, listed)
        jobs = () if isinstance(listed, Failure) else listed.value
        return [job for job in jobs if self._may_run(source.name, job.key)]

    def _may_run(self, source: str, key: str) -> bool:
        failed = self._failed.get((source, key))
        is_paused = failed is not None and not failed.backoff.may_try(self._clock())
        return not is_paused and (source, key) not in self._hung

    async def _run_in_a_place(self, source: str, jobs: Sequence[Job]) -> None:
        await self._followed.take(Rank.ANSWERED)
        try:
            await self._run(source, jobs)
        finally:
            self._followed.give_back()

    async def _run(self, source: str, jobs: Sequence[Job]) -> None:
        for job in jobs:
            if sum(name == source for name, _key in self._hung) >= MAX_HUNG_JOBS:
                return
            future = attempt_in_thread(job.run, name=f"{source} {self.target}")
            self._jobs.add(future)
            future.add_done_callback(partial(self._note_done, source, job))
            done, _ = await asyncio.wait({future}, timeout=job.timeout if job.may_hang else None)
            if not done:
                self._hung[source, job.key] = future

    def _note_done(self, source: str, job: Job, future: asyncio.Future[Success[None] | Failure]) -> None:
        self._jobs.discard(future)
        if future.cancelled():
            return
        outcome = future.result()
        self._note_outcome(source, job.key, outcome)
        if job.ends_cache and not isinstance(outcome, Failure):
            self.jobs_done += 1

    def _note_outcome(self, source: str, key: str, outcome: Success[Any] | Failure) -> None:
        last = self._failed.pop((source, key), None)
        if not isinstance(outcome, Failure):
            return
        now = self._clock()
        backoff = Backoff(first=RETRY_SECONDS, maximum=MAX_RETRY_SECONDS) if last is None else last.backoff
        backoff.fail(now)
        self._failed[source, key] = _FailedJob(
            error=outcome.error, failed_at=now, times=1 if last is None else last.times + 1, backoff=backoff
        )
        if last is None and not isinstance(outcome.error, HypervisorError):
            extra = {"target": self.target, "job": f"{source}: {key}"}
            log.error("a defect of this program", exc_info=outcome.error, extra=extra)


def _is_left_to_refresh(job: _FailedJob) -> bool:
    """Whether the next refresh will get the same error and report it.

    Without a connection a refresh fails, and after that no job runs. So a job that finds none a second time
    is the only one that has this error.
    """
    return job.times == 1 and isinstance(job.error, ConnectError | ConnectionLostError)

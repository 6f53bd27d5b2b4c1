"""Maintenance: reads of a hypervisor between scrapes, so that scrapes need not wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from exporter.attempt import Failure, Success, attempt_in_thread
from exporter.compute.driver import Driver
from exporter.compute.source import Job, Source

# The number of jobs of one source that may hang at once, each in its own thread.
MAX_HUNG_JOBS = 2


class Maintenance:
    """Runs the jobs of one driver's sources: one at a time for each source, in parallel for different ones.

    If a job fails, the next refresh gets the same error and reports it. A job that hangs is not started
    again.

    :ivar jobs_done: how many have ended
    """

    def __init__(self, driver: Driver, *, target: str) -> None:
        self._driver = driver
        self._target = target
        self.jobs_done = 0
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._jobs: set[asyncio.Future[Success[None] | Failure]] = set()
        self._hung: dict[tuple[str, str], asyncio.Future[Success[None] | Failure]] = {}

    @property
    def hung(self) -> int:
        """How many jobs are past their timeout."""
        return sum(not job.done() for job in self._hung.values())

    def start(self) -> None:
        """Start the due jobs of each source without running jobs."""
        self._hung = {key: job for key, job in self._hung.items() if not job.done()}
        self._tasks = {name: task for name, task in self._tasks.items() if not task.done()}
        for source in self._driver.sources:
            if source.name not in self._tasks and (jobs := self._list_jobs(source)):
                self._tasks[source.name] = asyncio.create_task(self._run(source.name, jobs))

    async def finish(self) -> None:
        """Do all due jobs, and wait until all are done or hang."""
        self.start()
        if self._tasks:
            await asyncio.wait(self._tasks.values())

    def close(self) -> None:
        """Stop waiting."""
        for task in self._tasks.values():
            task.cancel()
        for job in self._jobs:
            job.cancel()

    def _list_jobs(self, source: Source) -> list[Job]:
        return [job for job in source.list_jobs() if (source.name, job.key) not in self._hung]

    async def _run(self, source: str, jobs: Sequence[Job]) -> None:
        for job in jobs:
            if sum(name == source for name, _key in self._hung) >= MAX_HUNG_JOBS:
                return
            future = attempt_in_thread(job.run, name=f"{source} {self._target}")
            self._jobs.add(future)
            future.add_done_callback(self._note_done)
            done, _ = await asyncio.wait({future}, timeout=job.timeout if job.may_hang else None)
            if not done:
                self._hung[source, job.key] = future

    def _note_done(self, job: asyncio.Future[Success[None] | Failure]) -> None:
        self._jobs.discard(job)
        self.jobs_done += 1

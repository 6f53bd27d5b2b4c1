"""What is read between scrapes: the jobs of one source one after the other, whatever hangs."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Collection, Sequence
from functools import partial

import pytest

from exporter.compute.maintenance import (
    FORGET_SECONDS,
    MAX_HUNG_JOBS,
    MAX_RETRY_SECONDS,
    RETRY_SECONDS,
    Maintenance,
)
from exporter.compute.places import Places
from exporter.compute.source import Job, Source
from exporter.errors import ConnectError, ConnectionLostError, DeniedError, UnsupportedError
from exporter.model import Severity
from tests.support.hosts import Clock
from tests.support.waiting import wait_until


class Guests(Source):
    """Reads guests, one after the other; some hang until they are let go."""

    name = "guests"

    def __init__(self, *keys: str, hanging: Collection[str] = (), timeout: float = 20) -> None:
        self.begun: list[str] = []
        self.thawed = threading.Event()
        self._keys = keys
        self._hanging = hanging
        self._timeout = timeout

    def list_jobs(self) -> Sequence[Job]:
        return [
            Job(
                key=key,
                run=partial(self._read, key),
                timeout=self._timeout,
                may_hang=key in self._hanging,
            )
            for key in self._keys
        ]

    def _read(self, key: str) -> None:
        self.begun.append(key)
        if key in self._hanging:
            self.thawed.wait(20)


class Others(Guests):
    """Another source beside it."""

    name = "others"


class Driver:
    """Has such sources."""

    def __init__(self, *sources: Source) -> None:
        self.sources = sources


async def test_what_hangs_is_not_begun_again_and_holds_up_no_other_source() -> None:
    hung, well = Guests("a", hanging=["a"]), Others("b")
    maintenance = Maintenance(Driver(hung, well), target="kvm01", clock=time.monotonic)
    while len(well.begun) < 3:
        maintenance.start()
        await asyncio.sleep(0.01)
    assert hung.begun == ["a"]
    hung.thawed.set()
    await maintenance.finish()


async def test_what_takes_longer_than_its_timeout_is_counted_as_hung_until_it_ends() -> None:
    source = Guests("a", "b", hanging=["a"], timeout=0.05)
    maintenance = Maintenance(Driver(source), target="kvm01", clock=time.monotonic)
    for _ in range(2):
        await maintenance.finish()
        assert maintenance.hung == 1
    assert source.begun == ["a", "b", "b"], "the next job begins beside it, and again when it is due"
    assert maintenance.jobs_done == 2
    source.thawed.set()
    await asyncio.to_thread(wait_until, lambda: maintenance.hung == 0, "the job to end")
    await maintenance.finish()
    assert source.begun[3:] == ["a", "b"]
    maintenance.close()


async def test_a_job_that_does_not_end_the_cache_is_not_counted() -> None:
    class Quiet(Source):
        name = "quiet"
        runs = 0

        def list_jobs(self) -> Sequence[Job]:
            return [Job(key="a", run=self._run, ends_cache=False)]

        def _run(self) -> None:
            self.runs += 1

    quiet = Quiet()
    maintenance = Maintenance(Driver(quiet), target="kvm01", clock=time.monotonic)
    await maintenance.finish()
    assert (quiet.runs, maintenance.jobs_done) == (1, 0)


async def test_only_sources_whose_jobs_follow_refreshes_are_started_then() -> None:
    class Follower(Guests):
        name = "follower"
        follows_refreshes = True

    other, follower = Guests("a"), Follower("b")
    maintenance = Maintenance(Driver(other, follower), target="kvm01", clock=time.monotonic)
    maintenance.start_followers()
    await asyncio.to_thread(wait_until, lambda: follower.begun == ["b"], "the job to begin")
    assert other.begun == []
    maintenance.close()


async def test_jobs_that_follow_refreshes_begin_at_no_other_time_but_at_the_start_with_all_others() -> None:
    """Shows that none begins while a scrape is written, whenever the next second begins."""

    class Follower(Guests):
        name = "follower"
        follows_refreshes = True

    other, follower = Guests("a"), Follower("b")
    maintenance = Maintenance(Driver(follower, other), target="kvm01", clock=time.monotonic)
    maintenance.start()
    await asyncio.to_thread(wait_until, lambda: other.begun == ["a"], "the job to begin")
    await asyncio.sleep(0)
    assert follower.begun == []
    await maintenance.finish()
    assert follower.begun == ["b"]


async def test_jobs_that_follow_refreshes_are_done_at_so_many_hypervisors_at_once_as_there_are_places() -> (
    None
):
    """Shows that a fleet does not start two threads for each of its hypervisors after a scrape."""

    class Follower(Guests):
        name = "follower"
        follows_refreshes = True

    first, second, places = Follower("a", hanging=["a"]), Follower("b"), Places(1)
    several = [
        Maintenance(Driver(each), target="kvm01", clock=time.monotonic, followed=places)
        for each in (first, second)
    ]
    for maintenance in several:
        maintenance.start_followers()
    await asyncio.to_thread(wait_until, lambda: first.begun == ["a"], "the job to begin")
    await asyncio.sleep(0.05)
    assert second.begun == []
    first.thawed.set()
    await asyncio.to_thread(wait_until, lambda: second.begun == ["b"], "the job to begin")
    for maintenance in several:
        await maintenance.finish()


async def test_few_jobs_of_a_source_may_hang_at_once() -> None:
    keys = list("abcde")
    source = Guests(*keys, hanging=keys, timeout=0.02)
    maintenance = Maintenance(Driver(source), target="kvm01", clock=time.monotonic)
    for _ in range(3):
        await maintenance.finish()
    assert source.begun == keys[:MAX_HUNG_JOBS]
    source.thawed.set()
    maintenance.close()


async def test_a_job_that_cannot_hang_is_waited_for_however_long_it_takes() -> None:
    source = Guests("a", "b", timeout=0)
    maintenance = Maintenance(Driver(source), target="kvm01", clock=time.monotonic)
    await maintenance.finish()
    assert (source.begun, maintenance.hung, maintenance.jobs_done) == (["a", "b"], 0, 2)


async def test_what_is_not_due_is_not_read() -> None:
    maintenance = Maintenance(Driver(Guests()), target="kvm01", clock=time.monotonic)
    maintenance.start()
    await maintenance.finish()
    assert maintenance.jobs_done == 0


async def test_to_finish_is_to_wait_for_all_that_is_due() -> None:
    source = Guests("a", "b", hanging=["a"])
    asyncio.get_running_loop().call_later(0.2, source.thawed.set)
    await Maintenance(Driver(source), target="kvm01", clock=time.monotonic).finish()
    assert source.thawed.is_set()
    assert source.begun == ["a", "b"]


class Failing(Source):
    """Its job is always due, and raises `error` if there is one."""

    name = "networks"

    def __init__(self, error: Exception | None) -> None:
        self.error = error
        self.listing_error: Exception | None = None
        self.runs = 0

    def list_jobs(self) -> Sequence[Job]:
        if self.listing_error is not None:
            raise self.listing_error
        return [Job(key="count", run=self._run)]

    def _run(self) -> None:
        self.runs += 1
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize("error", [DeniedError("no"), ConnectError("no"), TypeError("no")])
async def test_a_job_that_fails_runs_again_after_pauses_that_grow_to_a_bound(error: Exception) -> None:
    """Each pause is at least half of what it may be. A success makes the next one short again."""
    clock, source = Clock(), Failing(error)
    maintenance = Maintenance(Driver(source), target="kvm01", clock=clock)
    pauses = []
    for runs in range(1, 9):
        failed_at = clock.now
        while source.runs < runs:
            clock.now += 0.5
            await maintenance.finish()
        pauses.append(clock.now - failed_at)
    for number, pause in enumerate(pauses[1:]):
        longest = min(MAX_RETRY_SECONDS, RETRY_SECONDS * 2**number)
        assert longest / 2 <= pause <= longest + 0.5
    assert maintenance.jobs_done == 0, "a job that failed has read nothing"
    source.error = None
    clock.now += MAX_RETRY_SECONDS
    await maintenance.finish()
    await maintenance.finish()
    assert (source.runs, maintenance.jobs_done) == (10, 2)
    source.error = error
    await maintenance.finish()
    clock.now += RETRY_SECONDS
    await maintenance.finish()
    assert source.runs == 12


@pytest.mark.parametrize(
    ("error", "reason", "message"),
    [
        (UnsupportedError("no support", advice="Wait"), "unsupported", "networks cannot be read: no support"),
        (DeniedError("polkit"), "denied", "networks cannot be read: polkit"),
        (KeyError("user"), "internal", "networks cannot be read: unexpected KeyError: 'user'"),
    ],
)
async def test_a_source_whose_job_fails_is_a_problem_until_it_does_not_fail(
    error: Exception, reason: str, message: str
) -> None:
    clock, source = Clock(), Failing(error)
    maintenance = Maintenance(Driver(source, Others("b")), target="kvm01", clock=clock)
    await maintenance.finish()
    (problem,) = maintenance.get_problems()
    assert (problem.severity, problem.subject, problem.reason) == (Severity.ERROR, "networks", reason)
    assert problem.message == message
    assert problem.advice == getattr(error, "advice", "")
    source.error = None
    await maintenance.finish()
    assert maintenance.get_problems() == (problem,), "it was not tried again yet"
    clock.now += MAX_RETRY_SECONDS
    await maintenance.finish()
    assert maintenance.get_problems() == ()


async def test_a_defect_is_one_traceback_in_the_log_until_the_job_works_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, source = Clock(), Failing(ZeroDivisionError("x"))
    maintenance = Maintenance(Driver(source), target="kvm01", clock=clock)
    for error, records in ((source.error, 1), (source.error, 1), (None, 1), (ValueError("y"), 2)):
        source.error = error
        await maintenance.finish()
        clock.now += MAX_RETRY_SECONDS
        assert len(caplog.records) == records
    first = caplog.records[0]
    assert first.levelno == logging.ERROR
    assert first.exc_info is not None
    assert (first.__dict__["target"], first.__dict__["job"]) == ("kvm01", "networks: count")


@pytest.mark.parametrize("error", [ConnectError("refused"), ConnectionLostError("closed")])
async def test_a_lost_connection_is_left_to_the_refresh_once(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """The refresh gets the same error. After one that did not, the job runs again: then it is its own."""
    clock, source = Clock(), Failing(error)
    maintenance = Maintenance(Driver(source), target="kvm01", clock=clock)
    await maintenance.finish()
    assert maintenance.get_problems() == ()
    clock.now += MAX_RETRY_SECONDS
    await maintenance.finish()
    assert [problem.subject for problem in maintenance.get_problems()] == ["networks"]
    assert caplog.records == []


async def test_a_source_that_cannot_list_its_jobs_is_a_problem_and_costs_no_other_source() -> None:
    clock, source, others = Clock(), Failing(None), Others("b")
    source.listing_error = AttributeError("x")
    maintenance = Maintenance(Driver(source, others), target="kvm01", clock=clock)
    await maintenance.finish()
    assert others.begun == ["b"]
    assert [problem.reason for problem in maintenance.get_problems()] == ["internal"]
    source.listing_error = None
    await maintenance.finish()
    assert source.runs == 0, "it is asked again after a pause, too"
    clock.now += MAX_RETRY_SECONDS
    await maintenance.finish()
    assert (source.runs, maintenance.get_problems()) == (1, ())


async def test_a_failed_job_that_is_never_due_again_is_forgotten() -> None:
    clock, source = Clock(), Failing(DeniedError("no"))
    driver = Driver(source)
    maintenance = Maintenance(driver, target="kvm01", clock=clock)
    await maintenance.finish()
    driver.sources = (Guests(),)
    assert maintenance.get_problems() == (), "the source is not needed any more"
    driver.sources = (source,)
    source.list_jobs = lambda: ()  # type: ignore[method-assign]
    clock.now += FORGET_SECONDS - 1
    maintenance.start()
    assert len(maintenance.get_problems()) == 1
    clock.now += 1
    maintenance.start()
    assert maintenance.get_problems() == ()

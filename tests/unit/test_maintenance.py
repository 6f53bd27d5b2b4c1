"""What is read between scrapes: the jobs of one source one after the other, whatever hangs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection, Sequence
from functools import partial

from exporter.compute.maintenance import MAX_HUNG_JOBS, Maintenance
from exporter.compute.source import Job, Source
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
    maintenance = Maintenance(Driver(hung, well), target="kvm01")
    while len(well.begun) < 3:
        maintenance.start()
        await asyncio.sleep(0.01)
    assert hung.begun == ["a"]
    hung.thawed.set()
    await maintenance.finish()


async def test_what_takes_longer_than_its_timeout_is_counted_as_hung_until_it_ends() -> None:
    source = Guests("a", "b", hanging=["a"], timeout=0.05)
    maintenance = Maintenance(Driver(source), target="kvm01")
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


async def test_few_jobs_of_a_source_may_hang_at_once() -> None:
    keys = list("abcde")
    source = Guests(*keys, hanging=keys, timeout=0.02)
    maintenance = Maintenance(Driver(source), target="kvm01")
    for _ in range(3):
        await maintenance.finish()
    assert source.begun == keys[:MAX_HUNG_JOBS]
    source.thawed.set()
    maintenance.close()


async def test_a_job_that_cannot_hang_is_waited_for_however_long_it_takes() -> None:
    source = Guests("a", "b", timeout=0)
    maintenance = Maintenance(Driver(source), target="kvm01")
    await maintenance.finish()
    assert (source.begun, maintenance.hung, maintenance.jobs_done) == (["a", "b"], 0, 2)


async def test_what_is_not_due_is_not_read() -> None:
    maintenance = Maintenance(Driver(Guests()), target="kvm01")
    maintenance.start()
    await maintenance.finish()
    assert maintenance.jobs_done == 0


async def test_to_finish_is_to_wait_for_all_that_is_due() -> None:
    source = Guests("a", "b", hanging=["a"])
    asyncio.get_running_loop().call_later(0.2, source.thawed.set)
    await Maintenance(Driver(source), target="kvm01").finish()
    assert source.thawed.is_set()
    assert source.begun == ["a", "b"]

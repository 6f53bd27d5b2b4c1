"""Reloads: swapped as a whole or not at all, one after the other."""

from __future__ import annotations

import asyncio
import gc
import logging
import queue
import threading
import time

import pytest

from exporter.config.settings import Config
from exporter.errors import ConfigError, UnreadConfigError
from exporter.own import OwnMetrics
from exporter.reload import MAX_HUNG_READS, PAUSE_SECONDS, Loaded, Reloader
from exporter.web.access import AccessSettings
from tests.support.hosts import Clock


class Files:
    """The configuration on disk: what loading it answers next, in turn."""

    def __init__(self, *answers: Loaded | Exception) -> None:
        self.answers = list(answers)
        self.first_is_slow = threading.Event()
        self.first_is_slow.set()
        self.loads = 0

    def load(self) -> Loaded:
        self.loads += 1
        answer = self.answers.pop(0)
        if self.loads == 1:
            self.first_is_slow.wait(20)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Bench:
    """A Reloader that puts what it loads into a list."""

    def __init__(self, *answers: Loaded | Exception) -> None:
        self.files, self.clock, self.own = Files(*answers), Clock(), OwnMetrics()
        self.applied: list[Loaded] = []
        self.reloader = Reloader(self.files.load, self.applied.append, self.own, wall_clock=self.clock)

    def reload(self) -> list[str]:
        async def reload() -> list[str]:
            return await self.reloader.reload()

        return asyncio.run(reload())

    def get(self, name: str) -> float:
        full = f"hypervisor_exporter_config_last_reload_{name}"
        samples = (sample for family in self.own.collect() for sample in family.samples)
        return next(value for name, _labels, value in samples if name == full)


def make_loaded(cache_ttl: float) -> Loaded:
    return Loaded(config=Config(cache_ttl=cache_ttl), access=AccessSettings())


def test_a_good_file_is_put_in_force() -> None:
    bench = Bench(make_loaded(1))
    assert bench.reload() == []
    assert bench.applied == [make_loaded(1)]
    assert (bench.get("successful"), bench.get("success_timestamp_seconds")) == (1, 1000)


def test_a_bad_file_changes_nothing_and_its_mistakes_are_said(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(make_loaded(1), ConfigError(["a.yaml:1: first", "a.yaml:2: second"]), make_loaded(2))
    bench.reload()
    bench.clock.now += 60
    assert bench.reload() == ["a.yaml:1: first", "a.yaml:2: second"]
    assert bench.applied == [make_loaded(1)]
    assert (bench.get("successful"), bench.get("success_timestamp_seconds")) == (0, 1000)
    assert [vars(record)["mistake"] for record in caplog.records] == ["a.yaml:1: first", "a.yaml:2: second"]
    bench.reload()
    assert (bench.get("successful"), bench.get("success_timestamp_seconds")) == (1, 1060)


def test_what_nobody_thought_of_keeps_the_old_one_too() -> None:
    bench = Bench(RecursionError("too deep"))
    assert bench.reload() == ["unexpected: RecursionError('too deep')"]
    assert bench.applied == []
    assert bench.get("successful") == 0


def test_whoever_asks_during_a_reload_shares_the_next_one() -> None:
    """Shows that on a slow disk the newest file wins, and that reloads do not queue up."""

    async def reload_often() -> None:
        bench.files.first_is_slow.clear()
        first = bench.reloader.reload()
        await asyncio.sleep(0.05)
        others = {bench.reloader.reload() for _ in range(100)}
        assert len(others) == 1
        assert not first.done()
        bench.files.first_is_slow.set()
        await asyncio.wait_for(asyncio.gather(first, *others), timeout=20)

    bench = Bench(make_loaded(1), make_loaded(2))
    asyncio.run(reload_often())
    assert bench.applied == [make_loaded(1), make_loaded(2)]


def test_two_reloads_begin_a_second_apart() -> None:
    async def reload_twice() -> float:
        started = time.monotonic()
        await bench.reloader.reload()
        await bench.reloader.reload()
        return time.monotonic() - started

    bench = Bench(make_loaded(1), make_loaded(2))
    assert asyncio.run(reload_twice()) >= PAUSE_SECONDS


class Disk:
    """A disk that may hang: each load waits until it is let go, in any order."""

    def __init__(self) -> None:
        self.answers: list[queue.SimpleQueue[Loaded | Exception]] = []

    def load(self) -> Loaded:
        answer: queue.SimpleQueue[Loaded | Exception] = queue.SimpleQueue()
        self.answers.append(answer)
        loaded = answer.get(timeout=20)
        if isinstance(loaded, Exception):
            raise loaded
        return loaded


class HangingBench(Bench):
    """A Reloader of a disk that hangs. It waits a moment for each read."""

    def __init__(self) -> None:
        super().__init__()
        self.disk = Disk()
        self.reloader = Reloader(
            self.disk.load, self.applied.append, self.own, wall_clock=self.clock, read_timeout=0.05
        )

    async def refuse(self) -> str:
        """Return why a reload is refused."""
        with pytest.raises(UnreadConfigError) as caught:
            await asyncio.wait_for(self.reloader.reload(), timeout=20)
        return str(caught.value)

    async def begin(self, read: int) -> None:
        """Wait until a read has begun: on a busy machine its thread starts late."""
        while len(self.disk.answers) <= read:
            await asyncio.sleep(0.01)

    async def end(self, read: int, answer: Loaded | Exception) -> None:
        """Let a read that hung end."""
        hung = self.reloader.hung_reads
        await self.begin(read)
        self.disk.answers[read].put(answer)
        while self.reloader.hung_reads == hung:
            await asyncio.sleep(0.01)


SINCE = "1970-01-01T00:16:40Z"  # Clock's 1000
UNREAD = "configuration not reloaded, the old one stays in use: "


async def test_a_read_that_hangs_is_logged_once_and_used_when_it_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    bench = HangingBench()
    bench.own.record_load(now=900)
    said = await bench.refuse()
    assert said == f"{UNREAD}it is still being read since {SINCE}"
    assert [(each.levelname, each.getMessage()) for each in caplog.records] == [("ERROR", said)]
    assert (bench.get("successful"), bench.get("success_timestamp_seconds")) == (0, 900)
    await bench.end(0, make_loaded(1))
    assert bench.applied == [make_loaded(1)]
    assert (bench.get("successful"), bench.get("success_timestamp_seconds")) == (1, 1000)
    assert caplog.records[1].getMessage() == "configuration reloaded"


async def test_mistakes_that_a_read_finds_too_late_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    bench = HangingBench()
    await bench.refuse()
    await bench.end(0, ConfigError(["a.yaml:1: first"]))
    assert vars(caplog.records[-1])["mistake"] == "a.yaml:1: first"
    assert (bench.applied, bench.get("successful")) == ([], 0)


async def test_a_reload_beside_a_read_that_hangs_is_used_and_the_older_one_ignored(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    bench = HangingBench()
    await bench.refuse()
    await bench.begin(0)
    second = bench.reloader.reload()
    await bench.begin(1)
    bench.disk.answers[1].put(make_loaded(2))
    assert await asyncio.wait_for(second, timeout=20) == []
    assert bench.get("successful") == 1
    await bench.end(0, make_loaded(1))
    assert bench.applied == [make_loaded(2)]
    assert bench.get("successful") == 1
    assert caplog.records[-1].getMessage() == "configuration read too late, a newer read has begun"
    assert vars(caplog.records[-1])["since"] == SINCE


async def test_at_most_two_reads_hang_and_the_next_reload_is_refused_until_one_ends() -> None:
    bench = HangingBench()
    await bench.refuse()
    bench.clock.now += 60
    await bench.refuse()
    for _ in range(2):
        assert await bench.refuse() == f"{UNREAD}it is being read 2 times, the first since {SINCE}"
    assert len(bench.disk.answers) == MAX_HUNG_READS == 2
    await bench.end(0, make_loaded(1))
    assert bench.applied == []
    await bench.refuse()
    assert len(bench.disk.answers) == 3
    for answer in bench.disk.answers[1:]:
        answer.put(make_loaded(2))


async def test_a_hang_that_nobody_waits_for_is_no_error_of_asyncio(caplog: pytest.LogCaptureFixture) -> None:
    """SIGHUP: its future is dropped. Asyncio would log it with a traceback."""
    bench = HangingBench()
    bench.reloader.reload()
    while not caplog.records:
        await asyncio.sleep(0.01)
    await bench.end(0, make_loaded(1))
    gc.collect()
    assert [record.name for record in caplog.records] == ["exporter.reload"]

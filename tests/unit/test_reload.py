"""Reloads: swapped as a whole or not at all, one after the other."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from exporter.config.settings import Config
from exporter.errors import ConfigError
from exporter.own import OwnMetrics
from exporter.reload import PAUSE_SECONDS, Loaded, Reloader
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

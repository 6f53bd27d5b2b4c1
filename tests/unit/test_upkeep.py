"""What is done between scrapes: guests read again, images sized, and nothing that waits for a frozen one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Mapping

from exporter.compute.upkeep import MAX_FROZEN_GUESTS, Upkeep
from exporter.errors import ConnectionLostError


class Driver:
    """Has guests to size, of which some are frozen."""

    def __init__(self, *guests: str, frozen: Collection[str] = ()) -> None:
        self.guests = list(guests)
        self.frozen = set(frozen)
        self.sized: list[str] = []
        self.asked: list[str] = []
        self.resyncs = 0
        self.is_due = False
        self.is_lost = False
        self.thawed = threading.Event()

    def needs_resync(self) -> bool:
        return self.is_due

    def resync(self) -> None:
        self.resyncs += 1
        self.thawed.wait(20)

    def next_guest_to_size(self, leave_out: set[str]) -> str | None:
        return next((each for each in self.guests if each not in (*leave_out, *self.sized)), None)

    def size_guest(self, uuid: str) -> None:
        self.asked.append(uuid)
        if self.is_lost:
            raise ConnectionLostError("closed")
        if uuid in self.frozen:
            self.thawed.wait(20)
        self.sized.append(uuid)

    def list_due(self) -> Mapping[str, Callable[[], None]]:
        return {}


def make_upkeep(driver: Driver, *, patience: float = 20.0) -> Upkeep:
    return Upkeep(driver, target="kvm01", size_guest_timeout=patience)


def test_every_guest_is_sized_one_after_the_other() -> None:
    driver = Driver("a", "b", "c")
    asyncio.run(make_upkeep(driver).run())
    assert driver.sized == ["a", "b", "c"]


def test_a_frozen_guest_is_left_alone_and_asked_no_second_time() -> None:
    """Shows that the others are sized all the same, and that the frozen one costs one thread."""

    async def run_thrice() -> None:
        driver = Driver("a", "frozen", "b", frozen={"frozen"})
        upkeep = make_upkeep(driver, patience=0.3)
        for _ in range(3):
            await upkeep.run()
        assert driver.sized == ["a", "b"]
        assert driver.asked.count("frozen") == 1
        assert upkeep.hung == 1
        driver.thawed.set()
        while upkeep.hung:
            await asyncio.sleep(0.01)
        assert driver.sized == ["a", "b", "frozen"]

    asyncio.run(asyncio.wait_for(run_thrice(), timeout=20))


def test_too_many_frozen_guests_are_not_all_asked() -> None:
    """Shows that what libvirtd has workers for is left to others."""

    async def run() -> None:
        names = [f"frozen{number}" for number in range(6)]
        driver = Driver(*names, "well", frozen=names)
        upkeep = make_upkeep(driver, patience=0.1)
        for _ in range(3):
            await upkeep.run()
        assert upkeep.hung == len(driver.asked) == MAX_FROZEN_GUESTS
        driver.thawed.set()
        while upkeep.hung:
            await asyncio.sleep(0.01)
        await upkeep.run()
        assert set(driver.sized) == {*names, "well"}

    asyncio.run(asyncio.wait_for(run(), timeout=20))


def test_a_lost_connection_ends_the_round() -> None:
    driver = Driver("a", "b")
    driver.is_lost = True
    asyncio.run(make_upkeep(driver).run())
    assert driver.asked == ["a"]


def test_guests_are_read_again_when_they_are_due_and_by_one_thread_only() -> None:
    async def run() -> None:
        driver = Driver()
        upkeep = make_upkeep(driver)
        await upkeep.run()
        assert driver.resyncs == 0
        driver.is_due = True
        for _ in range(3):
            await upkeep.run()
        driver.thawed.set()
        assert driver.resyncs == 1

    asyncio.run(run())

"""What is read between scrapes: each by one thread only, whatever hangs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping

from exporter.compute.upkeep import Upkeep


class Driver:
    """Has two things to read, of which one hangs until it is let go."""

    def __init__(self) -> None:
        self.read: list[str] = []
        self.is_due = True
        self.thawed = threading.Event()

    def list_due(self) -> Mapping[str, Callable[[], None]]:
        return {"guests": self._read_guests, "node devices": self._hang} if self.is_due else {}

    def _read_guests(self) -> None:
        self.read.append("guests")

    def _hang(self) -> None:
        self.read.append("node devices")
        self.thawed.wait(20)


async def test_what_hangs_is_not_begun_again_and_holds_up_nothing_else() -> None:
    driver = Driver()
    upkeep = Upkeep(driver, target="kvm01")
    while driver.read.count("guests") < 3 or "node devices" not in driver.read:
        upkeep.start()
        await asyncio.sleep(0.01)
    assert driver.read.count("node devices") == 1
    driver.thawed.set()
    await upkeep.finish()
    assert driver.read.count("node devices") <= 2


async def test_what_is_not_due_is_not_read() -> None:
    driver = Driver()
    driver.is_due = False
    upkeep = Upkeep(driver, target="kvm01")
    upkeep.start()
    await upkeep.finish()
    assert driver.read == []


async def test_to_finish_is_to_wait_for_all_that_is_due() -> None:
    driver = Driver()
    upkeep = Upkeep(driver, target="kvm01")
    asyncio.get_running_loop().call_later(0.2, driver.thawed.set)
    await upkeep.finish()
    assert driver.thawed.is_set()
    assert sorted(driver.read) == ["guests", "node devices"]

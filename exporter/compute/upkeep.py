"""Upkeep: what is read of a hypervisor between scrapes, so that scrapes find it read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from exporter.attempt import Failure, Success, attempt_in_thread


class Driver(Protocol):
    """What upkeep asks of a driver: exporter.virt.driver.LibvirtDriver."""

    def list_due(self) -> Mapping[str, Callable[[], None]]:
        """Return what is to be read now, by what it is called; each may block for ever."""


class Upkeep:
    """Keeps fresh what one driver keeps. A failure is left to the next refresh to meet and tell.

    :ivar reads_done: how many reads have ended
    """

    def __init__(self, driver: Driver, *, target: str) -> None:
        self._driver = driver
        self._target = target
        self.reads_done = 0
        self._reads: dict[str, asyncio.Future[Success[None] | Failure]] = {}

    def start(self) -> None:
        """Start what is due, each in a thread of its own, unless that is still under way."""
        self._reads = {name: future for name, future in self._reads.items() if not future.done()}
        for name, read in self._driver.list_due().items():
            if name not in self._reads:
                self._reads[name] = attempt_in_thread(read, name=f"{name} {self._target}")
                self._reads[name].add_done_callback(self._note_done)

    async def finish(self) -> None:
        """Do what is due, and wait until all of it is done."""
        self.start()
        if self._reads:
            await asyncio.wait(self._reads.values())

    def close(self) -> None:
        """Wait for nothing any more."""
        for future in self._reads.values():
            future.cancel()

    def _note_done(self, _read: asyncio.Future[Success[None] | Failure]) -> None:
        self.reads_done += 1

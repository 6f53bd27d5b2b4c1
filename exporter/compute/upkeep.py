"""Upkeep: what is done for a hypervisor between scrapes, so that scrapes find it done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

from exporter.attempt import Failure, Success, attempt_in_thread

SIZE_GUEST_TIMEOUT_SECONDS = 5.0
MAX_FROZEN_GUESTS = 2  # asked at once: each keeps a thread here, and one of libvirtd's 20


class Driver(Protocol):
    """What upkeep asks of a driver: exporter.virt.driver.LibvirtDriver."""

    def needs_resync(self) -> bool:
        """Whether a guest's XML is to be read again."""

    def resync(self) -> None:
        """Read the XML of such guests again; may block for ever."""

    def next_guest_to_size(self, leave_out: set[str]) -> str | None:
        """Return the UUID of a guest whose images are to be sized by libvirt."""

    def size_guest(self, uuid: str) -> None:
        """Have libvirt size a guest's images; may block for ever."""

    def list_due(self) -> Mapping[str, Callable[[], None]]:
        """Return what else is to be read, by what it is called; each may block for ever."""


class Upkeep:
    """Keeps fresh what one driver keeps. A failure is left to the next refresh to meet and tell.

    :param size_guest_timeout: seconds after which the next guest is sized
    """

    def __init__(
        self, driver: Driver, *, target: str, size_guest_timeout: float = SIZE_GUEST_TIMEOUT_SECONDS
    ) -> None:
        self._size_guest_timeout = size_guest_timeout
        self._driver = driver
        self._target = target
        self._resync: asyncio.Future[Success[None] | Failure] | None = None
        self._frozen: dict[str, asyncio.Future[Success[None] | Failure]] = {}
        self._reads: dict[str, asyncio.Future[Success[None] | Failure]] = {}

    @property
    def hung(self) -> int:
        """How many guests' images libvirt was asked for in vain so far."""
        return sum(not sizing.done() for sizing in self._frozen.values())

    async def run(self) -> None:
        """Do what is due."""
        self._start_resync()
        self._start_reads()
        await self._size_guests()

    async def finish(self) -> None:
        """Do what is due, and wait until all of it is done."""
        await self.run()
        if self._reads:
            await asyncio.wait(self._reads.values())

    def _start_reads(self) -> None:
        """Start what is due, each in a thread of its own, unless that is still under way."""
        self._reads = {name: future for name, future in self._reads.items() if not future.done()}
        for name, read in self._driver.list_due().items():
            if name not in self._reads:
                self._reads[name] = attempt_in_thread(read, name=f"{name} {self._target}")

    def _start_resync(self) -> None:
        is_running = self._resync is not None and not self._resync.done()
        if not is_running and self._driver.needs_resync():
            self._resync = attempt_in_thread(self._driver.resync, name=f"resync {self._target}")

    async def _size_guests(self) -> None:
        """Have the guests' images sized, one guest at a time; go on to the next when one does not answer."""
        self._frozen = {uuid: future for uuid, future in self._frozen.items() if not future.done()}
        while len(self._frozen) < MAX_FROZEN_GUESTS:
            uuid = self._driver.next_guest_to_size(set(self._frozen))
            if uuid is None:
                return
            sizing = attempt_in_thread(partial(self._driver.size_guest, uuid), name=f"size {self._target}")
            done, _ = await asyncio.wait({sizing}, timeout=self._size_guest_timeout)
            if not done:
                self._frozen[uuid] = sizing
            elif isinstance(sizing.result(), Failure):
                return

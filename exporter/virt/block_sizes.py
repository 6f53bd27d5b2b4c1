"""Sizes of images that the exporter cannot read itself, as libvirt tells them.

An unprivileged exporter may not open its host's images, and a remote hypervisor's are not there at all.
libvirt can tell (virDomainGetBlockInfo), but for that it takes the guest's job lock and asks its monitor: the
answer takes 3 ms, or for ever while the guest is frozen. So it is asked between scrapes, one guest at a time,
over a connection of its own, and scrapes take what is known.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from exporter.errors import ConnectionLostError, HypervisorError
from exporter.model import Disk, ImageSize, UnsizedImage


class BlockHypervisor(Protocol):
    """A connection to the hypervisor, for nothing but this."""

    calls: int

    def another(self) -> BlockHypervisor:
        """Return another one to the same hypervisor."""

    def connect(self) -> bool:
        """Open the connection unless it is open; may block for ever."""

    def close(self) -> None:
        """Close it."""

    def get_block_size(self, uuid: str, target: str) -> ImageSize:
        """Return the size of a domain's disk; may block for ever."""


@dataclass(frozen=True, slots=True)
class _Known:
    size: ImageSize | UnsizedImage
    read_at: float


class BlockSizes:
    """What libvirt said of the disks that scrapes want, by domain's UUID and disk.

    :param max_age: seconds after which a disk is asked for again
    :param clock: monotonic seconds
    """

    def __init__(self, hypervisor: BlockHypervisor, *, max_age: float, clock: Callable[[], float]) -> None:
        self._hypervisors = [hypervisor]
        self._idle = [hypervisor]  # one for each guest that is asked for at once, a frozen one keeps its own
        self._max_age = max_age
        self._clock = clock
        self._wanted: Mapping[str, Collection[Disk]] = {}
        self._known: dict[tuple[str, Disk], _Known] = {}

    @property
    def calls(self) -> int:
        """How many calls were made to libvirt."""
        return sum(hypervisor.calls for hypervisor in tuple(self._hypervisors))

    def configure(self, *, max_age: float) -> None:
        """Ask for a disk again after so many seconds from now on."""
        self._max_age = max_age

    def get(self, uuid: str, disk: Disk) -> ImageSize | UnsizedImage:
        """Return what is known of a disk; nothing, if another image has taken its target since."""
        known = self._known.get((uuid, disk))
        return UnsizedImage(None) if known is None else known.size

    def want(self, disks: Mapping[str, Collection[Disk]]) -> None:
        """Say which disks are to be known from now on; all others are forgotten.

        :param disks: each domain's, by its UUID
        """
        self._wanted = disks
        self._known = {
            (uuid, disk): known for (uuid, disk), known in self._known.items() if disk in disks.get(uuid, ())
        }

    def next_guest(self, leave_out: Collection[str]) -> str | None:
        """Return the UUID of a domain with a disk that is not known, or was read too long ago."""
        oldest = self._clock() - self._max_age
        for uuid, disks in self._wanted.items():
            if uuid not in leave_out and any(self._is_old(uuid, disk, oldest) for disk in disks):
                return uuid
        return None

    def size_guest(self, uuid: str) -> None:
        """Ask libvirt for all wanted disks of a domain. May block for ever.

        :raises HypervisorError: when the connection is lost
        """
        hypervisor = self._take_idle()
        try:
            hypervisor.connect()
            for disk in self._wanted.get(uuid, ()):
                size = _size(hypervisor, uuid, disk.target)
                # A dict of its own each time: `want` may be taking its pick of the old one right now.
                self._known = {**self._known, (uuid, disk): _Known(size, self._clock())}
        finally:
            self._idle.append(hypervisor)

    def close(self) -> None:
        """Close the connections; one that waits for a frozen guest comes last."""
        idle = tuple(self._idle)
        for hypervisor in (*idle, *(each for each in self._hypervisors if each not in idle)):
            hypervisor.close()

    def _take_idle(self) -> BlockHypervisor:
        if self._idle:
            return self._idle.pop()
        hypervisor = self._hypervisors[0].another()
        self._hypervisors.append(hypervisor)
        return hypervisor

    def _is_old(self, uuid: str, disk: Disk, oldest: float) -> bool:
        known = self._known.get((uuid, disk))
        return known is None or known.read_at < oldest


def _size(hypervisor: BlockHypervisor, uuid: str, target: str) -> ImageSize | UnsizedImage:
    try:
        return hypervisor.get_block_size(uuid, target)
    except ConnectionLostError:
        raise
    except HypervisorError as error:
        return UnsizedImage(f"disk {target}: {error}")

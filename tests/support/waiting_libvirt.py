"""libvirt as the calls see it that may wait: it answers what a test says, when a test says."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Literal, TypeVar

from exporter.errors import GoneError, HypervisorError, UnsupportedError
from exporter.model import DomainInfo, DomainRecord, ImageSize, StoragePool
from tests.support.holding import Hold

T = TypeVar("T")

UUID = "4c4c4544-0042-4810-8051-b4c04f4d3132"
_CAPABILITIES = f"""<capabilities><host><uuid>{UUID}</uuid>
  <cpu><arch>x86_64</arch></cpu></host></capabilities>"""


class WaitingLibvirt:
    """Answers over any number of connections, and counts what it is asked.

    What is held answers nothing until it is let go: a guest by its UUID, a call by its name ("list"), or one
    call about one guest ("XML " and its UUID).

    :ivar xml: each domain's XML, or what is raised instead
    :ivar asked: the calls, each with what it was about
    :ivar connections: those that were made
    """

    def __init__(self) -> None:
        self.domains: tuple[DomainRecord, ...] | Exception = ()
        self.xml: dict[str, str | Exception] = {}
        self.info: dict[str, DomainInfo | Exception] = {}
        self.volumes: dict[str, ImageSize | Exception] = {}
        self.blocks: dict[str, ImageSize | Exception] = {}
        self.pools: tuple[StoragePool, ...] | Exception = ()
        self.devices: tuple[str, ...] | Exception = ()
        self.busy: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        self.connections: list[WaitingConnection] = []
        self._held: dict[str, Hold] = {}

    def make_connection(self) -> WaitingConnection:
        self.connections.append(WaitingConnection(self))
        return self.connections[-1]

    def take_asked(self) -> list[tuple[str, str]]:
        """Return what was asked since the last call."""
        asked, self.asked = self.asked, []
        return asked

    @contextmanager
    def held(self, *what: str) -> Iterator[None]:
        """Let these guests or calls answer nothing before the block ends, and end all of them with it."""
        holds = {each: Hold() for each in what}
        self._held.update(holds)
        try:
            yield
        finally:
            for each, hold in holds.items():
                self._held.pop(each, None)
                hold.let_go()
            for hold in holds.values():
                hold.join()

    def let_go_of_newer(self, what: str) -> None:
        """Let later calls answer at once; those that are held already stay so."""
        self._held.pop(what)

    def answer(self, call: str, about: str, answer: T | Exception) -> T:
        self.asked.append((call, about))
        for what in (call, about, f"{call} {about}"):
            hold = self._held.get(what)
            if hold is not None:
                hold.enter()
        if isinstance(answer, Exception):
            raise answer
        return answer


class WaitingConnection:
    """One connection to it."""

    def __init__(self, libvirt: WaitingLibvirt) -> None:
        self.calls = 0
        self.hung_openings = 0
        self.is_open = False
        self._libvirt = libvirt

    def connect(self) -> bool:
        is_new, self.is_open = not self.is_open, True
        return is_new

    def close(self) -> None:
        self.is_open = False

    def get_capabilities_xml(self) -> str:
        return self._answer("capabilities", "", _CAPABILITIES)

    def expand_cpu_features(self, cpu_xml: str) -> str:
        raise UnsupportedError("no")

    def get_online_cpus(self) -> frozenset[int]:
        return self._answer("online CPUs", "", frozenset(range(8)))

    def list_domains(self) -> tuple[DomainRecord, ...]:
        return self._answer("list", "", self._libvirt.domains)

    def get_domain_xml(self, uuid: str) -> str:
        return self._answer("XML", uuid, self._libvirt.xml.get(uuid, GoneError("no domain")))

    def get_domain_info(self, uuid: str) -> DomainInfo:
        return self._answer("info", uuid, self._libvirt.info.get(uuid, HypervisorError("no info")))

    def is_guest_busy(self, uuid: str) -> bool:
        self._libvirt.asked.append(("busy", uuid))
        return uuid in self._libvirt.busy

    def get_volume_size(self, path: str) -> ImageSize:
        return self._answer("volume", path, self._libvirt.volumes.get(path, GoneError("no volume")))

    def get_block_size(self, uuid: str, target: str) -> ImageSize:
        return self._answer("block", uuid, self._libvirt.blocks.get(target, HypervisorError("no such disk")))

    def list_active_pools(self) -> tuple[StoragePool, ...]:
        return self._answer("pools", "", self._libvirt.pools)

    def list_active_pools_of(self, kind: Literal["logical", "rbd"]) -> tuple[StoragePool, ...]:
        return self._answer("pools", kind, self._libvirt.pools)

    def watch_node_devices(self) -> None:
        """Nothing is told of them."""

    def take_node_devices_changed(self) -> bool:
        return False

    def count_node_devices(self) -> int:
        return len(self._answer("device count", "", self._libvirt.devices))

    def list_node_devices(self, capabilities: Collection[str]) -> tuple[str, ...]:
        return self._answer("devices", "", self._libvirt.devices)

    def _answer(self, call: str, about: str, answer: T | Exception) -> T:
        self.calls += 1
        return self._libvirt.answer(call, about, answer)

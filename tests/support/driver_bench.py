"""A LibvirtDriver on a hypervisor whose answers and times a test controls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from exporter.compute.source import Source
from exporter.config.settings import GuestsConfig, HypervisorConfig
from exporter.errors import ConnectionLostError, UnsupportedError
from exporter.model import NodeInfo, NodeMemory, Resources
from exporter.recorder import Recorder
from exporter.virt.calls import OnEvent
from exporter.virt.driver import LibvirtDriver
from exporter.virt.guests.events import IO_ERROR_REASON, LIFECYCLE, WATCHDOG
from exporter.virt.masks import Sandbox
from tests.support.cgroup_trees import Tree, Use
from tests.support.hosts import WALL_CLOCK_SECONDS, Clock
from tests.support.records import GIB, KIB, make_domain
from tests.support.waiting_libvirt import PlayedConnections, WaitingConnection, WaitingLibvirt

# What Nova's numbers are computed from. Only collectors use the parts of all other sources. So tests of what
# exactly the driver asks leave them out.
NOVAS_SOURCES = frozenset(
    {"NUMA memory", "capabilities", "guests", "images", "node devices", "online CPUs", "storage"}
)

# What a guest has that shows all that a collector exports of its devices.
DEVICES = """
  <disk type='block' device='disk'><driver name='qemu' type='raw'/><source dev='/dev/vg0/vda'/>
    <target dev='vda' bus='virtio'/>
    <iotune><read_bytes_sec>1048576</read_bytes_sec><total_iops_sec>100</total_iops_sec></iotune></disk>
  <interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='br0'/>
    <target dev='tap0'/></interface>"""


class Hypervisor:
    """Answers like a host with the guests it is given, and counts what it is asked.

    :ivar errors: what the next call of a name raises instead, once
    :ivar on_error: called before one of them is raised
    :ivar told: the events of guests that it has
    :ivar free_pages: huge pages that are free in each NUMA cell; None where that is not told
    """

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.errors: dict[str, Exception] = {}
        self.is_connected = self.is_closed = False
        self.is_lost = False
        self.hung_openings = self.events = self.connects = 0
        self.libvirt_version = 9_000_000
        self.node = NodeInfo(online_cpus=8, memory_mib=16 * KIB)
        self.free_pages: int | None = None
        self.told = frozenset({LIFECYCLE, WATCHDOG, IO_ERROR_REASON})
        self.on_error: Callable[[], None] = lambda: None

    @property
    def calls(self) -> int:
        return sum(self.asked.values())

    def _take(self, name: str) -> None:
        self.asked[name] += 1
        error = self.errors.pop(name, None)
        if isinstance(error, ConnectionLostError):
            self.is_connected = False
        if error is not None:
            self.on_error()
            raise error

    def connect(self) -> bool:
        if self.is_connected:
            return False
        if self.is_closed:
            raise ConnectionLostError("closed")
        self._take("connect")
        self.is_connected = True
        self.connects += 1
        return True

    @property
    def is_open(self) -> bool:
        return self.is_connected and not self.is_lost

    def watch(self, on_changed: Callable[[str], None], on_event: OnEvent) -> frozenset[int]:
        self.asked["watch"] += 1
        self.tell_changed, self.tell_event = on_changed, on_event
        return self.told

    def disconnect(self) -> None:
        self.is_connected = False

    def forbid_connecting(self) -> None:
        self.is_closed = True

    def close(self) -> None:
        self.is_closed, self.is_connected = True, False

    def get_hostname(self) -> str:
        self._take("hostname")
        return "kvm01.example"

    def get_type(self) -> str:
        return "QEMU"

    def get_version(self) -> int:
        return 7002015

    def get_libvirt_version(self) -> int:
        return self.libvirt_version

    def get_node_info(self) -> NodeInfo:
        self._take("node info")
        return self.node

    def get_node_memory(self) -> NodeMemory:
        self._take("node memory")
        return NodeMemory(total_kib=16 * GIB // KIB, free_kib=0, buffers_kib=0, cached_kib=0)

    def get_cells_free_memory(self, first_cell: int, cells: int) -> tuple[int, ...]:
        self.asked["cells' memory"] += 1
        return (77,) * cells

    def get_free_pages(
        self, sizes_kib: Sequence[int], first_cell: int, cells: int
    ) -> Mapping[int, Mapping[int, int]]:
        self.asked["free pages"] += 1
        if self.free_pages is None:
            raise UnsupportedError("no")
        return {cell: {2048: self.free_pages} for cell in range(first_cell, first_cell + cells)}


class Bench:
    """A driver on such a hypervisor, on a clock that is moved by hand.

    :param needs: None for all sources; by default `NOVAS_SOURCES` and `more_sources`
    :param sandbox: where its kernel's files are; by default this machine's
    """

    def __init__(
        self,
        *,
        needs: Collection[str] | None = NOVAS_SOURCES,
        more_sources: Sequence[Source] = (),
        sandbox: Sandbox | None = None,
        **options: Any,
    ) -> None:
        self._sandbox = sandbox
        self.hypervisor, self.libvirt, self.clock = Hypervisor(), WaitingLibvirt(), Clock()
        self.recorder = Recorder(clock=self.clock)
        self.for_node_devices = WaitingConnection(self.libvirt)
        self._needs, self._options = needs, options
        self.driver = self.make_driver(more_sources=more_sources)

    def make_driver(self, *, more_sources: Sequence[Source]) -> LibvirtDriver:
        """Return a driver of it with these sources beside its own."""
        needs = self._needs
        if needs is NOVAS_SOURCES:
            needs = {*needs, *(each.name for each in more_sources)}
        return LibvirtDriver(
            self.hypervisor,
            self.libvirt.make_connection,
            self.for_node_devices,
            _configure(**self._options),
            needs=needs,
            resync_interval=60,
            stale_grace=120,
            clock=self.clock,
            wall_clock=lambda: WALL_CLOCK_SECONDS + self.clock.now,
            lend=partial(PlayedConnections, self.libvirt),
            more_sources=more_sources,
            recorder=self.recorder,
            sandbox=self._sandbox,
        )

    def add_guest(
        self, number: int = 1, *, vcpus: int = 2, disks: str = "", metadata: str = "", **changes: Any
    ) -> None:
        record = make_domain(number, **changes)
        others = (each for each in self.libvirt.domains if each.uuid != record.uuid)
        self.libvirt.domains = (*others, record)
        self.libvirt.xml[record.uuid] = f"""<domain><name>{record.name}</name><uuid>{record.uuid}</uuid>
          {metadata}<memory>1024</memory><vcpu>{vcpus}</vcpu><devices>{disks}</devices></domain>"""

    def reconfigure(self, **options: Any) -> None:
        self.driver.reconfigure(_configure(**options))

    def read(self) -> Resources:
        return self.driver.get_available_resource()

    def do_what_is_due(self) -> None:
        for source in self.driver.sources:
            for job in source.list_jobs():
                job.run()

    def list_due(self) -> set[str]:
        return {source.name for source in self.driver.sources if source.list_jobs()}


def _configure(**options: Any) -> HypervisorConfig:
    return HypervisorConfig(**{"uri": "qemu:///system", "instances_path": "/", **options})


def read_parts() -> Mapping[str, object]:
    """Return what every source hands to collectors, by its name; libvirt's test driver gives the answers."""
    with TemporaryDirectory() as folder:
        tree = Tree(Path(folder))
        tree.use(Use())
        tree.add_guest(1, "guest1", Use(throttled_us=1, vcpus={0: (2, 1), 1: (2, 1)}))
        tree.add_device("tap0", range(16))
        bench = Bench(needs=None, sandbox=tree.sandbox, guests=GuestsConfig(per_vcpu=True))
        bench.add_guest(disks=DEVICES, metadata="<cputune><quota>9000</quota></cputune>")
        bench.read()
        bench.do_what_is_due()
        return bench.read().parts

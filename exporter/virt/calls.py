"""The calls that are made over each kind of connection; all of them are `LibvirtHypervisor`'s.

libvirtd answers calls about the host even when all its workers wait for guests: they are of high priority
in libvirt's remote_protocol.x. Every other call may wait. So the connection that refreshes use has the first
kind only (`NodeHypervisor`); the type checker keeps a refresh from waiting. The others are made over
connections that are lent (`exporter.virt.connections`), or over one that is used for nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeVar

from exporter.model import (
    DomainInfo,
    DomainRecord,
    ImageSize,
    NodeInfo,
    NodeMemory,
    StoragePool,
    UnreadDevice,
    UnreadPool,
)

T = TypeVar("T")

# Gets a guest's UUID, libvirt's virDomainEventID, and what its callback gets beside the domain.
OnEvent = Callable[[str, int, Sequence[object]], None]
# Groups of virDomainListGetStats. What the guest's balloon and its disks tell needs its monitor.
StatisticsGroup = Literal["balloon", "block", "interface"]


class Hypervisor(Protocol):
    """What every connection has.

    :ivar calls: how many calls were made
    """

    calls: int

    @property
    def hung_openings(self) -> int:
        """How many connections are being opened."""

    def connect(self) -> bool:
        """Connect if need be; return whether the connection is a new one."""

    def disconnect(self) -> None:
        """Close the connection. `connect` opens another one."""

    def forbid_connecting(self) -> None:
        """Let `connect` raise ConnectionLostError from now on. This does not wait for anything."""

    def close(self) -> None:
        """Close the connection for good: none is opened after it."""


class CellHypervisor(Protocol):
    """What is free in NUMA cells; both calls read the host's /sys and wait for nobody."""

    def get_cells_free_memory(self, first_cell: int, cells: int) -> Sequence[int]:
        """Return the free bytes of each of these cells."""

    def get_free_pages(
        self, sizes_kib: Sequence[int], first_cell: int, cells: int
    ) -> Mapping[int, Mapping[int, int]]:
        """Return the number of free pages of each of these cells, by the cell's id and page size."""


class NodeHypervisor(Hypervisor, CellHypervisor, Protocol):
    """Calls about the host, which wait for nobody.

    :ivar events: how many domain events came
    :ivar connects: how many connections were opened
    :ivar is_lost: whether libvirt has said that the connection is closed
    """

    events: int
    connects: int
    is_lost: bool

    @property
    def is_open(self) -> bool:
        """Whether there is a connection that libvirt has not said to be closed."""

    def watch(self, on_changed: Callable[[str], None], on_event: OnEvent) -> frozenset[int]:
        """Have libvirt tell of changed guests and of events of guests. Return the events that it has."""

    def get_hostname(self) -> str:
        """Return virConnectGetHostname."""

    def get_type(self) -> str:
        """Return virConnectGetType."""

    def get_version(self) -> int:
        """Return virConnectGetVersion."""

    def get_libvirt_version(self) -> int:
        """Return virConnectGetLibVersion."""

    def get_node_info(self) -> NodeInfo:
        """Return virNodeGetInfo."""

    def get_node_memory(self) -> NodeMemory:
        """Return virNodeGetMemoryStats."""


class LentHypervisor(Hypervisor, Protocol):
    """Any connection that is lent."""

    def ask(self, name: str, call: Callable[[Any], T]) -> T:
        """Make a call that a single source makes, with libvirt's own connection (virConnect)."""


class WaitingHypervisor(LentHypervisor, Protocol):
    """Every call that may wait for a guest, or for one of libvirtd's workers."""

    def get_capabilities_xml(self) -> str:
        """Return virConnectGetCapabilities."""

    def get_online_cpus(self) -> frozenset[int]:
        """Return the online CPUs of virNodeGetCPUMap."""

    def get_available_cpus(self) -> frozenset[int]:
        """Return all CPUs of virNodeGetCPUMap."""

    def list_domains(self) -> tuple[DomainRecord, ...]:
        """Return virConnectGetAllDomainStats."""

    def get_domain_xml(self, uuid: str) -> str:
        """Return virDomainGetXMLDesc."""

    def get_domain_info(self, uuid: str) -> DomainInfo:
        """Return virDomainGetInfo."""

    def is_guest_busy(self, uuid: str) -> bool:
        """Return what virDomainGetControlInfo says."""

    def get_block_size(self, uuid: str, target: str) -> ImageSize:
        """Return virDomainGetBlockInfo."""

    def get_domain_statistics(self, uuid: str, groups: Collection[StatisticsGroup]) -> Mapping[str, object]:
        """Return virDomainListGetStats of one guest."""


class StorageHypervisor(LentHypervisor, Protocol):
    """Every call that may wait for a storage pool, or for virtstoraged.

    They have their own connections. So if they hang, the calls for guests still have theirs.
    """

    def get_volume_size(self, path: str) -> ImageSize:
        """Return virStorageVolGetInfo."""

    def list_active_pools(self) -> tuple[StoragePool | UnreadPool, ...]:
        """Return the active storage pools."""

    def list_active_pools_of(self, kind: Literal["logical", "rbd"]) -> tuple[StoragePool | UnreadPool, ...]:
        """Return the active storage pools of LVM or Ceph."""


class BorrowedHypervisor(WaitingHypervisor, StorageHypervisor, Protocol):
    """Any connection that may be lent."""


class NodeDeviceHypervisor(Hypervisor, Protocol):
    """Calls about node devices, which may wait for virtnodedevd; over a connection of their own."""

    def watch_node_devices(self) -> None:
        """Have libvirt tell of changed node devices."""

    def count_node_devices(self) -> int:
        """Return virNodeNumOfDevices."""

    def list_node_devices(self, capabilities: Collection[str]) -> tuple[str | UnreadDevice, ...]:
        """Return virNodeDeviceGetXMLDesc of the devices with one of these capabilities."""

    def pop_node_devices_changed(self) -> bool:
        """Return whether an event spoke of a node device since the last call."""

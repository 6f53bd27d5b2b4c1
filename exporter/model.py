"""Records of what was read from a hypervisor, and of what Nova makes of it. All are immutable.

A raw field carries its unit in its name; conversion happens where a sample is made.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class DomainState(enum.Enum):
    """libvirt's virDomainState, by the number it has there; the name in lower case is the label's value."""

    NOSTATE = 0
    RUNNING = 1
    BLOCKED = 2
    PAUSED = 3
    SHUTDOWN = 4
    SHUTOFF = 5
    CRASHED = 6
    PMSUSPENDED = 7


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeInfo:
    """The part of virNodeGetInfo that Nova uses."""

    online_cpus: int  # getInfo()[2]
    memory_mib: int  # getInfo()[1]


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeMemory:
    """virNodeGetMemoryStats over all cells: the node's /proc/meminfo as libvirt read it."""

    total_kib: int
    free_kib: int
    buffers_kib: int
    cached_kib: int

    @property
    def available_kib(self) -> int:
        """Nova's notion of available: MemFree + Buffers + Cached (Host._get_avail_memory_kb)."""
        return self.free_kib + self.buffers_kib + self.cached_kib


@dataclass(frozen=True, kw_only=True, slots=True)
class Storage:
    """Bytes of the file system or pools that hold the guests' images.

    `free` is what an unprivileged user may still write (f_bavail), so used + free may be less than size.
    """

    size_bytes: int
    used_bytes: int
    free_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Disk:
    """One <disk> of a domain's XML."""

    target: str  # target/@dev: "vda"
    source_type: str  # disk/@type: "file", "block", "network", "volume", …
    path: str | None  # source/@file or source/@dev; None for an empty drive and for anything without a path
    driver_format: str | None  # driver/@type: "qcow2", "raw"; None where the XML names none
    serial: str | None  # what Nova writes only for a Cinder volume
    device: str  # disk/@device: "disk", "cdrom", "floppy", "lun"


class ResourceClass(str, enum.Enum):
    """What Placement allots, by its own names, which are the label's values."""

    VCPU = "VCPU"  # vCPUs that share the host's CPUs
    PCPU = "PCPU"  # vCPUs that have a CPU of their own
    MEMORY_MB = "MEMORY_MB"  # MiB
    DISK_GB = "DISK_GB"  # GiB


LARGE_PAGES = -2  # of any size but the smallest: Nova's MEMPAGES_LARGE


@dataclass(frozen=True, kw_only=True, slots=True)
class Flavor:
    """What a guest of one kind claims of its hypervisor."""

    name: str
    vcpus: int  # that share the host's CPUs
    pcpus: int = 0  # that have a CPU of their own
    memory_mb: int
    disk_gb: int  # root and ephemeral disk, and swap
    numa_cells: int = 0  # of the host that a guest is laid out on in equal parts; 0 where it does not matter
    page_size_kib: int | None = None  # of the guest's memory, or LARGE_PAGES; None where it does not matter


@dataclass(frozen=True, kw_only=True, slots=True)
class NovaFlavor:
    """The flavor that Nova wrote into the metadata of a guest."""

    name: str
    vcpus: int
    memory_mb: int
    root_gb: int
    ephemeral_gb: int
    swap_mb: int
    resources: Mapping[ResourceClass, int]  # what its extra specs claim instead ("resources:VCPU")


@dataclass(frozen=True, kw_only=True, slots=True)
class GuestNumaCell:
    """A NUMA cell of a guest: cpu/numa/cell, or the guest as a whole where its memory is in huge pages."""

    host_cell: int | None  # numatune: the host's cell that its memory is in; None for no particular one
    vcpus: frozenset[int]
    memory_kib: int
    page_size_kib: int | None  # memoryBacking/hugepages; None for pages of the usual size


@dataclass(frozen=True, kw_only=True, slots=True)
class Guest:
    """A domain as its XML describes it."""

    uuid: str
    name: str
    vcpus: int  # vcpu/@current, else vcpu's text: the number plugged in now
    maximum_vcpus: int  # vcpu's text: the number that may be plugged in
    memory_kib: int  # <currentMemory>, else <memory>
    maximum_memory_kib: int  # <memory>
    disks: tuple[Disk, ...]
    images: tuple[Disk, ...]  # those of the disks whose over-commit Nova counts
    has_nova_metadata: bool
    nova_flavor: NovaFlavor | None  # None where there is no metadata, or none that can be understood
    metadata_error: str | None  # why it cannot be understood
    is_volume_backed: bool  # whether its root disk is a Cinder volume
    numa_cells: tuple[GuestNumaCell, ...]
    emulator_pins: frozenset[int]  # cputune/emulatorpin: the CPUs that QEMU's own threads are tied to
    vcpu_pins: Mapping[int, frozenset[int]]  # cputune/vcpupin: the CPUs that a vCPU is tied to, by its number


class DomainRecord(NamedTuple):
    """One row of the list of domains. `id` is -1 for a domain that is not active.

    A tuple, because one is made for each domain on every scrape.
    """

    uuid: str
    name: str
    id: int
    state: DomainState

    @property
    def is_active(self) -> bool:
        """Whether libvirt lists the domain as active: running, paused, and everything in between."""
        return self.id != -1


@dataclass(frozen=True, kw_only=True, slots=True)
class DomainInfo:
    """What virDomainGetInfo says of a guest: what stands in for its XML, and what shows that it runs."""

    vcpus: int  # plugged in now, or those of the configuration where the domain is not active
    memory_kib: int
    maximum_memory_kib: int
    cpu_time_ns: int = 0  # that its process has used since it was started


@dataclass(frozen=True, kw_only=True, slots=True)
class PageSize:
    """Memory pages of one size in a NUMA cell."""

    size_kib: int
    total: int


@dataclass(frozen=True, kw_only=True, slots=True)
class HostCpu:
    """One <cpu> of a NUMA cell in the capabilities."""

    id: int
    socket_id: int | None
    siblings: frozenset[int]


@dataclass(frozen=True, kw_only=True, slots=True)
class NumaCell:
    """One <cell> of the capabilities' topology."""

    id: int
    memory_kib: int
    pages: tuple[PageSize, ...]
    cpus: tuple[HostCpu, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class FreeNumaMemory:
    """What is free in a NUMA cell. What libvirt could not tell is None, or left out."""

    free_bytes: int | None  # virNodeGetCellsFreeMemory
    free_pages: Mapping[int, int]  # virNodeGetFreePages: by size in KiB


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryPages:
    """Nova's NUMAPagesTopology: pages of one size in a cell, and how many of them are free."""

    size_kib: int
    total: int
    free: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class HostNumaCell:
    """Nova's NUMACell, and what is used and free of it."""

    id: int
    socket: int | None  # None where its CPUs are of several sockets
    cpus: frozenset[int]  # all that are online
    cpuset: frozenset[int]  # those that guests share
    pcpuset: frozenset[int]  # those that guests' vCPUs may be pinned to
    siblings: frozenset[frozenset[int]]  # the threads of each core, as far as guests may use them
    memory_kib: int
    memory_free_bytes: int | None
    mempages: tuple[MemoryPages, ...]
    pinned_cpus: frozenset[int] | None  # those that a guest's vCPU is pinned to


@dataclass(frozen=True, kw_only=True, slots=True)
class PciDevice:
    """A PCI device as Nova describes it; its ids are four hexadecimal digits each."""

    address: str  # "0000:0a:00.1"
    vendor_id: str
    product_id: str
    dev_type: str  # Nova's PciDeviceType: type-PCI, type-PF, type-VF or vdpa
    parent_address: str | None  # of a virtual function: its physical one's
    has_serial_number: bool  # of the card, in the vital product data of it or of its physical function


@dataclass(frozen=True, kw_only=True, slots=True)
class MdevType:
    """A type of mediated devices that one device may still be divided into."""

    name: str  # "nvidia-35"
    available_instances: int


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeDevices:
    """The node devices that guests may be given."""

    pci_devices: tuple[PciDevice, ...]
    mdev_types: tuple[MdevType, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class CpuInfo:
    """Nova's cpu_info, out of <host><cpu> of the capabilities; None where libvirt does not say."""

    arch: str | None
    model: str | None
    vendor: str | None
    cells: int
    sockets: int | None
    cores: int | None
    threads: int | None
    features: frozenset[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Capabilities:
    """virConnectGetCapabilities, parsed."""

    uuid: str | None
    cpu_info: CpuInfo
    supported_instances: tuple[tuple[str, str, str], ...]  # (arch, hypervisor type, vm mode) by Nova's names
    cells: tuple[NumaCell, ...]  # empty where the capabilities have no topology


@dataclass(frozen=True, kw_only=True, slots=True)
class HostIdentity:
    """What a hypervisor says of itself once a connection."""

    hostname: str
    hypervisor_type: str
    hypervisor_version: int  # major * 1,000,000 + minor * 1,000 + release
    libvirt_version: int  # likewise
    host_ip: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class StoragePool:
    """An active libvirt storage pool, as of the pool's last refresh by libvirtd."""

    name: str
    capacity_bytes: int
    allocation_bytes: int
    available_bytes: int
    source_name: str | None = None  # the volume group or Ceph pool, where it was asked for


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageSize:
    """How large an image may become, and how much of that its host has given it already."""

    virtual_bytes: int
    allocated_bytes: int


@dataclass(frozen=True, slots=True)
class UnsizedImage:
    """An image whose size is not known, and why; None while libvirt is yet to be asked."""

    reason: str | None


class Severity(enum.Enum):
    """What a problem does besides being said once in the log."""

    NOTE = "nothing more: a property of this host, or something with a metric of its own"
    ERROR = "counts in hypervisor_refresh_errors_total"
    FATAL = "counts there, and the refresh has failed: hypervisor_up is 0"


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """Something that went wrong while a hypervisor was read."""

    severity: Severity
    reason: str  # the label's value in hypervisor_refresh_errors_total
    subject: str  # which option, pool, or domain; with the reason it tells one problem from the next
    message: str
    advice: str = ""  # what to do about it, where the reason alone does not say it: "Start libvirtd"


class DriverStats(NamedTuple):
    """What a driver has done so far, as counters."""

    libvirt_calls: int
    guests_read: int
    events: int
    connects: int
    hung: int = 0  # calls, openings and file reads that nobody waits for any more, a thread each


@dataclass(frozen=True, kw_only=True, slots=True)
class DomainsReading:
    """The list of domains, and what was read of each: all that depends on guests depends on it."""

    domains: tuple[DomainRecord, ...]
    guests: Mapping[str, Guest | None]  # by UUID; None for a domain whose XML could not be read
    images: Mapping[str, Sequence[ImageSize | UnsizedImage]]  # by guest's UUID, one for each of its `images`
    age_seconds: float = 0.0  # of the list; 0 where it was read by this refresh
    unread_guests: int = 0  # of which libvirt has given no XML yet
    outdated_guests: int = 0  # that count by an XML which is to be read again, and was not to be had

    @property
    def known_guests(self) -> tuple[Guest, ...]:
        """Those whose XML could be read."""
        return tuple(guest for guest in self.guests.values() if guest is not None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """Everything that one refresh read, before anything was computed from it.

    None means that the hypervisor cannot tell it, or that reading it failed; `problems` then says why.
    """

    identity: HostIdentity
    capabilities: Capabilities | None
    node: NodeInfo | None
    node_memory: NodeMemory | None
    online_cpus: frozenset[int] | None  # asked for only where a CPU set is configured
    free_numa_memory: Mapping[int, FreeNumaMemory]  # by NUMA cell's id
    node_devices: NodeDevices | None
    storage: Storage | None
    domains: DomainsReading | None
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Inventory:
    """What a hypervisor offers of one resource class, as Nova tells Placement, and what is claimed of it.

    `total` or `claimed` is None where it could not be told: nobody knows then what fits.
    """

    resource_class: ResourceClass
    total: int | None
    reserved: int
    allocation_ratio: float
    claimed: int | None

    @property
    def max_unit(self) -> int | None:
        """How much one guest may claim: over-commit does not make a hypervisor larger than it is."""
        return self.total

    @property
    def capacity(self) -> int | None:
        """How much may be claimed by all guests together, by Placement's arithmetic."""
        if self.total is None:
            return None
        return max(0, int((self.total - self.reserved) * self.allocation_ratio))


@dataclass(frozen=True, kw_only=True, slots=True)
class FlavorSlots:
    """How many more guests of a flavor fit, and the resource classes that keep another one out."""

    flavor: str
    slots: int
    limited_by: frozenset[ResourceClass]
    request: Mapping[ResourceClass, int]  # what one guest asks for; classes of which it is none are left out


@dataclass(frozen=True, kw_only=True, slots=True)
class Resources:
    """Nova's get_available_resource dictionary, field by field, and what only we have.

    None means that it could not be told: no sample then, never a zero.
    """

    # Nova's dictionary, with Nova's names and units (memory in MiB, disk in GiB).
    vcpus: int | None
    vcpus_used: int | None
    memory_mb: int | None
    memory_mb_used: int | None
    local_gb: int | None
    local_gb_used: int | None
    disk_available_least: int | None
    hypervisor_type: str
    hypervisor_version: int
    hypervisor_hostname: str
    cpu_info: CpuInfo | None
    supported_instances: tuple[tuple[str, str, str], ...] | None
    numa_topology: tuple[HostNumaCell, ...] | None
    pci_passthrough_devices: tuple[PciDevice, ...] | None  # those that device_spec lets guests have
    host_ip: str | None
    uuid: str | None

    # Beside it.
    libvirt_version: int
    memory_size_bytes: int | None
    memory_available_bytes: int | None
    storage: Storage | None
    storage_overcommitted_bytes: int | None
    unsized_disks: int | None
    domains_by_state: Mapping[DomainState, int] | None
    running_vms: int | None
    domains_age_seconds: float | None  # of the list of domains, when the rest was read
    unread_guests: int | None
    outdated_guests: int | None
    inventories: tuple[Inventory, ...]  # of the classes that are offered
    flavor_slots: tuple[FlavorSlots, ...]  # of the flavors for which it could be told
    mdev_types: tuple[MdevType, ...] | None
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """A hypervisor's resources, the target they came from, and when, in seconds since the epoch."""

    target: str
    resources: Resources
    timestamp_seconds: float
    labels: tuple[tuple[str, str], ...] = ()  # that the configuration gives it: (("zone", "a"),)


@dataclass(frozen=True, kw_only=True, slots=True)
class RefreshCost:
    """What one refresh took."""

    duration_seconds: float
    libvirt_calls: int
    guests_read: int


@dataclass(frozen=True, kw_only=True, slots=True)
class HostView:
    """What a scrape shows of one hypervisor: how reaching it went, and its snapshot, if there is one."""

    target: str
    is_up: bool
    snapshot: Snapshot | None
    refresh: RefreshCost | None  # of the last one; None before the first has ended
    is_refreshing: bool
    errors: Mapping[str, int]  # by reason; all counts are since the target was configured
    cache_hits: int
    driver: DriverStats
    problems: tuple[Problem, ...]  # what is wrong now
    age_seconds: float | None  # of the snapshot
    seconds_since_success: float | None  # since a refresh last succeeded; None where none has yet
    hung_calls: int = 0  # those of the driver, and calls that are waited for no longer

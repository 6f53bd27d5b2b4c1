"""Records of what was read from a hypervisor, and of Nova's numbers. All are immutable.

The name of a raw field contains its unit. Values are converted where a sample is made.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

T = TypeVar("T")

KIB_PER_MIB = 1024


class DomainState(enum.Enum):
    """libvirt's virDomainState with its numbers. The name in lower case is the label's value."""

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

    online_cpus: int  # getInfo()[2]: counts where virNodeGetCPUMap is not supported
    memory_mib: int  # getInfo()[1]


@dataclass(frozen=True, kw_only=True, slots=True)
class CpuMap:
    """virNodeGetCPUMap: the numbers of the host's CPUs."""

    online: frozenset[int]
    available: frozenset[int] | None  # all that exist; None if they were not asked for
    by_cell: Mapping[int, frozenset[int]] = field(default_factory=dict)  # by NUMA cell, as the kernel has it


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

    `free` is what an unprivileged user can still write (f_bavail). So used + free can be less than size.
    """

    size_bytes: int
    used_bytes: int
    free_bytes: int
    is_raw: bool = False  # free_bytes are those of a cluster that keeps several replicas of what is written


@dataclass(frozen=True, kw_only=True, slots=True)
class StorageIdentity:
    """Which storage the numbers of `Storage` are of."""

    id: str  # equal on every hypervisor that sees the same storage, else unique to the host
    kind: str  # "file system", "nfs", "cephfs", "rbd", "lvm", …
    source: str  # for people: "nfs01:/export/nova"


@dataclass(frozen=True, kw_only=True, slots=True)
class Disk:
    """One <disk> of a domain's XML."""

    target: str  # target/@dev: "vda"
    source_type: str  # disk/@type: "file", "block", "network", "volume", …
    path: str | None  # source/@file or source/@dev; None for an empty drive, and for disks without a path
    driver_format: str | None  # driver/@type: "qcow2", "raw"; None if the XML has none
    serial: str | None  # Nova writes one only for a Cinder volume
    device: str  # disk/@device: "disk", "cdrom", "floppy", "lun"
    alias: str | None = None  # alias/@name if it begins with "ua-": Nova 29 and later give one to a volume
    bus: str = ""  # target/@bus: "virtio"
    cache: str = ""  # driver/@cache: "none"; empty if the XML has none
    discard: str = ""  # driver/@discard: "unmap"; empty if the XML has none
    driver_name: str = ""  # driver/@name: "qemu"
    protocol: str = ""  # source/@protocol of a network disk: "rbd"
    network_name: str = ""  # source/@name of a network disk: "vms/6f0c_disk"
    limits: tuple[tuple[str, int], ...] = ()  # iotune: (("read_bytes_sec", 10485760), …); none is 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Interface:
    """One <interface> of a domain's XML."""

    target: str  # target/@dev, the host's device: "tap6f0c1d2e-3f"; empty while the guest does not run
    type: str  # interface/@type: "bridge", "ethernet", "vhostuser", "hostdev", …
    mac: str  # mac/@address
    bridge: str  # source/@bridge, or another name of what it is plugged into: source/@network, source/@dev
    port_id: str  # virtualport/parameters/@interfaceid: Neutron's port; empty if the XML has none
    model: str = ""  # model/@type: "virtio"
    mtu: str = ""  # mtu/@size


@dataclass(frozen=True, kw_only=True, slots=True)
class NovaInstance:
    """Who a guest is, by Nova's metadata. Empty if they do not tell it."""

    instance_name: str = ""  # the user's name of it
    project_id: str = ""
    project_name: str = ""
    user_id: str = ""
    user_name: str = ""
    image_id: str = ""  # nova:root; empty if it boots from a volume


class ResourceClass(str, enum.Enum):
    """Placement's resource classes. The names are also the label's values."""

    VCPU = "VCPU"  # vCPUs that share the host's CPUs
    PCPU = "PCPU"  # vCPUs with a CPU of their own
    MEMORY_MB = "MEMORY_MB"  # MiB
    DISK_GB = "DISK_GB"  # GiB


class DeviceClass(str):
    """A resource class of devices, such as VGPU or CUSTOM_PCI_10DE_2204. The configuration names them."""

    __slots__ = ()

    @property
    def value(self) -> str:
        """The label's value."""
        return str(self)


AnyResourceClass = ResourceClass | DeviceClass

LARGE_PAGES = -2  # of any size but the smallest: Nova's MEMPAGES_LARGE


@dataclass(frozen=True, order=True, slots=True)
class FlavorCell:
    """What one NUMA cell of a guest needs of a cell of its host."""

    vcpus: int  # vCPUs that share the host's CPUs
    pcpus: int  # vCPUs with a CPU of their own, and the CPU of an isolated emulator
    memory_kib: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Flavor:
    """What one guest of this flavor claims from its hypervisor."""

    name: str
    vcpus: int  # vCPUs that share the host's CPUs
    pcpus: int = 0  # vCPUs with a CPU of their own
    memory_mb: int
    disk_gb: int  # root and ephemeral disk, and swap
    numa_cells: int = 0  # number of host cells that the guest is spread over; 0 if it does not matter
    page_size_kib: int | None = None  # of the guest's memory, or LARGE_PAGES; None if it does not matter
    root_volume_gb: int = 0  # root disk that is a volume instead; not in disk_gb
    devices: tuple[tuple[DeviceClass, int], ...] = ()  # each of these amounts is of one card
    layout: tuple[FlavorCell, ...] = ()  # of each of its NUMA cells; empty if these are equal
    cpu_thread_policy: str | None = (
        None  # of pinned vCPUs: "require" or "isolate"; None if it does not matter
    )

    @property
    def cells(self) -> tuple[FlavorCell, ...]:
        """What each of its NUMA cells needs. Of equal parts that cannot be divided, each is the larger."""
        if self.layout or not self.numa_cells:
            return self.layout
        part = FlavorCell(
            vcpus=-(-self.vcpus // self.numa_cells),
            pcpus=-(-self.pcpus // self.numa_cells),
            memory_kib=-(-self.memory_mb * KIB_PER_MIB // self.numa_cells),
        )
        return (part,) * self.numa_cells


@dataclass(frozen=True, kw_only=True, slots=True)
class NovaFlavor:
    """The flavor that Nova wrote into the metadata of a guest."""

    name: str
    vcpus: int
    memory_mb: int
    root_gb: int
    ephemeral_gb: int
    swap_mb: int
    resources: Mapping[
        ResourceClass, int
    ]  # its extra specs, which replace the amounts above ("resources:VCPU")
    # Of devices, by the group of the request: resources:VGPU, or resources1:VGPU and resources2:VGPU.
    devices: tuple[tuple[DeviceClass, int], ...] = ()
    cpu_thread_policy: str | None = None  # "require" or "isolate"; None also before Nova 32, which tells none


@dataclass(frozen=True, kw_only=True, slots=True)
class GuestNumaCell:
    """A NUMA cell of a guest: cpu/numa/cell, or the whole guest if its memory is in huge pages."""

    host_cell: int | None  # numatune: the host cell of its memory; None if it is not fixed
    vcpus: frozenset[int]
    memory_kib: int
    page_size_kib: int | None  # memoryBacking/hugepages; None for pages of the base size


@dataclass(frozen=True, kw_only=True, slots=True)
class GuestDevices:
    """The host's devices that a guest has, running or not."""

    hostdevs: frozenset[str] = frozenset()  # PCI addresses that its flavor asked for: "0000:84:00.0"
    interfaces: frozenset[str] = frozenset()  # PCI addresses, or paths of vDPA devices, of its network ports
    mdev_uuids: frozenset[str] = frozenset()
    are_known: bool = True  # whether none of them was left out because its XML is odd


@dataclass(frozen=True, kw_only=True, slots=True)
class Guest:
    """A domain as its XML describes it."""

    uuid: str
    name: str
    vcpus: int  # vcpu/@current, else vcpu's text: the number plugged in now
    maximum_vcpus: int  # vcpu's text: the maximum number
    memory_kib: int  # <currentMemory>, else <memory>
    maximum_memory_kib: int  # <memory>
    disks: tuple[Disk, ...]
    images: tuple[Disk, ...]  # the disks that count in Nova's over-commit
    has_nova_metadata: bool
    nova_flavor: NovaFlavor | None  # None without metadata, or if they cannot be read
    metadata_error: str | None  # why the metadata, or an extra spec of them, cannot be read
    is_volume_backed: bool  # whether its root disk is a Cinder volume
    numa_cells: tuple[GuestNumaCell, ...]
    emulator_pins: frozenset[int]  # cputune/emulatorpin: the CPUs of QEMU's own threads
    vcpu_pins: Mapping[int, frozenset[int]]  # cputune/vcpupin: the CPUs of each vCPU, by its number
    devices: GuestDevices = GuestDevices()
    interfaces: tuple[Interface, ...] = ()
    nova_instance: NovaInstance = NovaInstance()
    os_type: str = ""  # os/type: "hvm"
    arch: str = ""  # os/type/@arch
    machine: str = ""  # os/type/@machine
    partition: str = (
        ""  # resource/partition: its place in the host's cgroups, as "/machine"; else libvirt's default
    )
    has_cpu_quota: bool = False  # cputune/quota and its like: whether CPU time of its threads is limited
    has_balloon: bool = True  # devices/memballoon: whether it has one by which it may tell of its memory
    is_read: bool = True  # whether libvirt gave its XML
    is_placement_known: bool = True  # whether its cells and pins could be read
    odd_parts: str = ""  # the parts of its XML that could not be read, in one line; they are left out


class DomainRecord(NamedTuple):
    """One row of the list of domains. `id` is -1 for a domain that is not active.

    A tuple, because one is made for each domain on every scrape.
    """

    uuid: str
    name: str
    id: int
    state: DomainState
    reason: int = 0  # libvirt's reason for the state: a number of its own for each state

    @property
    def is_active(self) -> bool:
        """Whether libvirt lists the domain as active: for example running or paused."""
        return self.id != -1


@dataclass(frozen=True, kw_only=True, slots=True)
class DomainInfo:
    """virDomainGetInfo of a guest: replaces a missing XML, and shows that the guest runs."""

    vcpus: int  # plugged in now; if the domain is not active, as configured
    memory_kib: int
    maximum_memory_kib: int
    cpu_time_ns: int = 0  # CPU time of its process since the start


@dataclass(frozen=True, kw_only=True, slots=True)
class PageSize:
    """Memory pages of one size in a NUMA cell."""

    size_kib: int
    total: int


@dataclass(frozen=True, kw_only=True, slots=True)
class NumaCell:
    """One <cell> of the capabilities' topology."""

    id: int
    memory_kib: int
    pages: tuple[PageSize, ...]
    cpus: frozenset[int]  # offline ones too, on some hosts
    siblings: frozenset[frozenset[int]] = frozenset()  # the threads of each core; none if libvirt tells none


@dataclass(frozen=True, kw_only=True, slots=True)
class FreeNumaMemory:
    """Free memory of a NUMA cell. Values that libvirt does not give are None, or left out."""

    free_bytes: int | None  # virNodeGetCellsFreeMemory
    free_pages: Mapping[int, int]  # virNodeGetFreePages: by size in KiB


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryPages:
    """Nova's NUMAPagesTopology: pages of one size in a cell, and how many of them are free."""

    size_kib: int
    total: int
    free: int | None
    reserved: int = 0  # by reserved_huge_pages: for other programs than guests


@dataclass(frozen=True, kw_only=True, slots=True)
class ReservedPages:
    """One of Nova's reserved_huge_pages."""

    node: int  # the NUMA cell's id
    size_kib: float  # no page has a size that is not whole
    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class HostNumaCell:
    """Nova's NUMACell, with what is used and free."""

    id: int
    cpus: frozenset[int]  # all that are online
    cpuset: frozenset[int]  # CPUs that guests share
    pcpuset: frozenset[int]  # CPUs that guests' vCPUs may be pinned to
    memory_kib: int
    memory_free_bytes: int | None
    mempages: tuple[MemoryPages, ...]
    pinned_cpus: frozenset[int] | None  # CPUs that a guest's vCPU is pinned to
    siblings: tuple[frozenset[int], ...] = ()  # those threads of each core that guests may use


@dataclass(frozen=True, kw_only=True, slots=True)
class PciDevice:
    """A PCI device as Nova describes it. Its ids have four hexadecimal digits."""

    address: str  # "0000:0a:00.1"
    vendor_id: str
    product_id: str
    dev_type: str  # Nova's PciDeviceType: type-PCI, type-PF, type-VF or vdpa
    parent_address: str | None  # of a virtual function: the address of its physical function
    has_serial_number: bool  # in the vital product data of the device or of its physical function

    @property
    def resource_class(self) -> DeviceClass:
        """The usual name of its class in Placement."""
        return DeviceClass(f"CUSTOM_PCI_{self.vendor_id}_{self.product_id}".upper())


@dataclass(frozen=True, kw_only=True, slots=True)
class MdevType:
    """A type of mediated devices that can still be created on one device."""

    name: str  # "nvidia-35"
    available_instances: int


@dataclass(frozen=True, kw_only=True, slots=True)
class MdevCard:
    """A device that mediated devices can be made of: a card, or a virtual function of one."""

    name: str  # libvirt's: "pci_0000_84_00_0"
    available: Mapping[str, int]  # by type, how many more can be made; if one is made, others may be less


@dataclass(frozen=True, kw_only=True, slots=True)
class Mdev:
    """A mediated device that exists, in use or not."""

    uuid: str
    parent: str  # the name of its card
    mdev_type: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceProvider:
    """A resource provider of devices, a child of the host's own one: a card and what is made of it."""

    name: str  # "pci_0000_84_00_0"; without mediated devices its address, "0000:84:00.0"
    resource_class: DeviceClass
    total: int
    members: frozenset[str]  # UUIDs of all mediated devices on it, or addresses of PCI devices
    is_mdev: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class UnreadDevice:
    """A node device that libvirt lists, and that could not be read, or not all of it."""

    name: str  # libvirt's: "pci_0000_82_00_0"
    error: str
    reason: str = "device"  # under which it is counted


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeDevices:
    """The node devices for guests."""

    pci_devices: tuple[PciDevice, ...]
    mdev_types: tuple[MdevType, ...]
    unread: int = 0  # devices that could not be read, or not all of it
    mdevs: tuple[Mdev, ...] = ()
    vdpa_addresses: Mapping[str, str] = field(default_factory=dict)  # PCI addresses by "/dev/vhost-vdpa-0"
    providers: tuple[DeviceProvider, ...] = ()  # as Nova reports them to Placement
    has_pci_in_placement: bool = False  # else Nova has PCI devices in pools of its own


@dataclass(frozen=True, kw_only=True, slots=True)
class CpuInfo:
    """Nova's cpu_info, from <host><cpu> of the capabilities. None if libvirt does not give it."""

    arch: str | None
    model: str | None
    vendor: str | None
    sockets: int | None
    cores: int | None
    threads: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Capabilities:
    """virConnectGetCapabilities, parsed."""

    uuid: str | None
    cpu_info: CpuInfo
    cells: tuple[NumaCell, ...]  # empty if the capabilities have no topology
    has_all_cells: bool = True  # whether each of its cells could be read
    odd_parts: str = ""  # the parts that could not be read, in one line; they are left out


@dataclass(frozen=True, kw_only=True, slots=True)
class HostIdentity:
    """The identity of a hypervisor, read once per connection."""

    hostname: str
    # None where libvirt does not tell it.
    hypervisor_type: str | None
    hypervisor_version: int | None  # major * 1,000,000 + minor * 1,000 + release
    libvirt_version: int | None  # the same form
    host_ip: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolSource:
    """Where a storage pool has its volumes: <source> and <target> of its XML."""

    type: str  # "dir", "netfs", "logical", "rbd", …
    name: str | None = None  # the volume group, Ceph pool or Gluster volume
    hosts: tuple[str, ...] = ()  # "mon1:6789"
    folder: str | None = None  # source/dir/@path: of netfs the export
    devices: tuple[str, ...] = ()  # source/device/@path: of iscsi the target
    format: str | None = None  # source/format/@type: of netfs "nfs", "cifs", "glusterfs", "auto"
    target_path: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class StoragePool:
    """An active libvirt storage pool, as of the pool's last refresh by libvirtd."""

    name: str
    capacity_bytes: int
    allocation_bytes: int
    available_bytes: int
    source: PoolSource | None = None  # None if it cannot be read
    source_error: str | None = None  # why


@dataclass(frozen=True, kw_only=True, slots=True)
class UnreadPool:
    """An active libvirt storage pool that cannot be read. Its numbers are not known."""

    name: str
    reason: str  # of the problem: "storage", "denied", …
    error: str  # why


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageSize:
    """The full size of an image, and how much space it has already."""

    virtual_bytes: int
    allocated_bytes: int


@dataclass(frozen=True, slots=True)
class UnsizedImage:
    """An image of unknown size, and the reason; None if libvirt was not asked yet."""

    reason: str | None


class Severity(enum.Enum):
    """The effect of a problem, besides one line in the log."""

    NOTE = "none: a property of this host, or something with its own metric"
    ERROR = "it is counted in hypervisor_refresh_errors_total"
    FATAL = "it is counted there, and the refresh failed: hypervisor_up is 0"


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """Something that went wrong while a hypervisor was read."""

    severity: Severity
    reason: str  # the label's value in hypervisor_refresh_errors_total
    subject: str  # the option, pool or domain; reason and subject identify a problem
    message: str
    advice: str = ""  # what to do, if the advice of the reason is not enough: "Start libvirtd"


@dataclass(frozen=True, kw_only=True, slots=True)
class Ignored:
    """An option or a file of Nova's that does not count here, so that numbers may differ from Nova's."""

    option: str  # "[libvirt] images_type"; empty for a whole file
    file: str  # "/etc/nova/nova.conf"
    line: int | None  # None for a whole file
    message: str  # "[libvirt] images_type = ploop: not supported, …"

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.message}"


class DriverStats(NamedTuple):
    """Counters of what a driver has done so far."""

    libvirt_calls: int
    guests_read: int
    events: int
    connects: int
    hung: int = 0  # calls, connection attempts and file reads past their timeout; each keeps a thread


@dataclass(frozen=True, kw_only=True, slots=True)
class DomainsReading:
    """The list of domains, and what was read of each. All guest numbers depend on it."""

    domains: tuple[DomainRecord, ...]
    guests: Mapping[str, Guest | None]  # by UUID; None for a domain whose XML could not be read
    images: Mapping[str, Sequence[ImageSize | UnsizedImage]]  # by guest's UUID, one for each of its `images`
    age_seconds: float = 0.0  # of the list; 0 if this refresh read it
    unread_guests: int = 0  # guests without any XML yet
    outdated_guests: int = 0  # guests with an old XML, because the new one could not be read
    arriving: frozenset[str] = frozenset()  # UUIDs of guests that are migrating in from another hypervisor

    @property
    def known_guests(self) -> tuple[Guest, ...]:
        """The guests whose XML could be read."""
        return tuple(guest for guest in self.guests.values() if guest is not None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """Everything that one refresh read, before anything was computed from it.

    None means that the hypervisor does not have it, or that the read failed; `problems` then says why.
    """

    identity: HostIdentity
    capabilities: Capabilities | None
    node: NodeInfo | None
    node_memory: NodeMemory | None
    online_cpus: frozenset[int] | None
    free_numa_memory: Mapping[int, FreeNumaMemory]  # by NUMA cell's id
    node_devices: NodeDevices | None
    storage: Storage | None
    storage_identity: StorageIdentity | None
    domains: DomainsReading | None
    available_cpus: frozenset[int] | None = None  # all that exist; read only under power management
    cpus_by_cell: Mapping[int, frozenset[int]] = field(default_factory=dict)  # the same, on this machine
    failed_calls: frozenset[str] = (
        frozenset()
    )  # libvirt's names; not those that this hypervisor does not have
    image_cache_bytes: int | None = 0  # what counts as reserved; None if it is not known
    problems: tuple[Problem, ...] = ()
    ages: Mapping[str, float] = field(default_factory=dict)  # in seconds, of each source that has something
    parts: Mapping[str, object] = field(default_factory=dict)  # by source, what only its collectors use


@dataclass(frozen=True, kw_only=True, slots=True)
class Inventory:
    """What a hypervisor offers of one resource class, as Nova reports it to Placement, and what is claimed.

    Of devices it is the sum over all cards.

    `total`, `reserved` or `claimed` is None if it is not known. Then it is not known what fits.
    """

    resource_class: AnyResourceClass
    total: int | None
    reserved: int | None
    allocation_ratio: float
    claimed: int | None
    free_by_provider: tuple[int, ...] | None = None  # mediated devices: one guest's are of one card
    unplaced: int = 0  # what is claimed of a card that is not known

    @property
    def max_unit(self) -> int | None:
        """How much one guest may claim. Over-commit does not make a hypervisor larger than it is."""
        return self.total

    @property
    def capacity(self) -> int | None:
        """How much all guests together may claim, by Placement's formula."""
        if self.total is None or self.reserved is None:
            return None
        return max(0, int((self.total - self.reserved) * self.allocation_ratio))


@dataclass(frozen=True, kw_only=True, slots=True)
class FlavorSlots:
    """How many more guests of a flavor fit, and the resource classes that limit it."""

    flavor: str
    slots: int
    limited_by: frozenset[AnyResourceClass]
    request: Mapping[AnyResourceClass, int]  # what one guest claims; classes without a claim are left out


@dataclass(frozen=True, kw_only=True, slots=True)
class Resources:
    """The fields of Nova's get_available_resource dictionary, and more fields of our own.

    None means not known: then there is no sample, never a zero.
    """

    # Nova's dictionary, with Nova's names and units (memory in MiB, disk in GiB).
    vcpus: int | None
    vcpus_used: int | None
    memory_mb: int | None
    memory_mb_used: int | None
    local_gb: int | None
    local_gb_used: int | None
    disk_available_least: int | None
    hypervisor_type: str | None
    hypervisor_version: int | None
    hypervisor_hostname: str
    cpu_info: CpuInfo | None
    numa_topology: tuple[HostNumaCell, ...] | None
    pci_passthrough_devices: tuple[PciDevice, ...] | None  # those that device_spec allows
    host_ip: str | None
    uuid: str | None

    # Our own fields.
    libvirt_version: int | None
    memory_size_bytes: int | None
    memory_available_bytes: int | None
    storage: Storage | None
    storage_identity: StorageIdentity | None  # also while the numbers are not known, if it once was found
    storage_overcommitted_bytes: int | None
    unsized_disks: int | None
    domains_by_state: Mapping[DomainState, int] | None
    running_vms: int | None
    domains_age_seconds: float | None  # age of the list of domains at the time of the other reads
    unread_guests: int | None
    outdated_guests: int | None
    inventories: tuple[Inventory, ...]  # of the classes that the host offers
    flavor_slots: tuple[FlavorSlots, ...]  # of the flavors for which it is known
    mdev_types: tuple[MdevType, ...] | None
    domains: DomainsReading | None  # what all numbers of guests were computed from, for collectors
    # What each guest claims, by UUID and class; classes without a claim are left out. None: not known.
    guest_claims: Mapping[str, Mapping[AnyResourceClass, int | None]] = field(default_factory=dict)
    held_pci_devices: frozenset[str] | None = (
        None  # addresses of PCI devices that guests have, running or not
    )
    unread_devices: int | None = None  # node devices that could not be read, or not all of it
    problems: tuple[Problem, ...] = ()
    ages: Mapping[str, float] = field(default_factory=dict)  # in seconds, of each source that has something
    parts: Mapping[str, object] = field(default_factory=dict)  # by source, what only its collectors use


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """A hypervisor's resources, their target, and their time in seconds since the epoch."""

    target: str
    resources: Resources
    timestamp_seconds: float
    labels: tuple[tuple[str, str], ...] = ()  # from the configuration: (("zone", "a"),)

    @property
    def ages(self) -> Mapping[str, float]:
        """By source, how many seconds before the snapshot the oldest of what counts was read."""
        return self.resources.ages

    def get_part(self, source: str, kind: type[T]) -> T | None:
        """Return what a source hands to collectors as it is; None where it has nothing, or is not read."""
        part = self.resources.parts.get(source)
        return part if isinstance(part, kind) else None


@dataclass(frozen=True, kw_only=True, slots=True)
class RefreshCost:
    """The cost of one refresh."""

    duration_seconds: float
    libvirt_calls: int
    guests_read: int


@dataclass(frozen=True, kw_only=True, slots=True)
class HostView:
    """What a scrape shows of one hypervisor: the state of its connection, and its snapshot."""

    target: str
    is_up: bool
    snapshot: Snapshot | None
    refresh: RefreshCost | None  # of the last refresh; None before the first one has ended
    is_refreshing: bool
    errors: Mapping[str, int]  # by reason; all counters start when the target is configured
    cache_hits: int
    driver: DriverStats
    problems: tuple[Problem, ...]  # the current problems
    age_seconds: float | None  # of the snapshot
    seconds_since_success: float | None  # since the last successful refresh; None if there was none
    hung_calls: int = 0  # the driver's hung calls, and refreshes past their timeout
    ignored: tuple[Ignored, ...] = ()  # what its nova_conf says in vain

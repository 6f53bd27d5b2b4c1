"""LibvirtDriver: reads one hypervisor and computes what Nova's driver of that name would answer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal, Protocol, TypeVar

from exporter.config.settings import HypervisorConfig
from exporter.errors import ConnectionLostError, UnsupportedError
from exporter.label import MAX_HOSTNAME_LENGTH, fit_label
from exporter.model import (
    Capabilities,
    Disk,
    DomainRecord,
    DriverStats,
    FreeNumaMemory,
    Guest,
    HostIdentity,
    ImageSize,
    NodeInfo,
    NodeMemory,
    Problem,
    Reading,
    Resources,
    Severity,
    Storage,
    StoragePool,
    UnsizedImage,
)
from exporter.virt.block_sizes import BlockHypervisor, BlockSizes
from exporter.virt.capabilities import get_capabilities
from exporter.virt.disks import ImageReader
from exporter.virt.files import Hung, PatientReader
from exporter.virt.guests import GuestCache
from exporter.virt.host_ip import get_host_ip
from exporter.virt.node_devices import NodeDeviceCache
from exporter.virt.numa import NumaMemory, has_outgrown
from exporter.virt.resources import get_available_resource
from exporter.virt.storage import (
    DEFAULT_INSTANCES_PATHS,
    StorageError,
    find_pool_info,
    get_instances_info,
    get_pools_info,
)
from exporter.virt.storage_commands import CommandReader, get_ceph_pool_info, get_volume_group_info

T = TypeVar("T")

# The capabilities change when a CPU or memory is plugged in, which virNodeGetInfo shows, or huge pages are
# set aside, which it does not. They are the slowest thing libvirt answers (0.4 s were seen).
CAPABILITIES_MAX_AGE_SECONDS = 600

# A size that libvirt told costs it 3 ms and a guest's job lock, so it is asked for again only this often.
BLOCK_SIZE_MAX_AGE_RESYNCS = 5


class Hypervisor(Protocol):
    """What the driver asks of a hypervisor; `virt.hypervisor.LibvirtHypervisor` says how each is meant."""

    calls: int
    events: int
    connects: int
    is_lost: bool

    @property
    def hung_openings(self) -> int: ...  # noqa: D102

    def connect(self) -> bool: ...  # noqa: D102
    def watch(self) -> None: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102
    def get_hostname(self) -> str: ...  # noqa: D102
    def get_type(self) -> str: ...  # noqa: D102
    def get_version(self) -> int: ...  # noqa: D102
    def get_libvirt_version(self) -> int: ...  # noqa: D102
    def get_capabilities_xml(self) -> str: ...  # noqa: D102
    def expand_cpu_features(self, cpu_xml: str) -> str: ...  # noqa: D102
    def get_node_info(self) -> NodeInfo: ...  # noqa: D102
    def get_node_memory(self) -> NodeMemory: ...  # noqa: D102
    def get_online_cpus(self) -> frozenset[int]: ...  # noqa: D102
    def get_cells_free_memory(self, first_cell: int, cells: int) -> tuple[int, ...]: ...  # noqa: D102
    def get_free_pages(  # noqa: D102
        self, sizes_kib: Sequence[int], first_cell: int, cells: int
    ) -> Mapping[int, Mapping[int, int]]: ...
    def list_domains(self) -> tuple[DomainRecord, ...]: ...  # noqa: D102
    def get_domain_xml(self, uuid: str) -> str: ...  # noqa: D102
    def list_active_pools(self) -> tuple[StoragePool, ...]: ...  # noqa: D102
    def list_active_pools_of(self, kind: Literal["logical", "rbd"]) -> tuple[StoragePool, ...]: ...  # noqa: D102
    def take_changed(self) -> frozenset[str]: ...  # noqa: D102
    def list_node_devices(self, capabilities: Collection[str]) -> tuple[str, ...]: ...  # noqa: D102
    def take_node_devices_changed(self) -> bool: ...  # noqa: D102


class LibvirtDriver:
    """Nova's LibvirtDriver, as far as it tells a host's resources.

    It keeps what does not change from one reading to the next: the connection, the capabilities, the guests'
    XML, the images' sizes. `get_available_resource` is not for two threads at once; what upkeep calls may
    run beside it.

    :param hypervisor: the connection that refreshes use
    :param block_hypervisor: another one to the same hypervisor, for calls that a frozen guest holds up
    :param clock: monotonic seconds
    """

    def __init__(
        self,
        hypervisor: Hypervisor,
        block_hypervisor: BlockHypervisor,
        config: HypervisorConfig,
        *,
        resync_interval: float,
        clock: Callable[[], float],
    ) -> None:
        self._hypervisor = hypervisor
        self._config = config
        self._clock = clock
        self._guests = GuestCache(
            read_xml=hypervisor.get_domain_xml, resync_interval=resync_interval, clock=clock
        )
        self._file_systems = PatientReader(get_instances_info, path=_instances_path)
        self._images = ImageReader()
        self._image_files = PatientReader(self._images.read, path=_image_path)
        self._block_sizes = BlockSizes(
            block_hypervisor, max_age=BLOCK_SIZE_MAX_AGE_RESYNCS * resync_interval, clock=clock
        )
        self._numa_memory = NumaMemory(hypervisor)
        self._storage_command = CommandReader(self._ask_storage_command, clock=clock)
        self._node_devices = NodeDeviceCache(
            hypervisor,
            device_specs=config.device_spec,
            enabled_mdev_types=config.enabled_mdev_types,
            clock=clock,
        )
        self._identity: HostIdentity | None = None
        self._capabilities: Capabilities | None = None
        self._capabilities_read_at = 0.0
        self._capabilities_node: NodeInfo | None = None

    def get_available_resource(self) -> Resources:
        """Read the hypervisor, connecting if need be, and return Nova's resource dictionary for it.

        :raises HypervisorError: when it cannot be reached or does not answer what everything depends on
        """
        is_new = self._connect()
        try:
            reading = self._read()
        except ConnectionLostError:
            # libvirtd was restarted since the last refresh: no reason to fail.
            if is_new:
                raise
            self._hypervisor.close()
            self._connect()
            reading = self._read()
        return get_available_resource(reading, self._config)

    def get_stats(self) -> DriverStats:
        """Return what was done so far."""
        return DriverStats(
            libvirt_calls=self._hypervisor.calls,
            guests_read=self._guests.guests_read,
            events=self._hypervisor.events,
            connects=self._hypervisor.connects,
            sizing_calls=self._block_sizes.calls,
            hung=self._hypervisor.hung_openings + self._file_systems.hung + self._image_files.hung,
        )

    def configure(self, *, resync_interval: float) -> None:
        """Read guests and sizes again after so many seconds from now on."""
        self._guests.configure(resync_interval=resync_interval)
        self._block_sizes.configure(max_age=BLOCK_SIZE_MAX_AGE_RESYNCS * resync_interval)

    def has_lost_connection(self) -> bool:
        """Whether libvirt has said that the connection is closed, so that what was read by it is history."""
        return self._hypervisor.is_lost

    def needs_resync(self) -> bool:
        """Whether a guest's XML is to be read again."""
        return self._guests.needs_resync()

    def resync(self) -> None:
        """Read the XML of such guests again."""
        self._guests.resync()

    def next_guest_to_size(self, leave_out: Collection[str]) -> str | None:
        """Return the UUID of a guest whose images libvirt is to be asked for."""
        return self._block_sizes.next_guest(leave_out)

    def size_guest(self, uuid: str) -> None:
        """Ask libvirt for a guest's images."""
        self._block_sizes.size_guest(uuid)

    def list_due(self) -> dict[str, Callable[[], None]]:
        """Return what else is to be read between scrapes, by what it is called; each may block for ever."""
        due: dict[str, Callable[[], None]] = {}
        if self._node_devices.needs_reading():
            due["node devices"] = self._node_devices.read
        if self._storage_command.needs_reading():
            due["storage command"] = self._storage_command.read
        return due

    def close(self) -> None:
        """Close the connections."""
        self._hypervisor.close()
        self._block_sizes.close()

    def _connect(self) -> bool:
        """Connect if need be. Nobody knows what was missed meanwhile: everything is read anew then."""
        if not self._hypervisor.connect():
            return False
        self._hypervisor.watch()
        self._identity = None
        self._capabilities = None
        self._guests.clear()
        self._numa_memory.clear()
        self._node_devices.clear()
        return True

    def _read(self) -> Reading:
        problems: list[Problem] = []
        hypervisor = self._hypervisor
        node = _supported(hypervisor.get_node_info, "virNodeGetInfo", problems)
        domains = hypervisor.list_domains()
        # Taken last: had the calls above failed, nobody would remember what the events spoke of.
        self._guests.reconcile(domains, hypervisor.take_changed())
        guests = self._guests.get_guests()
        problems.extend(self._guests.get_problems())
        problems.extend(self._node_devices.get_problems())
        capabilities = self._get_capabilities(node)
        return Reading(
            identity=self._get_identity(),
            capabilities=capabilities,
            node=node,
            node_memory=self._get_node_memory(),
            online_cpus=self._get_online_cpus(problems),
            free_numa_memory=self._get_free_numa_memory(capabilities, problems),
            node_devices=self._node_devices.get(),
            storage=self._get_storage(problems),
            domains=domains,
            guests=guests,
            images=self._get_images(guests),
            problems=tuple(problems),
        )

    def _get_identity(self) -> HostIdentity:
        if self._identity is None:
            hypervisor = self._hypervisor
            self._identity = HostIdentity(
                hostname=fit_label(hypervisor.get_hostname(), length=MAX_HOSTNAME_LENGTH),
                hypervisor_type=fit_label(hypervisor.get_type()),
                hypervisor_version=hypervisor.get_version(),
                libvirt_version=hypervisor.get_libvirt_version(),
                host_ip=self._config.my_ip or get_host_ip(self._config.uri),
            )
        return self._identity

    def _get_capabilities(self, node: NodeInfo | None) -> Capabilities:
        age = self._clock() - self._capabilities_read_at
        is_old = age >= CAPABILITIES_MAX_AGE_SECONDS or node != self._capabilities_node
        if self._capabilities is None or is_old:
            self._capabilities = get_capabilities(self._hypervisor)
            self._capabilities_read_at = self._clock()
            self._capabilities_node = node
        return self._capabilities

    def _get_node_memory(self) -> NodeMemory | None:
        """Return the memory statistics; None, without a word, from drivers that have none by design."""
        try:
            return self._hypervisor.get_node_memory()
        except UnsupportedError:
            return None

    def _get_online_cpus(self, problems: list[Problem]) -> frozenset[int] | None:
        config = self._config
        if not (config.vcpu_pin_set or config.cpu_shared_set or config.cpu_dedicated_set):
            return None
        return _supported(self._hypervisor.get_online_cpus, "virNodeGetCPUMap", problems)

    def _get_free_numa_memory(
        self, capabilities: Capabilities, problems: list[Problem]
    ) -> dict[int, FreeNumaMemory]:
        free = self._numa_memory.read(capabilities.cells, problems)
        if has_outgrown(capabilities.cells, free):
            self._capabilities = None  # to be read anew by the next refresh
        return free

    def _get_storage(self, problems: list[Problem]) -> Storage | None:
        config = self._config
        try:
            if not config.storage_pool and config.images_type in ("lvm", "rbd"):
                return self._get_back_end_info(problems)
            if config.storage_pool or not config.is_local:
                return get_pools_info(self._hypervisor.list_active_pools(), config.storage_pool)
            return self._get_instances_info()
        except StorageError as error:
            problems.append(
                Problem(severity=Severity.ERROR, reason="storage", subject="storage", message=str(error))
            )
            return None

    def _get_back_end_info(self, problems: list[Problem]) -> Storage:
        """Return what libvirt's storage pools say of the volume group or Ceph pool, else what a command does.

        :raises StorageError: when neither can tell, or not yet
        """
        config = self._config
        is_lvm = config.images_type == "lvm"
        pools = self._hypervisor.list_active_pools_of("logical" if is_lvm else "rbd")
        source_name = (config.images_volume_group or "") if is_lvm else config.images_rbd_pool
        storage = find_pool_info(pools, source_name)
        if storage is not None:
            return storage
        if is_lvm and not config.is_local:
            names = ", ".join(str(pool.source_name) for pool in pools) or "none"
            raise StorageError(
                f"images_volume_group {source_name}: no active storage pool has it (there are: {names}),"
                " and vgs can be asked on the hypervisor itself only"
            )
        return self._storage_command.get(problems)

    def _ask_storage_command(self) -> Storage:
        config = self._config
        if config.images_type == "lvm":
            return get_volume_group_info(config.images_volume_group or "")
        return get_ceph_pool_info(
            config.images_rbd_pool, user=config.rbd_user, ceph_conf=config.images_rbd_ceph_conf
        )

    def _get_instances_info(self) -> Storage:
        """Return the instances path's numbers.

        :raises StorageError: also when its file system does not answer
        """
        (info,) = self._file_systems.run([self._config.instances_path])
        if isinstance(info, Hung):
            raise StorageError(f"instances_path {info.path}: its file system does not answer")
        return info

    def _get_images(self, guests: Mapping[str, Guest | None]) -> dict[str, list[ImageSize | UnsizedImage]]:
        """Return every image's size: what this process can read by itself, else what libvirt said of it."""
        disks = [
            (guest.uuid, disk) for guest in guests.values() if guest is not None for disk in guest.images
        ]
        sizes = self._read_images([disk for _, disk in disks])
        left: dict[str, list[Disk]] = {}
        images: dict[str, list[ImageSize | UnsizedImage]] = {
            guest.uuid: [] for guest in guests.values() if guest is not None
        }
        for (uuid, disk), size in zip(disks, sizes, strict=True):
            if size is None:
                left.setdefault(uuid, []).append(disk)
            images[uuid].append(self._block_sizes.get(uuid, disk) if size is None else size)
        self._block_sizes.want(left)
        return images

    def _read_images(self, disks: Sequence[Disk]) -> list[ImageSize | UnsizedImage | None]:
        """Return each image's size out of its file; None for one that this process may not read."""
        if not self._config.is_local:
            return [None] * len(disks)
        self._images.forget_others({disk.path for disk in disks if disk.path})
        return [
            UnsizedImage(f"{size.path}: its file system does not answer") if isinstance(size, Hung) else size
            for size in self._image_files.run(disks)
        ]


def _image_path(disk: Disk) -> str:
    return disk.path or ""


def _instances_path(configured: str | None) -> str:
    return configured or DEFAULT_INSTANCES_PATHS[0]


def _supported(read: Callable[[], T], call: str, problems: list[Problem]) -> T | None:
    """Return what the call reads; None and a problem where the hypervisor's driver has no such call."""
    try:
        return read()
    except UnsupportedError as error:
        problems.append(
            Problem(severity=Severity.NOTE, reason="unsupported", subject=call, message=f"{call}: {error}")
        )
        return None

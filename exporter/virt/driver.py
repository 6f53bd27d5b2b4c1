"""LibvirtDriver: reads one hypervisor and computes what Nova's driver of that name would answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from exporter.config.settings import HypervisorConfig
from exporter.errors import ConnectionLostError, HypervisorError, NoAnswerError, UnsupportedError
from exporter.label import MAX_HOSTNAME_LENGTH, fit_label
from exporter.model import (
    Capabilities,
    Disk,
    DomainRecord,
    DomainsReading,
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
from exporter.virt.capabilities import get_capabilities
from exporter.virt.connections import (
    MAX_STORAGE_CONNECTIONS,
    BorrowedHypervisor,
    Connections,
    StorageHypervisor,
    WaitingHypervisor,
)
from exporter.virt.contribution import Contributions
from exporter.virt.daemons import STORAGE, explain_silence
from exporter.virt.disks import ImageReader, UnopenedImage
from exporter.virt.files import FileReader, Hung, HungReads
from exporter.virt.guest_cache import GuestCache
from exporter.virt.guest_calls import REMOTE_TIMEOUT_SECONDS, TIMEOUT_SECONDS, GuestCalls
from exporter.virt.host_ip import get_host_ip
from exporter.virt.image_sizes import ImageSizes, WantedImage
from exporter.virt.node_devices import NodeDeviceCache, NodeDeviceHypervisor
from exporter.virt.numa import NumaMemory, has_outgrown
from exporter.virt.refresh_timeout import RefreshTimeout
from exporter.virt.resources import get_available_resource
from exporter.virt.slow_calls import Answer, SlowCall
from exporter.virt.storage import (
    DEFAULT_INSTANCES_PATHS,
    StorageError,
    find_pool_info,
    get_instances_info,
    get_pools_info,
)
from exporter.virt.storage_commands import CommandReader, get_ceph_pool_info, get_volume_group_info
from exporter.virt.volumes import VolumeSizes

T = TypeVar("T")

# The capabilities change when a CPU or memory is plugged in, which virNodeGetInfo shows, or huge pages are
# set aside, which it does not. They are the slowest thing libvirt answers (0.4 s were seen).
CAPABILITIES_MAX_AGE_SECONDS = 600

# An image's size changes hardly ever, so libvirt is asked for it again only this often.
IMAGE_SIZE_MAX_AGE_RESYNCS = 5

_WHY_NO_LIST = (
    "libvirt waits, for one, while it ends the process of a frozen guest, which may take a minute:"
    " look for a guest that is being destroyed"
)

# For so long the last answer about storage pools counts while there is no new one.
POOLS_MAX_AGE_SECONDS = 300.0


class NodeHypervisor(Protocol):
    """What a refresh asks on its own connection: calls about the host, which wait for nobody.

    libvirtd answers them even when all its workers wait for guests (they are of high priority in libvirt's
    remote_protocol.x). `exporter.virt.hypervisor.LibvirtHypervisor` says how each is meant. Every other call
    is made over connections that are lent for it (`exporter.virt.connections`).
    """

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
    def get_node_info(self) -> NodeInfo: ...  # noqa: D102
    def get_node_memory(self) -> NodeMemory: ...  # noqa: D102
    def get_cells_free_memory(self, first_cell: int, cells: int) -> tuple[int, ...]: ...  # noqa: D102
    def get_free_pages(  # noqa: D102
        self, sizes_kib: Sequence[int], first_cell: int, cells: int
    ) -> Mapping[int, Mapping[int, int]]: ...
    def take_changed(self) -> frozenset[str]: ...  # noqa: D102


class LibvirtDriver:
    """Nova's LibvirtDriver, as far as it tells a host's resources.

    It keeps what does not change from one reading to the next: the connection, the capabilities, the guests'
    XML, the images' sizes. `get_available_resource` is not for two threads at once; what `list_due` returns
    may run beside it.

    :param hypervisor: the connection that refreshes use
    :param make_connection: makes another one to the same hypervisor, for calls that may wait
    :param node_device_hypervisor: one more, for node devices and what libvirt tells of them
    :param stale_grace: seconds for which the last list of domains counts while libvirt gives no new one
    :param clock: monotonic seconds
    :param lend: makes what lends connections and begins calls over them, as `Connections` does
    """

    def __init__(
        self,
        hypervisor: NodeHypervisor,
        make_connection: Callable[[], BorrowedHypervisor],
        node_device_hypervisor: NodeDeviceHypervisor,
        config: HypervisorConfig,
        *,
        resync_interval: float,
        stale_grace: float,
        clock: Callable[[], float],
        lend: Callable[..., Connections[Any]] = Connections,
    ) -> None:
        self._hypervisor = hypervisor
        self._config = self._next_config = config
        self._clock = clock
        self._connections: Connections[WaitingHypervisor] = lend(make_connection, clock=clock)
        self._storage_connections: Connections[StorageHypervisor] = lend(
            make_connection, clock=clock, maximum=MAX_STORAGE_CONNECTIONS
        )
        self._guest_calls = GuestCalls(
            self._connections,
            clock=clock,
            timeout=TIMEOUT_SECONDS if config.is_local else REMOTE_TIMEOUT_SECONDS,
        )
        self._domains = SlowCall(
            self._connections,
            lambda connection: connection.list_domains(),
            what="the list of domains",
            max_age=stale_grace,
            clock=clock,
        )
        self._online_cpus = SlowCall(
            self._connections,
            lambda connection: connection.get_online_cpus(),
            what="the online CPUs",
            max_age=stale_grace,
            clock=clock,
        )
        self._new_capabilities = SlowCall(
            self._connections, get_capabilities, what="the capabilities", max_age=math.inf, clock=clock
        )
        self._pools = SlowCall(
            self._storage_connections,
            self._list_pools,
            what="the list of storage pools",
            max_age=POOLS_MAX_AGE_SECONDS,
            clock=clock,
        )
        self._guests = GuestCache(self._guest_calls, resync_interval=resync_interval, clock=clock)
        self._hung_reads = HungReads()
        self._file_systems = FileReader(
            get_instances_info, path=_instances_path, hung=self._hung_reads, clock=clock
        )
        self._images = ImageReader()
        self._image_files = FileReader(
            self._images.read, path=_image_path, hung=self._hung_reads, clock=clock
        )
        self._refresh_timeout = RefreshTimeout(clock=clock)
        self._volume_sizes = VolumeSizes(self._storage_connections)
        self._image_sizes = ImageSizes(
            self._guest_calls,
            self._volume_sizes,
            max_age=IMAGE_SIZE_MAX_AGE_RESYNCS * resync_interval,
            clock=clock,
        )
        self._contributions = Contributions()
        self._numa_memory = NumaMemory(hypervisor)
        self._storage_command = CommandReader(self._ask_storage_command, clock=clock)
        self._node_devices = NodeDeviceCache(
            node_device_hypervisor,
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
        self._take_settings()
        self._refresh_timeout = RefreshTimeout(clock=self._clock, begin_others=self._begin_slow_calls)
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
        return get_available_resource(reading, self._config, self._contributions)

    def get_stats(self) -> DriverStats:
        """Return what was done so far."""
        hypervisor = self._hypervisor
        connections, storage_connections = self._connections, self._storage_connections
        return DriverStats(
            libvirt_calls=sum(
                each.calls for each in (hypervisor, connections, storage_connections, self._node_devices)
            ),
            guests_read=self._guests.guests_read,
            events=hypervisor.events,
            connects=hypervisor.connects,
            hung=sum(
                (
                    hypervisor.hung_openings,
                    connections.hung_openings,
                    storage_connections.hung_openings,
                    self._domains.hung,
                    self._online_cpus.hung,
                    self._new_capabilities.hung,
                    self._pools.hung,
                    self._volume_sizes.hung,
                    self._guest_calls.hung,
                    self._node_devices.hung,
                    len(self._hung_reads),
                )
            ),
        )

    def configure(self, *, resync_interval: float, stale_grace: float) -> None:
        """Go by these times from now on, as `__init__` has them."""
        self._guests.configure(resync_interval=resync_interval)
        self._image_sizes.configure(max_age=IMAGE_SIZE_MAX_AGE_RESYNCS * resync_interval)
        self._domains.configure(max_age=stale_grace)
        self._online_cpus.configure(max_age=stale_grace)

    def reconfigure(self, config: HypervisorConfig) -> None:
        """Go by these settings from the next reading on; they have the same URI.

        What was read of libvirt is kept, and so is what waits for an answer: neither depends on them.
        """
        self._next_config = config

    def has_lost_connection(self) -> bool:
        """Whether libvirt has said that the connection is closed, so that what was read by it is history."""
        return self._hypervisor.is_lost

    def list_due(self) -> dict[str, Callable[[], None]]:
        """Return what is to be read between scrapes, by what it is called; each may block for ever."""
        due: dict[str, Callable[[], None]] = {}
        if self._guests.needs_resync():
            due["guests"] = self._guests.resync
        if self._image_sizes.needs_reading():
            due["image sizes"] = self._image_sizes.read
        if self._node_devices.needs_reading():
            due["node devices"] = self._node_devices.read
        if self._storage_command.needs_reading():
            due["storage command"] = self._storage_command.read
        return due

    def close(self) -> None:
        """Close the connections."""
        self._hypervisor.close()
        self._connections.close()
        self._storage_connections.close()
        self._node_devices.close()

    def _take_settings(self) -> None:
        """Take what `reconfigure` was given, in the thread of the reading, so that each is by one config."""
        before, config = self._config, self._next_config
        if config is before:
            return
        self._config = config
        self._identity = None
        if _storage_options(config) != _storage_options(before):
            self._pools.forget()
            self._storage_command = CommandReader(self._ask_storage_command, clock=self._clock)
        self._node_devices.configure(
            device_specs=config.device_spec, enabled_mdev_types=config.enabled_mdev_types
        )

    def _connect(self) -> bool:
        """Connect if need be. Nobody knows what was missed meanwhile: everything is read anew then."""
        if not self._hypervisor.connect():
            return False
        self._hypervisor.watch()
        self._connections.open()
        self._identity = None
        self._capabilities = None
        self._domains.abandon()
        self._online_cpus.abandon()
        self._new_capabilities.abandon()
        self._pools.abandon()
        self._guest_calls.clear()
        self._guests.expire()
        self._numa_memory.clear()
        self._node_devices.clear()
        return True

    def _read(self) -> Reading:
        problems: list[Problem] = []
        hypervisor = self._hypervisor
        identity = self._get_identity()
        self._guests.note_libvirt_version(identity.libvirt_version)
        node = _supported(hypervisor.get_node_info, "virNodeGetInfo", problems)
        domains = self._read_domains(problems)
        problems.extend(self._guests.get_problems())
        problems.extend(self._node_devices.get_problems())
        if self._capabilities is None and domains is not None:
            # Waited for: libvirtd may have to find out about QEMU first, which takes it seconds, once.
            self._keep_capabilities(self._connections.run(get_capabilities), node)
        capabilities = self._get_capabilities(node)
        return Reading(
            identity=identity,
            capabilities=capabilities,
            node=node,
            node_memory=self._get_node_memory(),
            online_cpus=self._get_online_cpus(problems),
            free_numa_memory=self._get_free_numa_memory(capabilities, problems) if capabilities else {},
            node_devices=self._node_devices.get(),
            storage=self._get_storage(problems),
            domains=domains,
            problems=tuple(problems),
        )

    def _read_domains(self, problems: list[Problem]) -> DomainsReading | None:
        """Return the domains and what is known of each; None where there is no list that counts."""
        listed = self._list_domains(problems)
        if listed is None:
            return None
        # Taken only now: had the list failed, nobody would remember what the events spoke of.
        self._guests.reconcile(listed.value, self._hypervisor.take_changed())
        guests = self._guests.get_guests()
        return DomainsReading(
            domains=listed.value,
            guests=guests,
            images=self._get_images(guests),
            age_seconds=listed.age_seconds,
            unread_guests=self._guests.count_unread(),
            outdated_guests=self._guests.count_outdated(),
        )

    def _list_domains(self, problems: list[Problem]) -> Answer[tuple[DomainRecord, ...]] | None:
        """Return the domains, as last listed while libvirt gives no list; None when no list counts.

        It waits for libvirtd to end a guest's process, which may take a minute: then nobody gets a list.
        """
        try:
            listed = self._domains.get(self._refresh_timeout)
        except NoAnswerError as error:
            listed = None
            message = f"{error}. Until then nobody knows the guests and what they use: only what the host"
            message += " itself tells is shown"
        else:
            message = "libvirt gives no list of domains now; the last list counts"
        if listed is None or listed.age_seconds:
            problems.append(
                Problem(
                    severity=Severity.ERROR,
                    reason="domains",
                    subject="",
                    message=f"{message}. {_WHY_NO_LIST}",
                )
            )
        return listed

    def _begin_slow_calls(self) -> None:
        """Begin, beside a call that takes long, what this refresh is going to ask after it."""
        if self._capabilities is None:
            self._new_capabilities.begin(self._refresh_timeout)
        if _needs_online_cpus(self._config):
            self._online_cpus.begin(self._refresh_timeout)
        if _needs_pools(self._config):
            self._pools.begin(self._refresh_timeout)

    def _list_pools(self, connection: StorageHypervisor) -> tuple[StoragePool, ...]:
        """Return the storage pools among which those are that the configuration means."""
        config = self._config
        if config.storage_pool or config.images_type not in ("lvm", "rbd"):
            return connection.list_active_pools()
        return connection.list_active_pools_of("logical" if config.images_type == "lvm" else "rbd")

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

    def _get_capabilities(self, node: NodeInfo | None) -> Capabilities | None:
        """Return the capabilities, read anew when they are old, and if libvirt answers."""
        known = self._capabilities
        age = self._clock() - self._capabilities_read_at
        is_young = age < CAPABILITIES_MAX_AGE_SECONDS and node == self._capabilities_node
        if known is not None and is_young:
            return known
        try:
            answer = self._new_capabilities.get(self._refresh_timeout)
        except NoAnswerError:
            return known
        return known if answer.age_seconds else self._keep_capabilities(answer.value, node)

    def _keep_capabilities(self, capabilities: Capabilities, node: NodeInfo | None) -> Capabilities:
        self._capabilities = capabilities
        self._capabilities_read_at = self._clock()
        self._capabilities_node = node
        return capabilities

    def _get_node_memory(self) -> NodeMemory | None:
        """Return the memory statistics; None, without a word, from drivers that have none by design."""
        try:
            return self._hypervisor.get_node_memory()
        except UnsupportedError:
            return None

    def _get_online_cpus(self, problems: list[Problem]) -> frozenset[int] | None:
        if not _needs_online_cpus(self._config):
            return None
        try:
            return _supported(
                lambda: self._online_cpus.get(self._refresh_timeout).value, "virNodeGetCPUMap", problems
            )
        except NoAnswerError as error:
            message = f"{error}. Until then the CPU sets count as they are configured"
            problems.append(
                Problem(severity=Severity.ERROR, reason=error.reason, subject="online CPUs", message=message)
            )
            return None

    def _get_free_numa_memory(
        self, capabilities: Capabilities, problems: list[Problem]
    ) -> dict[int, FreeNumaMemory]:
        free = self._numa_memory.read(capabilities.cells, problems)
        if has_outgrown(capabilities.cells, free):
            self._capabilities_read_at = -math.inf  # to be read anew by the next refresh
        return free

    def _get_storage(self, problems: list[Problem]) -> Storage | None:
        config = self._config
        try:
            if not config.storage_pool and config.images_type in ("lvm", "rbd"):
                return self._get_back_end_info(problems)
            if _needs_pools(config):
                return get_pools_info(self._get_pools(problems), config.storage_pool)
            return self._get_instances_info()
        except StorageError as error:
            reason, message = "storage", str(error)
        except ConnectionLostError:
            raise
        except NoAnswerError as error:
            reason, message = "storage", f"{error}. Where {STORAGE} runs, it may be what hangs"
        except HypervisorError as error:
            reason, message = error.reason, f"storage pools cannot be read: {error}"
        problems.append(Problem(severity=Severity.ERROR, reason=reason, subject="storage", message=message))
        return None

    def _get_pools(self, problems: list[Problem]) -> tuple[StoragePool, ...]:
        """Return the storage pools, as last told while libvirt gives no answer.

        :raises NoAnswerError: when there is no such answer, or it is too old
        """
        pools = self._pools.get(self._refresh_timeout)
        if pools.age_seconds:
            message = explain_silence(STORAGE, "the list of storage pools", pools.age_seconds)
            problems.append(
                Problem(severity=Severity.ERROR, reason="storage", subject="pools", message=message)
            )
        return pools.value

    def _get_back_end_info(self, problems: list[Problem]) -> Storage:
        """Return what libvirt's storage pools say of the volume group or Ceph pool, else what a command does.

        :raises StorageError: when neither can tell, or not yet
        """
        config = self._config
        is_lvm = config.images_type == "lvm"
        pools = self._get_pools(problems)
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
        (info,) = self._file_systems.run([self._config.instances_path], self._refresh_timeout)
        if isinstance(info, Hung):
            raise StorageError(f"instances_path {info.path}: its file system does not answer")
        return info

    def _get_images(self, guests: Mapping[str, Guest | None]) -> dict[str, list[ImageSize | UnsizedImage]]:
        """Return every image's size: what this process can read by itself, else what libvirt said of it."""
        disks = [
            (guest.uuid, disk) for guest in guests.values() if guest is not None for disk in guest.images
        ]
        sizes = self._read_images([disk for _, disk in disks])
        wanted: dict[str, list[WantedImage]] = {}
        images: dict[str, list[ImageSize | UnsizedImage]] = {
            guest.uuid: [] for guest in guests.values() if guest is not None
        }
        for (uuid, disk), size in zip(disks, sizes, strict=True):
            if isinstance(size, ImageSize | UnsizedImage):
                images[uuid].append(size)
                continue
            image = WantedImage(disk, size)
            wanted.setdefault(uuid, []).append(image)
            images[uuid].append(self._image_sizes.get(uuid, image))
        self._image_sizes.want(wanted)
        return images

    def _read_images(self, disks: Sequence[Disk]) -> list[ImageSize | UnsizedImage | UnopenedImage | None]:
        """Return what this process sees of each image; None for one of which it sees nothing."""
        if not self._config.is_local:
            return [None] * len(disks)
        self._images.forget_others({disk.path for disk in disks if disk.path})
        return [
            UnsizedImage(f"{size.path}: its file system does not answer") if isinstance(size, Hung) else size
            for size in self._image_files.run(disks, self._refresh_timeout)
        ]


def _storage_options(config: HypervisorConfig) -> tuple[object, ...]:
    """Return the settings that decide what storage pools and commands are asked."""
    return (
        config.storage_pool,
        config.images_type,
        config.images_volume_group,
        config.images_rbd_pool,
        config.images_rbd_ceph_conf,
        config.rbd_user,
    )


def _needs_online_cpus(config: HypervisorConfig) -> bool:
    return bool(config.vcpu_pin_set or config.cpu_shared_set or config.cpu_dedicated_set)


def _needs_pools(config: HypervisorConfig) -> bool:
    return bool(config.storage_pool) or not config.is_local or config.images_type in ("lvm", "rbd")


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

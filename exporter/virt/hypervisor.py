"""The libvirt boundary: the only module that imports libvirt.

One `LibvirtHypervisor` is one read-only connection. Every call may block as long as libvirtd does. So calls
are made only in threads that are waited for with a timeout.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial, reduce
from operator import or_
from pathlib import Path
from typing import Any, Literal, TypeVar

from exporter.config.libvirt_uri import hide_user, redact_in
from exporter.descriptors import Descriptors, DescriptorsError
from exporter.errors import (
    BusyError,
    ConnectError,
    ConnectionLostError,
    DaemonError,
    DeniedError,
    GoneError,
    HypervisorError,
    LibvirtMissingError,
    ThreadLimitError,
    UnsupportedError,
)
from exporter.model import (
    DomainInfo,
    DomainRecord,
    DomainState,
    ImageSize,
    NodeInfo,
    NodeMemory,
    PoolSource,
    StoragePool,
    UnreadDevice,
    UnreadPool,
)
from exporter.recorder import CALL, Recorder
from exporter.virt.calls import OnEvent, StatisticsGroup
from exporter.virt.connecting import advise, find_test_file, has_daemon
from exporter.virt.daemons import (
    NODE_DEVICES,
    STORAGE,
    explain_denied,
    explain_unreachable,
    is_forbidden,
)
from exporter.virt.libvirt_log import redirect_libvirt_log
from exporter.virt.missing import explain_missing
from exporter.virt.opening import OPENINGS, OpeningTimeoutError
from exporter.virt.storage.file_system import StorageError
from exporter.virt.storage.pools import parse_pool_source

try:
    with redirect_libvirt_log():
        import libvirt
except ImportError as error:
    raise LibvirtMissingError(explain_missing(error)) from error

T = TypeVar("T")

PoolKind = Literal["logical", "rbd"]  # libvirt's types of storage pools in LVM and in Ceph

log = logging.getLogger(__name__)

KEEPALIVE_INTERVAL_SECONDS = 5
KEEPALIVE_COUNT = 3

_OPENINGS_CHECK_MILLISECONDS = 5000

# A monitor that has not answered for this long is not just busy with another request.
BUSY_MILLISECONDS = 500

_GONE = {
    libvirt.VIR_ERR_NO_DOMAIN,
    libvirt.VIR_ERR_NO_STORAGE_POOL,
    libvirt.VIR_ERR_NO_STORAGE_VOL,
    libvirt.VIR_ERR_NO_NODE_DEVICE,
    libvirt.VIR_ERR_OPERATION_INVALID,
}
_UNSUPPORTED = {
    libvirt.VIR_ERR_NO_SUPPORT,
    libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED,
    libvirt.VIR_ERR_OPERATION_UNSUPPORTED,
}
_LOST = {libvirt.VIR_ERR_INVALID_CONN, libvirt.VIR_ERR_RPC}
_DENIED = {
    libvirt.VIR_ERR_ACCESS_DENIED,
    libvirt.VIR_ERR_AUTH_CANCELLED,
    libvirt.VIR_ERR_AUTH_FAILED,
    libvirt.VIR_ERR_AUTH_UNAVAILABLE,
    libvirt.VIR_ERR_OPERATION_DENIED,
}

# libvirt-python decodes in C. Where a message of libvirt is not UTF-8, its error handler fails, and Python
# raises SystemError instead of libvirtError. Where an answer is not UTF-8, it raises UnicodeDecodeError.
_UNDECODABLE = (SystemError, UnicodeError)

# We never prompt for a name and a password. But only with a callback libvirt chooses a method that needs
# them, and then it reads them from its auth.conf first (https://libvirt.org/auth.html).
_CREDENTIALS = [
    [libvirt.VIR_CRED_AUTHNAME, libvirt.VIR_CRED_PASSPHRASE],
    lambda _credentials, _opaque: -1,
    None,
]

# A guest's XML is read again after any of these. Hot-plugged vCPUs send no event at all, and changes of a
# shut-off domain's configuration (`--config`) almost none. The periodic resync finds those.
_GUEST_EVENTS = (
    libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE,
    libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED,
    libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED,
    libvirt.VIR_DOMAIN_EVENT_ID_DISK_CHANGE,
    libvirt.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE,
    libvirt.VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE,
    libvirt.VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2,
    libvirt.VIR_DOMAIN_EVENT_ID_MEMORY_DEVICE_SIZE_CHANGE,
)
# These say what happened to a guest, and change nothing of its XML.
_OTHER_GUEST_EVENTS = (
    libvirt.VIR_DOMAIN_EVENT_ID_WATCHDOG,
    libvirt.VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON,
)

_NODE_DEVICE_EVENTS = (
    libvirt.VIR_NODE_DEVICE_EVENT_ID_LIFECYCLE,
    libvirt.VIR_NODE_DEVICE_EVENT_ID_UPDATE,
)
_POOL_FLAGS: Mapping[PoolKind, int] = {
    "logical": libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_LOGICAL,
    "rbd": libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_RBD,
}
_STATISTICS_FLAGS: Mapping[StatisticsGroup, int] = {
    "balloon": libvirt.VIR_DOMAIN_STATS_BALLOON,
    "block": libvirt.VIR_DOMAIN_STATS_BLOCK,
    "interface": libvirt.VIR_DOMAIN_STATS_INTERFACE,
}
_NODE_DEVICE_FLAGS = {
    # The cards, and what was made of them.
    "mdev_types": libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_MDEV_TYPES
    | libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_MDEV,
    "net": libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_NET,
    "pci": libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_PCI_DEV,
    "vdpa": libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_VDPA,
}


def start_event_loop() -> None:
    """Start libvirt's event loop in its own thread. Call it once, before the first connection.

    Events and keep-alive work only while it runs (virEventRegisterDefaultImpl, virEventRunDefaultImpl).
    This also stops libvirt from printing every error to standard error: errors are raised.
    """
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    libvirt.virEventRegisterDefaultImpl()
    libvirt.virEventAddTimeout(
        _OPENINGS_CHECK_MILLISECONDS, lambda _timer, _opaque: OPENINGS.end_overdue(), None
    )
    threading.Thread(target=_run_event_loop, name="libvirt-events", daemon=True).start()


def _run_event_loop() -> None:
    while True:
        _run_event_loop_once()


def _run_event_loop_once() -> None:
    try:
        libvirt.virEventRunDefaultImpl()
    except (libvirt.libvirtError, *_UNDECODABLE) as error:
        # The loop must continue: without it dead connections are not detected.
        log.error("libvirt's event loop failed", extra={"error": _message(error)})
        time.sleep(1)


class LibvirtHypervisor:
    """A read-only connection to the hypervisor at `uri`, opened by `connect` and again after it was lost.

    `disconnect` releases the connection, and the next `connect` opens another one. `close` is final: after it
    `connect` raises ConnectionLostError, and a connection that is being opened is released when it is there.

    :param recorder: takes down each call
    :param descriptors: shared by all connections of the process
    :ivar calls: libvirt calls made so far that ask the daemon something.
    :ivar events: domain events received so far.
    :ivar connects: connections opened so far.
    :ivar is_lost: whether libvirt reported that the connection is closed.
    """

    def __init__(
        self, uri: str, recorder: Recorder | None = None, descriptors: Descriptors | None = None
    ) -> None:
        self._uri = uri
        self._descriptors = descriptors or Descriptors()
        self._recorder = recorder or Recorder(clock=time.monotonic)
        self._is_opening = False
        self._connect_lock = threading.Lock()
        # libvirt's client before 10.4 (CVE-2024-4418) may crash the process if two threads are in calls on
        # one connection: a woken thread leaves a watch that points into its stack.
        self._call_lock = threading.Lock()
        # Held only for moments, never during a call.
        self._state_lock = threading.Lock()
        self._is_closed = False
        self._connection: libvirt.virConnect | None = None
        self._deregistrations: list[Callable[[], None]] = []
        self._domains: dict[str, libvirt.virDomain] = {}
        self._on_changed: Callable[[str], None] = lambda _uuid: None
        self._on_event: OnEvent = lambda _uuid, _event, _details: None
        self._have_node_devices_changed = False
        self._changed_lock = threading.Lock()
        self.calls = 0
        self.events = 0
        self.connects = 0
        self.is_lost = False

    @property
    def hung_openings(self) -> int:
        """How many connections are being opened, including one that may never be answered: 0 or 1."""
        return int(self._is_opening)

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, and libvirt has not reported that it is closed."""
        return self._connection is not None and not self.is_lost

    def connect(self) -> bool:
        """Open the connection unless it is open and alive. Return whether it is new.

        :raises ConnectError: if libvirt refuses or cannot be reached
        :raises ConnectionLostError: if it was closed
        """
        with self._connect_lock:
            current = self._connection
            if current is not None:
                if _is_alive(current) and not self.is_lost:
                    return False
                del current
                self.disconnect()
            if self._is_closed:
                raise ConnectionLostError("closed")
            self.calls += 1
            self._is_opening = True
            try:
                connection = OPENINGS.run(self._open)
            except (libvirt.libvirtError, SystemError, ValueError) as error:
                # ValueError: a path with a null byte, or what is not UTF-8.
                message = self._describe(error)
                raise ConnectError(
                    message, advice=advise(self._uri, message, _error_number(error))
                ) from error
            except OSError as error:
                message = f"{os.fsdecode(error.filename)} cannot be read: {error.strerror}"
                raise ConnectError(message, advice=advise(self._uri, message, 0)) from error
            except (OpeningTimeoutError, DescriptorsError) as error:
                raise ConnectError(str(error)) from error
            finally:
                self._is_opening = False
            if not self._take(connection):
                del connection  # the error's traceback would keep it open
                raise ConnectionLostError("closed")
            self.is_lost = False
            self.connects += 1
            # Not every driver has these: drivers without a connection refuse both.
            with self._call_lock:
                is_released = self._connection is not connection
                if not is_released:
                    _ignore_errors(connection.setKeepAlive, KEEPALIVE_INTERVAL_SECONDS, KEEPALIVE_COUNT)
                    _ignore_errors(connection.registerCloseCallback, self._on_close, None)
            return True

    def _take(self, connection: Any) -> bool:
        """Use this connection from now on, unless `close` was first. Return whether it is used."""
        with self._state_lock:
            if not self._is_closed:
                self._connection = connection
            return not self._is_closed

    def watch(self, on_changed: Callable[[str], None], on_event: OnEvent) -> frozenset[int]:
        """Subscribe to events of guests. Return those that the driver has (virDomainEventID).

        Both functions are called in the thread of libvirt's event loop.

        :param on_changed: called with the UUID of a guest whose XML may have changed
        :param on_event: called with the UUID, the event and its details, for every event
        """
        self._on_changed, self._on_event = on_changed, on_event
        connection = self._connection
        if connection is None:
            return frozenset()
        register, deregister = connection.domainEventRegisterAny, connection.domainEventDeregisterAny
        return frozenset(
            event
            for event in (*_GUEST_EVENTS, *_OTHER_GUEST_EVENTS)
            if self._register(
                connection,
                "virConnectDomainEventRegisterAny",
                register,
                deregister,
                event,
                partial(self._on_guest_event, event),
            )
        )

    def watch_node_devices(self) -> None:
        """Subscribe to events of node devices. This waits for the daemon that has them."""
        connection = self._connection
        if connection is None:
            return
        register, deregister = connection.nodeDeviceEventRegisterAny, connection.nodeDeviceEventDeregisterAny
        for event in _NODE_DEVICE_EVENTS:
            self._register(
                connection,
                "virConnectNodeDeviceEventRegisterAny",
                register,
                deregister,
                event,
                self._on_node_device_event,
            )

    def disconnect(self) -> None:
        """Release the connection, dead or alive, and forget what was read over it.

        The last reference closes it: virConnectClose frees it even while another thread is in a call, for
        example for the size of an image.
        """
        with self._state_lock:
            connection, self._connection = self._connection, None
        self._domains = {}
        if connection is None:
            return
        with self._call_lock:
            deregistrations, self._deregistrations = self._deregistrations, []
            # libvirt keeps a connection open as long as a callback refers to it.
            for deregister in (connection.unregisterCloseCallback, *deregistrations):
                _ignore_errors(deregister)

    def forbid_connecting(self) -> None:
        """Let `connect` raise ConnectionLostError from now on. This does not wait for anything.

        A connection that is being opened, also since a long time, is released when it is there.
        """
        with self._state_lock:
            self._is_closed = True

    def close(self) -> None:
        """Release the connection for good. May block for ever, as any call."""
        self.forbid_connecting()
        self.disconnect()

    def get_hostname(self) -> str:
        """Return virConnectGetHostname."""
        return str(self._ask("virConnectGetHostname", lambda connection: connection.getHostname()))

    def get_type(self) -> str:
        """Return virConnectGetType: "QEMU", "TEST", …."""
        return str(self._ask("virConnectGetType", lambda connection: connection.getType()))

    def get_version(self) -> int:
        """Return virConnectGetVersion: major * 1,000,000 + minor * 1,000 + release of the hypervisor."""
        return int(self._ask("virConnectGetVersion", lambda connection: connection.getVersion()))

    def get_libvirt_version(self) -> int:
        """Return virConnectGetLibVersion: like `get_version`, for the libvirt on the hypervisor."""
        return int(self._ask("virConnectGetLibVersion", lambda connection: connection.getLibVersion()))

    def get_capabilities_xml(self) -> str:
        """Return virConnectGetCapabilities. Slow: it took libvirtd up to 0.4 s."""
        return str(self._ask("virConnectGetCapabilities", lambda connection: connection.getCapabilities()))

    def get_node_info(self) -> NodeInfo:
        """Return virNodeGetInfo.

        :raises UnsupportedError: when the driver has no such call
        """
        info = self._ask("virNodeGetInfo", lambda connection: connection.getInfo())
        _model, memory_mib, online_cpus, *_topology = info
        return NodeInfo(online_cpus=online_cpus, memory_mib=memory_mib)

    def get_node_memory(self) -> NodeMemory:
        """Return virNodeGetMemoryStats over all cells.

        :raises UnsupportedError: if the driver does not have the call
        """
        stats = self._ask(
            "virNodeGetMemoryStats", lambda c: c.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS)
        )
        try:
            return NodeMemory(
                total_kib=stats["total"],
                free_kib=stats["free"],
                buffers_kib=stats["buffers"],
                cached_kib=stats["cached"],
            )
        except KeyError as error:
            raise HypervisorError(
                f"no {error} in the answer ({', '.join(stats) or 'it is empty'})"
            ) from error

    def get_online_cpus(self) -> frozenset[int]:
        """Return the numbers of the online CPUs (virNodeGetCPUMap; Nova's function of that name).

        :raises UnsupportedError: when the driver has no such call
        """
        _count, is_online, _online = self._ask("virNodeGetCPUMap", lambda connection: connection.getCPUMap())
        return frozenset(cpu for cpu, online in enumerate(is_online) if online)

    def get_available_cpus(self) -> frozenset[int]:
        """Return the numbers of all CPUs, offline ones too (virNodeGetCPUMap; Nova's function of that name).

        :raises UnsupportedError: when the driver has no such call
        """
        count, _is_online, _online = self._ask("virNodeGetCPUMap", lambda connection: connection.getCPUMap())
        return frozenset(range(count))

    def get_cells_free_memory(self, first_cell: int, cells: int) -> tuple[int, ...]:
        """Return virNodeGetCellsFreeMemory: the free bytes of each of these NUMA cells.

        :raises UnsupportedError: when the driver has no such call
        """
        return tuple(
            self._ask(
                "virNodeGetCellsFreeMemory",
                lambda connection: connection.getCellsFreeMemory(first_cell, cells),
            )
        )

    def get_free_pages(
        self, sizes_kib: Sequence[int], first_cell: int, cells: int
    ) -> Mapping[int, Mapping[int, int]]:
        """Return virNodeGetFreePages: the number of free pages, by NUMA cell and by size in KiB.

        :raises UnsupportedError: when the driver has no such call
        """
        sizes = list(sizes_kib)
        free: Mapping[int, Mapping[int, int]] = self._ask(
            "virNodeGetFreePages", lambda connection: connection.getFreePages(sizes, first_cell, cells)
        )
        return free

    def list_domains(self) -> tuple[DomainRecord, ...]:
        """Return every domain, active or not, with its state, in one call.

        virConnectGetAllDomainStats for the state alone takes no guest's job lock and asks no guest's monitor.
        So a frozen guest does not block it.
        """
        try:
            rows = self._ask(
                "virConnectGetAllDomainStats", lambda c: c.getAllDomainStats(libvirt.VIR_DOMAIN_STATS_STATE)
            )
        except UnsupportedError:
            rows = self._list_domains_one_by_one()
        listed = {domain.UUIDString(): (domain, stats) for domain, stats in rows}
        self._domains = {uuid: domain for uuid, (domain, _) in listed.items()}
        return tuple(
            DomainRecord(
                uuid=uuid,
                name=_name(domain),
                id=domain.ID(),
                state=_state(stats.get("state.state")),
                reason=int(stats.get("state.reason", 0)),
            )
            for uuid, (domain, stats) in listed.items()
        )

    def get_domain_xml(self, uuid: str) -> str:
        """Return virDomainGetXMLDesc: of the live domain, if it is active.

        From libvirt 11 on it waits for the guest's job, at most 30 s.

        :raises GoneError: when the domain vanished
        :raises BusyError: if another client holds the job all the time
        """
        domain = self._find_domain(uuid)
        return str(self._ask("virDomainGetXMLDesc", lambda _: domain.XMLDesc(), subject=_name(domain)))

    def get_domain_info(self, uuid: str) -> DomainInfo:
        """Return virDomainGetInfo, which waits neither for the guest's job nor for its monitor.

        :raises GoneError: when the domain vanished
        """
        domain = self._find_domain(uuid)
        _state, maximum_kib, memory_kib, vcpus, cpu_time_ns = self._ask(
            "virDomainGetInfo", lambda _: domain.info(), subject=_name(domain)
        )
        return DomainInfo(
            vcpus=vcpus,
            memory_kib=memory_kib,
            maximum_memory_kib=maximum_kib,
            cpu_time_ns=cpu_time_ns,
        )

    def is_guest_busy(self, uuid: str) -> bool:
        """Return whether the guest's monitor has not answered a client for a while (virDomainGetControlInfo).

        It waits neither for the guest's job nor for its monitor.

        :raises HypervisorError: when the domain is shut off or gone, or the driver has no such call
        """
        domain = self._find_domain(uuid)
        state, _details, milliseconds = self._ask(
            "virDomainGetControlInfo", lambda _: domain.controlInfo(), subject=_name(domain)
        )
        return bool(state == libvirt.VIR_DOMAIN_CONTROL_OCCUPIED and milliseconds >= BUSY_MILLISECONDS)

    def get_volume_size(self, path: str) -> ImageSize:
        """Return the size of the storage volume at this path (virStorageVolGetInfo). It asks no guest.

        :raises GoneError: when no active storage pool has such a volume
        """
        volume = self._ask(
            "virStorageVolLookupByPath",
            lambda connection: connection.storageVolLookupByPath(path),
            subject=path,
            daemon=STORAGE,
        )
        _type, capacity, allocation = self._ask(
            "virStorageVolGetInfo", lambda _: volume.info(), subject=path, daemon=STORAGE
        )
        return ImageSize(virtual_bytes=capacity, allocated_bytes=allocation)

    def get_block_size(self, uuid: str, target: str) -> ImageSize:
        """Return the size of a domain's disk (virDomainGetBlockInfo: capacity and allocation).

        It takes the guest's job and, if the guest runs, asks its monitor. It does not return while the guest
        is frozen.

        :param target: the disk's target/@dev
        :raises GoneError: when the domain vanished
        :raises BusyError: if another client holds the job all the time
        """
        domain = self._find_domain(uuid)
        capacity, allocation, _physical = self._ask(
            "virDomainGetBlockInfo", lambda _: domain.blockInfo(target), subject=_name(domain)
        )
        return ImageSize(virtual_bytes=capacity, allocated_bytes=allocation)

    def get_domain_statistics(self, uuid: str, groups: Collection[StatisticsGroup]) -> Mapping[str, object]:
        """Return virDomainListGetStats of one guest: {"block.0.rd.bytes": 1024, "balloon.rss": 88, …}.

        It takes the guest's job and asks its monitor for "balloon" and "block", so it does not return while
        the guest is frozen. NOWAIT only keeps it from queueing: while another call has the job, it returns
        at once without what the monitor tells.

        :raises GoneError: when the domain vanished
        """
        domain = self._find_domain(uuid)
        groups_flag = reduce(or_, (_STATISTICS_FLAGS[group] for group in groups))
        rows = self._ask(
            "virDomainListGetStats",
            lambda connection: connection.domainListGetStats(
                [domain], groups_flag, libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
            ),
            subject=_name(domain),
        )
        if not rows:
            raise GoneError(f"{_name(domain)} is gone")
        statistics: Mapping[str, object] = rows[0][1]
        return statistics

    def list_active_pools(self) -> tuple[StoragePool | UnreadPool, ...]:
        """Return the active storage pools with their sizes and sources; none if the driver has no pools.

        One call, and two more for each pool. If only the source of one cannot be read, its sizes count.
        """
        pools = self._list_pools(0)
        return tuple(read for pool in pools if (read := _try(self._read_pool_and_source, pool)))

    def list_active_pools_of(self, kind: PoolKind) -> tuple[StoragePool | UnreadPool, ...]:
        """Return the active storage pools of LVM or Ceph, with their sources.

        One call, and two more for each such pool.
        """
        pools = self._list_pools(_POOL_FLAGS[kind])
        return tuple(read for pool in pools if (read := _try(self._read_pool_with_source, pool)))

    def count_node_devices(self) -> int:
        """Return virNodeNumOfDevices: the cheapest call to the daemon of node devices."""
        return int(
            self._ask(
                "virNodeNumOfDevices",
                lambda connection: connection.numOfDevices(None, 0),
                daemon=NODE_DEVICES,
            )
        )

    def list_node_devices(self, capabilities: Collection[str]) -> tuple[str | UnreadDevice, ...]:
        """Return virNodeDeviceGetXMLDesc of the node devices that have one of these capabilities.

        One call, and one more for each device. No devices if the driver does not have them. A device that
        vanished meanwhile is left out. One that libvirt cannot describe costs no other.

        :param capabilities: "mdev_types", "net", "pci" or "vdpa"
        """
        flags = reduce(or_, (_NODE_DEVICE_FLAGS[name] for name in capabilities))
        try:
            devices = self._ask(
                "virConnectListAllNodeDevices",
                lambda connection: connection.listAllDevices(flags),
                daemon=NODE_DEVICES,
            )
        except UnsupportedError:
            return ()
        return tuple(
            xml for device in devices if self._is_active(device) and (xml := self._read_node_device(device))
        )

    def pop_node_devices_changed(self) -> bool:
        """Return whether a node device had an event since the last call, and reset this."""
        with self._changed_lock:
            changed, self._have_node_devices_changed = self._have_node_devices_changed, False
        return changed

    def ask(self, name: str, call: Callable[[Any], T]) -> T:
        """Make a call that a single source makes, with libvirt's own connection (virConnect).

        :param name: libvirt's for the call: "virConnectNumOfNetworks"
        :raises HypervisorError: what goes wrong, as with any other call
        """
        return self._ask(name, call)

    def _find_domain(self, uuid: str) -> Any:
        """Return the domain from this connection's list, or ask for it."""
        domain = self._domains.get(uuid)
        return domain or self._ask(
            "virDomainLookupByUUIDString",
            lambda connection: connection.lookupByUUIDString(uuid),
            subject=uuid,
        )

    def _list_pools(self, flags: int) -> list[Any]:
        flags |= libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE
        try:
            pools: list[Any] = self._ask(
                "virConnectListAllStoragePools",
                lambda connection: connection.listAllStoragePools(flags),
                daemon=STORAGE,
            )
        except UnsupportedError:
            return []
        return pools

    def _read_pool_and_source(self, pool: Any) -> StoragePool:
        read = self._read_pool(pool)
        try:
            return replace(read, source=self._read_pool_source(pool))
        except (ConnectionLostError, DaemonError, GoneError):
            raise
        except (HypervisorError, StorageError) as error:
            return replace(read, source_error=str(error))

    def _read_pool_with_source(self, pool: Any) -> StoragePool:
        source = self._read_pool_source(pool)
        return replace(self._read_pool(pool), source=source)

    def _read_pool_source(self, pool: Any) -> PoolSource:
        return parse_pool_source(
            self._ask(
                "virStoragePoolGetXMLDesc", lambda _: pool.XMLDesc(), subject=_name(pool), daemon=STORAGE
            )
        )

    def _read_pool(self, pool: Any) -> StoragePool:
        _state, capacity, allocation, available = self._ask(
            "virStoragePoolGetInfo", lambda _: pool.info(), subject=_name(pool), daemon=STORAGE
        )
        return StoragePool(
            name=_name(pool),
            capacity_bytes=capacity,
            allocation_bytes=allocation,
            available_bytes=available,
        )

    def _is_active(self, device: Any) -> bool:
        """Return whether a node device exists. A mediated device may be defined only (since libvirt 7.3)."""
        if not _name(device).startswith("mdev_") or not hasattr(device, "isActive"):
            return True
        try:
            return bool(
                self._ask("virNodeDeviceIsActive", lambda _: device.isActive(), subject=_name(device))
            )
        except UnsupportedError:
            return True
        except GoneError:
            return False

    def _read_node_device(self, device: Any) -> str | UnreadDevice | None:
        """Return a device's XML, or why it cannot be read; None if it is gone."""
        try:
            return str(
                self._ask(
                    "virNodeDeviceGetXMLDesc",
                    lambda _: device.XMLDesc(),
                    subject=_name(device),
                    daemon=NODE_DEVICES,
                )
            )
        except GoneError:
            return None
        except (ConnectionLostError, ThreadLimitError):
            raise  # no other device could be read either
        except DaemonError as error:
            self.count_node_devices()  # raises if the daemon is lost; else it is about this device
            return UnreadDevice(name=_name(device), error=str(error))
        except DeniedError as error:
            return UnreadDevice(name=_name(device), error=str(error), reason=error.reason)
        except HypervisorError as error:
            return UnreadDevice(name=_name(device), error=str(error))

    def _register(
        self,
        connection: Any,
        name: str,
        register: Callable[..., int],
        deregister: Callable[[int], None],
        event: int,
        callback: Callable[..., None],
    ) -> bool:
        """Subscribe to an event. Return whether the driver has it."""
        self.calls += 1
        try:
            with self._recorder.step(name, f"event {event}", kind=CALL), self._call_lock:
                if connection is self._connection:  # nobody has released it meanwhile
                    number = register(None, event, callback, None)
                    self._deregistrations.append(partial(deregister, number))
        except (libvirt.libvirtError, *_UNDECODABLE) as error:
            log.debug("libvirt sends no events", extra={"event": event, "error": _message(error)})
            return False
        return True

    def _list_domains_one_by_one(self) -> list[tuple[Any, dict[str, Any]]]:
        """List the domains of a driver without bulk statistics, in the form for `list_domains`."""
        rows = []
        for domain in self._ask("virConnectListAllDomains", lambda connection: connection.listAllDomains()):
            try:
                state, reason = self._ask(
                    "virDomainGetState", partial(_state_of, domain), subject=_name(domain)
                )
            except GoneError:
                continue
            rows.append((domain, {"state.state": state, "state.reason": reason}))
        return rows

    def _on_guest_event(self, event: int, _connection: Any, domain: Any, *details: Any) -> None:
        """Pass an event on. The last of the details is what was registered with it."""
        self.events += 1  # libvirt has one event loop, so one thread
        uuid = domain.UUIDString()
        if event in _GUEST_EVENTS:
            self._on_changed(uuid)
        self._on_event(uuid, event, details[:-1])

    def _on_close(self, connection: Any, reason: int, _opaque: None) -> None:
        """Record that a connection was closed, also by keep-alive (virConnectCloseReason)."""
        if connection is self._connection:
            self.is_lost = True
            log.debug("connection closed", extra={"reason": reason})

    def _open(self) -> Any:
        path = find_test_file(self._uri)
        if path is not None:
            # If the file cannot be read, libxml2 writes to standard error, whatever libvirt does (9.0).
            Path(os.fsdecode(path)).open("rb").close()
        step = self._recorder.step("virConnectOpenAuth", hide_user(self._uri), kind=CALL)
        with step, self._descriptors.reserved() if has_daemon(self._uri) else nullcontext():
            connection = libvirt.openAuth(self._uri, _CREDENTIALS, libvirt.VIR_CONNECT_RO)
        if self._is_closed:  # nobody would release it
            del connection
            raise ConnectionLostError("closed")
        return connection

    def _on_node_device_event(self, _connection: Any, _device: Any, *_details: Any) -> None:
        with self._changed_lock:
            self._have_node_devices_changed = True

    def _ask(self, name: str, call: Callable[[Any], T], *, subject: str = "", daemon: str | None = None) -> T:
        """Make one libvirt call; the one place that records them, and where libvirt's errors become ours.

        :param name: libvirt's name of the function
        :param subject: which guest, pool, volume or device it is about
        :param daemon: who answers the call where libvirt's daemons are modular, if not the one connected to
        """
        connection = self._connection
        if connection is None:
            raise ConnectionLostError("not connected")
        self.calls += 1
        with self._recorder.step(name, subject, kind=CALL):
            try:
                with self._call_lock:
                    return call(connection)
            except libvirt.libvirtError as error:
                message, is_alive = self._describe(error), _is_alive(connection)
                if is_alive and daemon is None and _is_transport(error) and self._answers(connection):
                    raise HypervisorError(message) from error  # this call alone fails
                raise _translate(error, message, is_alive=is_alive, daemon=daemon) from error
            except _UNDECODABLE as error:
                message = f"libvirt's answer or message is not UTF-8: {self._describe(error)}"
                is_alive = _is_alive(connection)
                raise (HypervisorError if is_alive else ConnectionLostError)(message) from error

    def _answers(self, connection: Any) -> bool:
        """Whether libvirt still answers a call that fails nowhere else.

        After a transport error this tells the daemon's end from an answer that cannot be sent, for example
        because it is too long.
        """
        for call in (connection.getLibVersion, connection.getHostname):
            self.calls += 1
            try:
                with self._call_lock:
                    call()
            except (libvirt.libvirtError, *_UNDECODABLE):
                continue
            return True
        return False

    def _describe(self, error: Exception) -> str:
        """Return libvirt's message without the password that it may quote from the URI."""
        return redact_in(_message(error), self._uri)


def _try(read: Callable[[Any], StoragePool], pool: Any) -> StoragePool | UnreadPool | None:
    """Read a pool; None if it is gone. One that cannot be read costs no other.

    :raises ConnectionLostError: if the connection broke
    :raises DaemonError: if the daemon of all pools cannot be reached
    """
    try:
        return read(pool)
    except GoneError:
        return None
    except (ConnectionLostError, DaemonError):
        raise
    except (HypervisorError, StorageError) as error:
        return UnreadPool(name=_name(pool), reason=error.reason, error=str(error))


def _is_alive(connection: Any) -> bool:
    """Return virConnectIsAlive; a connection that cannot even tell is dead."""
    try:
        return bool(connection.isAlive())
    except (libvirt.libvirtError, *_UNDECODABLE):
        return False


def _state_of(domain: Any, _connection: Any) -> Any:
    return domain.state()


def _translate(
    error: libvirt.libvirtError, message: str, *, is_alive: bool, daemon: str | None = None
) -> HypervisorError:
    """Return libvirt's error as ours.

    A transport error over a living connection happened behind it: between the connected daemon and the one
    that it asks.
    """
    code, is_transport = error.get_error_code(), _is_transport(error)
    if not is_alive:
        return ConnectionLostError(message)
    if code in _DENIED or (is_transport and daemon is not None and is_forbidden(_error_number(error))):
        return DeniedError(explain_denied(daemon, message))
    if is_transport:
        return (
            ConnectionLostError(message)
            if daemon is None
            else DaemonError(explain_unreachable(daemon, message))
        )
    return _translate_answer(code, message)


def _is_transport(error: libvirt.libvirtError) -> bool:
    """Whether it is about the way to a daemon, and not the answer to the call."""
    return error.get_error_code() in _LOST or error.get_error_domain() == libvirt.VIR_FROM_RPC


def _translate_answer(code: int, message: str) -> HypervisorError:
    """Return the error that was libvirt's answer to the call."""
    if code in _GONE:
        return GoneError(message)
    if code == libvirt.VIR_ERR_OPERATION_TIMEOUT:
        return BusyError(message)
    if code in _UNSUPPORTED:
        return UnsupportedError(message)
    return HypervisorError(message)


def _error_number(error: Exception) -> int:
    """Return the system's error number (errno) from libvirt; 0 for another kind of error."""
    if isinstance(error, libvirt.libvirtError) and error.get_error_code() == libvirt.VIR_ERR_SYSTEM_ERROR:
        return int(error.get_int1())
    return 0


def _message(error: Exception) -> str:
    """Return libvirt's message; of one that is not UTF-8, the first line of what can be read of it."""
    if isinstance(error, libvirt.libvirtError):
        return str(error.get_error_message() or error)
    cause = error.__cause__
    if isinstance(cause, UnicodeDecodeError):
        return cause.object.decode(errors="replace").partition("\n")[0]
    return str(cause or error)


def _name(named: Any) -> str:
    """Return a domain's or pool's name. libvirt allows only UTF-8; a hostile server may send other bytes."""
    try:
        return str(named.name())
    except UnicodeDecodeError as error:
        return error.object.decode(errors="replace")


def _state(number: int | None) -> DomainState:
    """Return the state with this number; NOSTATE for a number that this program does not know."""
    try:
        return DomainState(number)
    except ValueError:
        return DomainState.NOSTATE


def _ignore_errors(call: Callable[..., Any], *arguments: Any) -> None:
    try:
        call(*arguments)
    except (libvirt.libvirtError, *_UNDECODABLE) as error:
        log.debug("libvirt refused a call that may fail", extra={"error": _message(error)})

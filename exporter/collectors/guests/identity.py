"""Who a guest is, how it is, and what it was promised: all of it from the list of domains and its XML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

from exporter.collectors.guests.rows import (
    COMMON_LABELS,
    IDENTITY,
    Row,
    describe,
    list_active,
    list_interfaces,
)
from exporter.guest_records import MAX_DEVICES
from exporter.label import make_label_value
from exporter.metric import LabelSet, Metric, Series
from exporter.model import Disk, Guest, ResourceClass
from exporter.placement.holders import GuestClaim
from exporter.state_reasons import get_reason

_KIB = 1024
_XML = "virDomainGetXMLDesc"
# libvirt's names of a disk's limits, by direction.
_BYTES_LIMITS = {"read_bytes_sec": "read", "write_bytes_sec": "write", "total_bytes_sec": "total"}
_OPS_LIMITS = {"read_iops_sec": "read", "write_iops_sec": "write", "total_iops_sec": "total"}

INFO = Metric(
    name="hypervisor_guest_info",
    help="Who the guest is, by its XML and Nova's metadata in it; always 1.",
    type="info",
    labels=(*COMMON_LABELS, *IDENTITY),
    more_labels=True,
    source=f"{_XML} (metadata/nova:instance)",
)
STATE_INFO = Metric(
    name="hypervisor_guest_state_info",
    help="The guest's state and libvirt's reason for it, such as paused and ioerror; always 1.",
    type="info",
    labels=(*COMMON_LABELS, "state", "reason"),
    more_labels=True,
    source="virConnectGetAllDomainStats (state.state, state.reason)",
)
VCPUS = Metric(
    name="hypervisor_guest_vcpus",
    help="vCPUs that are plugged in.",
    unit="vCPUs",
    labels=COMMON_LABELS,
    more_labels=True,
    source=f"{_XML} (vcpu/@current)",
)
DEDICATED_CPUS = Metric(
    name="hypervisor_guest_dedicated_cpus",
    help="CPUs of cpu_dedicated_set that the guest has to itself, its claim of PCPU; only where it has some.",
    unit="CPUs",
    labels=COMMON_LABELS,
    more_labels=True,
    source=f"{_XML} (cputune/vcpupin)",
)
MEMORY_SIZE_BYTES = Metric(
    name="hypervisor_guest_memory_size_bytes",
    help="Memory that the guest may have.",
    labels=COMMON_LABELS,
    more_labels=True,
    source=f"{_XML} (memory)",
)
DISK_INFO = Metric(
    name="hypervisor_guest_disk_info",
    help="What a disk is; always 1. volume_id is the id of a Cinder volume.",
    type="info",
    labels=(*COMMON_LABELS, "device", "volume_id", "bus", "type", "format", "cache"),
    more_labels=True,
    source=f"{_XML} (disk)",
)
DISK_LIMIT_BYTES = Metric(
    name="hypervisor_guest_disk_limit_bytes_per_second",
    help="How many bytes a second the disk may transfer, by direction; only where it is limited.",
    unit="bytes per second",
    labels=(*COMMON_LABELS, "device", "direction"),
    more_labels=True,
    source=f"{_XML} (disk/iotune)",
)
DISK_LIMIT_OPS = Metric(
    name="hypervisor_guest_disk_limit_ops_per_second",
    help="How many requests a second the disk may make, by direction; only where it is limited.",
    unit="requests per second",
    labels=(*COMMON_LABELS, "device", "direction"),
    more_labels=True,
    source=f"{_XML} (disk/iotune)",
)
NETWORK_INFO = Metric(
    name="hypervisor_guest_network_info",
    help="What an interface is; always 1. device is the host's, port_id Neutron's port.",
    type="info",
    labels=(*COMMON_LABELS, "device", "mac", "bridge", "port_id", "type"),
    more_labels=True,
    source=f"{_XML} (interface)",
)
METRICS = (
    INFO,
    STATE_INFO,
    VCPUS,
    DEDICATED_CPUS,
    MEMORY_SIZE_BYTES,
    DISK_INFO,
    DISK_LIMIT_BYTES,
    DISK_LIMIT_OPS,
    NETWORK_INFO,
)


def collect(rows: list[Row], *, claims: Mapping[str, GuestClaim], show_owner_names: bool) -> Iterator[Series]:
    """Yield the series of all guests. One that does not run has only those that say who and how it is.

    :param claims: what each guest claims, by UUID
    """
    # A row is one for each value of show_owner_names.
    describe_row = _describe_with_names if show_owner_names else _describe_without_names
    yield from INFO.series((row.keep(describe_row), 1) for row in rows)
    yield from STATE_INFO.series((row.extend(*_state(row)), 1) for row in rows)
    active = list_active(rows)
    yield from VCPUS.series((row.labels, guest.vcpus) for row, guest in active)
    dedicated = ((row.labels, claims.get(row.uuid, {}).get(ResourceClass.PCPU)) for row, _ in active)
    yield from DEDICATED_CPUS.series((labels, cpus) for labels, cpus in dedicated if cpus)
    yield from MEMORY_SIZE_BYTES.series(
        (row.labels, guest.maximum_memory_kib * _KIB) for row, guest in active
    )
    yield from DISK_INFO.series((labels, 1) for row, _ in active for labels in row.keep(_describe_disks))
    yield from DISK_LIMIT_BYTES.series(each for row, _ in active for each in row.keep(_list_bytes_limits))
    yield from DISK_LIMIT_OPS.series(each for row, _ in active for each in row.keep(_list_ops_limits))
    yield from NETWORK_INFO.series(
        (labels, 1) for row, _ in active for labels in row.keep(_describe_interfaces)
    )


def list_disks(guest: Guest) -> list[Disk]:
    """Return the disks that are shown one by one. Two of a name would be one series: the first counts."""
    by_target = {disk.target: disk for disk in reversed(guest.disks) if disk.target}
    return [disk for disk in islice(guest.disks, MAX_DEVICES) if by_target.get(disk.target) is disk]


def _state(row: Row) -> tuple[tuple[str, str], ...]:
    state = row.record.state
    return ("state", state.name.lower()), ("reason", get_reason(state, row.record.reason))


def _describe_with_names(row: Row) -> LabelSet:
    return row.extend(*describe(row.chosen, show_owner_names=True).items())


def _describe_without_names(row: Row) -> LabelSet:
    return row.extend(*describe(row.chosen, show_owner_names=False).items())


def _describe_disks(row: Row) -> list[LabelSet]:
    return [
        row.extend(
            ("device", make_label_value(disk.target)),
            ("volume_id", make_label_value(disk.serial or (disk.alias or "").removeprefix("ua-"))),
            ("bus", make_label_value(disk.bus)),
            ("type", disk.protocol or disk.source_type),
            ("format", disk.driver_format or ""),
            ("cache", disk.cache),
        )
        for disk in _list_disks_of(row)
    ]


def _list_bytes_limits(row: Row) -> list[tuple[LabelSet, int]]:
    return _list_limits(row, _BYTES_LIMITS)


def _list_ops_limits(row: Row) -> list[tuple[LabelSet, int]]:
    return _list_limits(row, _OPS_LIMITS)


def _list_limits(row: Row, names: Mapping[str, str]) -> list[tuple[LabelSet, int]]:
    return [
        (row.extend(("device", make_label_value(disk.target)), ("direction", names[name])), value)
        for disk in _list_disks_of(row)
        for name, value in disk.limits
        if name in names
    ]


def _list_disks_of(row: Row) -> list[Disk]:
    return [] if row.guest is None else list_disks(row.guest)


def _describe_interfaces(row: Row) -> list[LabelSet]:
    shown = {} if row.guest is None else list_interfaces(row.guest)
    return [
        row.extend(
            ("device", value),
            ("mac", make_label_value(each.mac)),
            ("bridge", make_label_value(each.bridge)),
            ("port_id", make_label_value(each.port_id)),
            ("type", each.type),
        )
        for value, each in shown.values()
    ]

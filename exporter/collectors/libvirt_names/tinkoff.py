"""The names of Tinkoff's libvirt-exporter 2.3, which AlexZzz and ntk148v have, too."""

from __future__ import annotations

from collections.abc import Callable

from exporter.collectors.libvirt_names.common import (
    BALLOON,
    DISK_REQUESTS,
    DISK_TIMES,
    DOMAIN_INFO,
    INTERFACE_COUNTERS,
    MEMORY,
    VCPU_TIMES,
)
from exporter.collectors.libvirt_names.dialect import Dialect, Pools, make_host_metric
from exporter.collectors.libvirt_names.domains import (
    Domain,
    DomainDisk,
    DomainInterface,
    DomainVcpu,
    from_kib,
    list_active,
    list_all,
    list_disks,
    list_interfaces,
    list_vcpus,
)
from exporter.collectors.libvirt_names.tables import Column, Table, gauge, info

# The ends of their names, by libvirt's name of the limit (virDomainGetBlockIoTune).
_LIMITS = {
    "total_bytes_sec": "limit_total_bytes",
    "read_bytes_sec": "limit_read_bytes",
    "write_bytes_sec": "limit_write_bytes",
    "total_iops_sec": "limit_total_requests",
    "read_iops_sec": "limit_read_requests",
    "write_iops_sec": "limit_write_requests",
    "total_bytes_sec_max": "limit_burst_total_bytes",
    "read_bytes_sec_max": "limit_burst_read_bytes",
    "write_bytes_sec_max": "limit_burst_write_bytes",
    "total_iops_sec_max": "limit_burst_total_requests",
    "read_iops_sec_max": "limit_burst_read_requests",
    "write_iops_sec_max": "limit_burst_write_requests",
    "total_bytes_sec_max_length": "limit_burst_total_bytes_length_seconds",
    "read_bytes_sec_max_length": "limit_burst_read_bytes_length_seconds",
    "write_bytes_sec_max_length": "limit_burst_write_bytes_length_seconds",
    "total_iops_sec_max_length": "limit_burst_length_total_requests_seconds",
    "read_iops_sec_max_length": "limit_burst_length_read_requests_seconds",
    "write_iops_sec_max_length": "limit_burst_length_write_requests_seconds",
    "size_iops_sec": "size_iops_bytes",
}
_SHOWN = {"bytes_sec": "bytes", "iops_sec": "ops"}
_DIRECTIONS = ("total", "read", "write")


def _limit(key: str, end: str) -> Column[DomainDisk]:
    direction, _, what = key.partition("_")
    kind = _SHOWN.get(what) if direction in _DIRECTIONS else None
    own = f"virDomainGetXMLDesc (disk/iotune/{key})"
    same_as = own if kind is None else f"hypervisor_guest_disk_limit_{kind}_per_second"
    get: Callable[[DomainDisk], float | None] = lambda disk: disk.limits.get(key)  # noqa: E731
    return gauge(f"libvirt_domain_block_stats_{end}", same_as, get)


DIALECT = Dialect(
    pools=Pools("libvirt_pool_info", "pool", has_state=False),
    versions=make_host_metric(
        "libvirt_versions_info",
        "hypervisor_info",
        "hypervisor_running",
        "libvirtd_running",
        "libvirt_library",
    ),
    tables=(
        Table[Domain](
            list_all,
            {"domain": lambda domain: domain.name},
            *DOMAIN_INFO,
            gauge(
                "libvirt_domain_info_vstate",
                "the number of virDomainState; see hypervisor_guest_state_info",
                lambda domain: domain.state,
            ),
        ),
        Table[Domain](
            list_all,
            {
                "domain": lambda domain: domain.name,
                "uuid": lambda domain: domain.uuid,
                "instance_name": lambda domain: domain.instance.instance_name,
                "flavor": lambda domain: domain.flavor,
                "user_name": lambda domain: domain.user_name,
                "user_uuid": lambda domain: domain.instance.user_id,
                "project_name": lambda domain: domain.project_name,
                "project_uuid": lambda domain: domain.instance.project_id,
                "root_type": lambda domain: "image" if domain.instance.image_id else "",
                "root_uuid": lambda domain: domain.instance.image_id,
            },
            info("libvirt_domain_info_meta", "hypervisor_guest_info"),
        ),
        Table[Domain](
            list_active,
            {"domain": lambda domain: domain.name},
            *MEMORY,
            gauge(
                "libvirt_domain_memory_stats_actual_balloon_bytes",
                "hypervisor_guest_memory_balloon_bytes",
                lambda domain: from_kib(domain.memory.balloon_kib),
            ),
            gauge(
                "libvirt_domain_memory_stats_disk_cache_bytes",
                BALLOON.format("disk_caches"),
                lambda domain: from_kib(domain.memory.disk_caches_kib),
            ),
        ),
        Table[DomainDisk](
            list_disks,
            {
                "domain": lambda disk: disk.domain.name,
                "target_device": lambda disk: disk.disk.target,
            },
            *DISK_REQUESTS,
            *DISK_TIMES,
            gauge(
                "libvirt_domain_block_stats_physicalsize_bytes",
                "hypervisor_guest_disk_allocated_bytes",
                lambda disk: disk.counters.allocated_bytes,
            ),
            *(_limit(key, end) for key, end in _LIMITS.items()),
        ),
        Table[DomainDisk](
            list_disks,
            {
                "domain": lambda disk: disk.domain.name,
                "target_device": lambda disk: disk.disk.target,
                "source_file": lambda disk: disk.source,
                "serial": lambda disk: disk.disk.serial or "",
                "bus": lambda disk: disk.disk.bus,
                "disk_type": lambda disk: disk.disk.source_type,
                "driver_type": lambda disk: disk.disk.driver_format or "",
                "cache": lambda disk: disk.disk.cache,
                "discard": lambda disk: disk.disk.discard,
            },
            info("libvirt_domain_block_meta", "hypervisor_guest_disk_info"),
        ),
        Table[DomainInterface](
            list_interfaces,
            {
                "domain": lambda interface: interface.domain.name,
                "target_device": lambda interface: interface.interface.target,
            },
            *INTERFACE_COUNTERS,
        ),
        Table[DomainInterface](
            lambda domains: (
                each for each in list_interfaces(domains) if each.bridge or each.interface.port_id
            ),
            {
                "domain": lambda interface: interface.domain.name,
                "source_bridge": lambda interface: interface.bridge,
                "target_device": lambda interface: interface.interface.target,
                "virtual_interface": lambda interface: interface.interface.port_id,
            },
            info("libvirt_domain_interface_meta", "hypervisor_guest_network_info"),
        ),
        Table[DomainVcpu](
            list_vcpus,
            {"domain": lambda vcpu: vcpu.domain.name, "vcpu": lambda vcpu: str(vcpu.number)},
            *VCPU_TIMES,
        ),
    ),
)

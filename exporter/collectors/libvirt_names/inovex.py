"""The names of inovex's prometheus-libvirt-exporter, as of June 2026."""

from __future__ import annotations

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
from exporter.collectors.libvirt_names.tables import Table, gauge, info

# By the number of virDomainState; the texts are the comments in libvirt's header.
_STATES = (
    "no state",
    "the domain is running",
    "the domain is blocked on resource",
    "the domain is paused by user",
    "the domain is being shut down",
    "the domain is shut off",
    "the domain is crashed",
    "the domain is suspended by guest power management",
)

DIALECT = Dialect(
    pools=Pools("libvirt_storage_pool", "storage_pool", has_state=True),
    domains=make_host_metric("libvirt_domains", "the sum of hypervisor_domains"),
    tables=(
        Table[Domain](list_all, {"domain": lambda domain: domain.name}, *DOMAIN_INFO),
        Table[Domain](
            list_all,
            {
                "domain": lambda domain: domain.name,
                "state_desc": lambda domain: _STATES[domain.state],
            },
            gauge(
                "libvirt_domain_info_state",
                "the number of virDomainState; see hypervisor_guest_state_info",
                lambda domain: domain.state,
            ),
        ),
        Table[Domain](
            list_all,
            {
                "domain": lambda domain: domain.name,
                "os_type": lambda domain: "" if domain.guest is None else domain.guest.os_type,
                "os_type_arch": lambda domain: "" if domain.guest is None else domain.guest.arch,
                "os_type_machine": lambda domain: "" if domain.guest is None else domain.guest.machine,
            },
            info("libvirt_domain_info", "virDomainGetXMLDesc (os/type)"),
        ),
        Table[Domain](
            list_all,
            {
                "domain": lambda domain: domain.name,
                "instance_name": lambda domain: domain.instance.instance_name,
                "instance_id": lambda domain: domain.uuid,
                "flavor_name": lambda domain: domain.flavor,
                "user_name": lambda domain: domain.user_name,
                "user_id": lambda domain: domain.instance.user_id,
                "project_name": lambda domain: domain.project_name,
                "project_id": lambda domain: domain.instance.project_id,
            },
            info("libvirt_domain_openstack_info", "hypervisor_guest_info"),
        ),
        Table[Domain](
            list_active,
            {"domain": lambda domain: domain.name},
            gauge(
                "libvirt_domain_timed_out",
                "1 - hypervisor_guest_responsive",
                lambda domain: None if domain.is_responsive is None else not domain.is_responsive,
            ),
            gauge(
                "libvirt_domain_vcpu_current",
                "hypervisor_guest_vcpus",
                lambda domain: None if domain.guest is None else domain.guest.vcpus,
            ),
            gauge(
                "libvirt_domain_vcpu_maximum",
                "virDomainGetXMLDesc (vcpu)",
                lambda domain: None if domain.guest is None else domain.guest.maximum_vcpus,
            ),
            *MEMORY,
            gauge(
                "libvirt_domain_memory_stats_current_balloon_bytes",
                "hypervisor_guest_memory_balloon_bytes",
                lambda domain: from_kib(domain.memory.balloon_kib),
            ),
            gauge(
                "libvirt_domain_memory_stats_maximum_bytes",
                "hypervisor_guest_memory_size_bytes",
                lambda domain: from_kib(domain.memory.maximum_kib),
            ),
            gauge(
                "libvirt_domain_memory_stats_swap_in_bytes",
                "hypervisor_guest_memory_swap_in_bytes_total",
                lambda domain: from_kib(domain.memory.swap_in_kib),
            ),
            gauge(
                "libvirt_domain_memory_stats_swap_out_bytes",
                "hypervisor_guest_memory_swap_out_bytes_total",
                lambda domain: from_kib(domain.memory.swap_out_kib),
            ),
            gauge(
                "libvirt_domain_memory_stats_last_update_timestamp_seconds",
                "hypervisor_guest_memory_stats_timestamp_seconds",
                lambda domain: domain.memory.updated_at,
            ),
            gauge(
                "libvirt_domain_memory_stats_disk_caches_bytes",
                BALLOON.format("disk_caches"),
                lambda domain: from_kib(domain.memory.disk_caches_kib),
            ),
            gauge(
                "libvirt_domain_memory_stats_hugetlb_pgalloc_total",
                BALLOON.format("hugetlb_pgalloc"),
                lambda domain: domain.memory.hugetlb_allocations,
            ),
            gauge(
                "libvirt_domain_memory_stats_hugetlb_pgfail_total",
                BALLOON.format("hugetlb_pgfail"),
                lambda domain: domain.memory.hugetlb_failures,
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
        ),
        Table[DomainDisk](
            list_disks,
            {
                "domain": lambda disk: disk.domain.name,
                "disk_type": lambda disk: disk.disk.source_type,
                "target_bus": lambda disk: disk.disk.bus,
                "driver_name": lambda disk: disk.disk.driver_name,
                "driver_type": lambda disk: disk.disk.driver_format or "",
                "driver_cache": lambda disk: disk.disk.cache,
                "driver_discard": lambda disk: disk.disk.discard,
                "source_file": lambda disk: disk.file,
                "source_protocol": lambda disk: disk.disk.protocol,
                "target_device": lambda disk: disk.disk.target,
                "serial": lambda disk: disk.disk.serial or "",
            },
            info("libvirt_domain_block_stats_info", "hypervisor_guest_disk_info"),
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
            list_interfaces,
            {
                "domain": lambda interface: interface.domain.name,
                "interface_type": lambda interface: interface.interface.type,
                "source_bridge": lambda interface: interface.bridge,
                "target_device": lambda interface: interface.interface.target,
                "mac_address": lambda interface: interface.interface.mac,
                "model_type": lambda interface: interface.interface.model,
                "mtu_size": lambda interface: interface.interface.mtu,
            },
            info("libvirt_domain_interface_stats_info", "hypervisor_guest_network_info"),
        ),
        Table[DomainVcpu](
            list_vcpus,
            {"domain": lambda vcpu: vcpu.domain.name, "vcpu": lambda vcpu: str(vcpu.number)},
            *VCPU_TIMES,
        ),
    ),
)

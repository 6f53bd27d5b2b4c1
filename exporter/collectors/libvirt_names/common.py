"""What those who are replaced have under one name, if not with the same labels."""

from __future__ import annotations

from exporter.collectors.libvirt_names.domains import (
    Domain,
    DomainDisk,
    DomainInterface,
    DomainVcpu,
    from_kib,
    from_ns,
    get_memory_bytes,
    get_used_percent,
)
from exporter.collectors.libvirt_names.tables import Column, counter, gauge

BALLOON = "virDomainListGetStats (balloon.{})"

# virDomainGetInfo, or what has the same meaning.
DOMAIN_INFO: tuple[Column[Domain], ...] = (
    gauge(
        "libvirt_domain_info_maximum_memory_bytes",
        "hypervisor_guest_memory_size_bytes",
        lambda domain: None if domain.guest is None else from_kib(domain.guest.maximum_memory_kib),
    ),
    gauge(
        "libvirt_domain_info_memory_usage_bytes", "hypervisor_guest_memory_balloon_bytes", get_memory_bytes
    ),
    gauge(
        "libvirt_domain_info_virtual_cpus",
        "hypervisor_guest_vcpus",
        lambda domain: None if domain.guest is None else domain.guest.vcpus,
    ),
    counter(
        "libvirt_domain_info_cpu_time_seconds_total",
        "hypervisor_guest_cpu_seconds_total",
        lambda domain: from_ns(domain.cpu_ns),
    ),
)

DISK_REQUESTS: tuple[Column[DomainDisk], ...] = (
    counter(
        "libvirt_domain_block_stats_read_bytes_total",
        "hypervisor_guest_disk_read_bytes_total",
        lambda disk: disk.counters.read_bytes,
    ),
    counter(
        "libvirt_domain_block_stats_read_requests_total",
        "hypervisor_guest_disk_reads_completed_total",
        lambda disk: disk.counters.read_requests,
    ),
    counter(
        "libvirt_domain_block_stats_write_bytes_total",
        "hypervisor_guest_disk_written_bytes_total",
        lambda disk: disk.counters.written_bytes,
    ),
    counter(
        "libvirt_domain_block_stats_write_requests_total",
        "hypervisor_guest_disk_writes_completed_total",
        lambda disk: disk.counters.write_requests,
    ),
)

# Debian's exporter has these under other names, and never gives them a value.
DISK_TIMES: tuple[Column[DomainDisk], ...] = (
    counter(
        "libvirt_domain_block_stats_read_time_seconds_total",
        "hypervisor_guest_disk_read_time_seconds_total",
        lambda disk: from_ns(disk.counters.read_ns),
    ),
    counter(
        "libvirt_domain_block_stats_write_time_seconds_total",
        "hypervisor_guest_disk_write_time_seconds_total",
        lambda disk: from_ns(disk.counters.write_ns),
    ),
    counter(
        "libvirt_domain_block_stats_flush_requests_total",
        "hypervisor_guest_disk_flush_requests_total",
        lambda disk: disk.counters.flush_requests,
    ),
    counter(
        "libvirt_domain_block_stats_flush_time_seconds_total",
        "hypervisor_guest_disk_flush_requests_time_seconds_total",
        lambda disk: from_ns(disk.counters.flush_ns),
    ),
    gauge(
        "libvirt_domain_block_stats_capacity_bytes",
        "hypervisor_guest_disk_size_bytes",
        lambda disk: disk.counters.size_bytes,
    ),
)


def _count(name: str, same_as: str, attribute: str) -> Column[DomainInterface]:
    def get(row: DomainInterface) -> float | None:
        value: int | None = None if row.counters is None else getattr(row.counters, attribute)
        return value

    return counter(f"libvirt_domain_interface_stats_{name}_total", f"hypervisor_guest_network_{same_as}", get)


INTERFACE_COUNTERS: tuple[Column[DomainInterface], ...] = (
    _count("receive_bytes", "receive_bytes_total", "received_bytes"),
    _count("receive_packets", "receive_packets_total", "received_packets"),
    _count("receive_errors", "receive_errs_total", "received_errors"),
    _count("receive_drops", "receive_drop_total", "received_dropped"),
    _count("transmit_bytes", "transmit_bytes_total", "transmitted_bytes"),
    _count("transmit_packets", "transmit_packets_total", "transmitted_packets"),
    _count("transmit_errors", "transmit_errs_total", "transmitted_errors"),
    _count("transmit_drops", "transmit_drop_total", "transmitted_dropped"),
)

# The guest's own account of its memory.
MEMORY: tuple[Column[Domain], ...] = (
    counter(
        "libvirt_domain_memory_stats_major_fault_total",
        "hypervisor_guest_memory_major_faults_total",
        lambda domain: domain.memory.major_faults,
    ),
    counter(
        "libvirt_domain_memory_stats_minor_fault_total",
        BALLOON.format("minor_fault"),
        lambda domain: domain.memory.minor_faults,
    ),
    gauge(
        "libvirt_domain_memory_stats_unused_bytes",
        BALLOON.format("unused"),
        lambda domain: from_kib(domain.memory.unused_kib),
    ),
    gauge(
        "libvirt_domain_memory_stats_available_bytes",
        "hypervisor_guest_memory_available_bytes",
        lambda domain: from_kib(domain.memory.available_kib),
    ),
    gauge(
        "libvirt_domain_memory_stats_usable_bytes",
        "hypervisor_guest_memory_usable_bytes",
        lambda domain: from_kib(domain.memory.usable_kib),
    ),
    gauge(
        "libvirt_domain_memory_stats_rss_bytes",
        BALLOON.format("rss"),
        lambda domain: from_kib(domain.memory.rss_kib),
    ),
    gauge(
        "libvirt_domain_memory_stats_used_percent",
        "100 * (1 - hypervisor_guest_memory_usable_bytes / hypervisor_guest_memory_available_bytes)",
        get_used_percent,
    ),
)

VCPU_TIMES: tuple[Column[DomainVcpu], ...] = (
    counter(
        "libvirt_domain_vcpu_time_seconds_total",
        "hypervisor_guest_one_vcpu_seconds_total",
        lambda vcpu: from_ns(vcpu.run_ns),
    ),
    counter(
        "libvirt_domain_vcpu_delay_seconds_total",
        "hypervisor_guest_one_vcpu_delay_seconds_total",
        lambda vcpu: from_ns(vcpu.delay_ns),
    ),
)

"""The names of Debian's package prometheus-libvirt-exporter 0.2.0, which is kumina's exporter."""

from __future__ import annotations

from exporter.collectors.libvirt_names.common import DISK_REQUESTS, DOMAIN_INFO, INTERFACE_COUNTERS
from exporter.collectors.libvirt_names.dialect import Dialect, make_host_metric
from exporter.collectors.libvirt_names.domains import (
    Domain,
    DomainDisk,
    DomainInterface,
    list_active,
    list_disks,
    list_interfaces,
)
from exporter.collectors.libvirt_names.tables import Table, gauge

DIALECT = Dialect(
    active_domains=make_host_metric("libvirt_domains_number", "hypervisor_running_vms"),
    tables=(
        Table[Domain](
            list_active,
            {"domain": lambda domain: domain.name, "uuid": lambda domain: domain.uuid},
            gauge(
                "libvirt_domain_state_code",
                "the number of virDomainState; see hypervisor_guest_state_info",
                lambda domain: domain.state,
            ),
            *DOMAIN_INFO,
        ),
        Table[DomainDisk](
            list_disks,
            {
                "domain": lambda disk: disk.domain.name,
                "uuid": lambda disk: disk.domain.uuid,
                "source_file": lambda disk: disk.file,
                "target_device": lambda disk: disk.disk.target,
            },
            *DISK_REQUESTS,
        ),
        Table[DomainInterface](
            list_interfaces,
            {
                "domain": lambda interface: interface.domain.name,
                "uuid": lambda interface: interface.domain.uuid,
                "source_bridge": lambda interface: interface.bridge,
                "target_device": lambda interface: interface.interface.target,
            },
            *INTERFACE_COUNTERS,
        ),
    ),
)

"""The metrics that depend on guests."""

from __future__ import annotations

from dataclasses import replace

from exporter.collectors import COLLECTORS
from exporter.config.settings import HypervisorConfig
from exporter.model import Reading
from exporter.virt.resources import get_available_resource
from tests.support.records import make_guest, make_reading, make_snapshot


def _list_exported(reading: Reading) -> frozenset[str]:
    resources = get_available_resource(reading, HypervisorConfig(uri="test:///default"))
    snapshot = replace(make_snapshot(), resources=resources)
    return frozenset(sample.metric.name for each in COLLECTORS for sample in each.collect(snapshot))


_WITH_GUESTS = make_reading(guests=[make_guest()])
# Any other metric that has samples with guests, and none without.
_OTHERS = _list_exported(_WITH_GUESTS) - _list_exported(replace(_WITH_GUESTS, domains=None))

# They have no samples if the guests are not known: none of them is 0.
GUEST_METRICS = _OTHERS | frozenset(
    {
        "hypervisor_guest_dedicated_cpus",
        "hypervisor_vcpus_used",
        "hypervisor_running_vms",
        "hypervisor_domains",
        "hypervisor_domain_list_timestamp_seconds",
        "hypervisor_unread_guests",
        "hypervisor_outdated_guests",
        "hypervisor_claimed",
        "hypervisor_shut_off_claimed",
        "hypervisor_migrating_in_claimed",
        "hypervisor_project_info",
        "hypervisor_disk_available_least",
        "hypervisor_storage_overcommitted_bytes",
        "hypervisor_unsized_disks",
        "hypervisor_numa_cell_pinned_cpus",
        "hypervisor_flavor_slots",
        "hypervisor_flavor_slots_limited_by",
        "hypervisor_flavor_request",
    }
)

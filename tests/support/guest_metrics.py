"""The metrics that depend on guests."""

from __future__ import annotations

# They have no samples if the guests are not known: none of them is 0.
GUEST_METRICS = frozenset(
    {
        "hypervisor_vcpus_used",
        "hypervisor_running_vms",
        "hypervisor_domains",
        "hypervisor_domain_list_timestamp_seconds",
        "hypervisor_unread_guests",
        "hypervisor_outdated_guests",
        "hypervisor_claimed",
        "hypervisor_disk_available_least",
        "hypervisor_storage_overcommitted_bytes",
        "hypervisor_unsized_disks",
        "hypervisor_numa_cell_pinned_cpus",
        "hypervisor_flavor_slots",
        "hypervisor_flavor_slots_limited_by",
        "hypervisor_flavor_request",
    }
)

"""Capacity: what a hypervisor offers to the scheduler, and what guests claim, by resource class.

hypervisor_capacity{hypervisor_hostname="kvm01",resource_class="VCPU"} 248
hypervisor_claimed{hypervisor_hostname="kvm01",resource_class="VCPU"} 96
"""

from __future__ import annotations

from collections.abc import Iterator

from exporter.metric import Collector, Metric, Sample
from exporter.model import Snapshot
from exporter.placement.holders import sum_migrating_in, sum_shut_off

_LABELS = ("hypervisor_hostname", "resource_class")
_UNIT = "vCPUs, MiB, GiB or devices"

INVENTORY = Metric(
    name="hypervisor_inventory",
    help="Total of a resource class, before reserve and over-commit. One guest can claim no more than this, "
    "and of devices such as VGPU no more than one card has.",
    labels=_LABELS,
    unit=_UNIT,
    source="Nova's LibvirtDriver.update_provider_tree (total, max_unit)",
)
RESERVED = Metric(
    name="hypervisor_reserved",
    help="Amount of the resource class that is reserved for the host; guests cannot claim it.",
    labels=_LABELS,
    unit=_UNIT,
    source="reserved_host_cpus, reserved_host_memory_mb, reserved_host_disk_mb (in GiB, rounded up);"
    " the image cache, with reserve_disk_resource_for_image_cache",
)
ALLOCATION_RATIO = Metric(
    name="hypervisor_allocation_ratio",
    help="How many units guests may claim for each unit that is not reserved.",
    labels=_LABELS,
    source="cpu_allocation_ratio, ram_allocation_ratio, disk_allocation_ratio",
)
CAPACITY = Metric(
    name="hypervisor_capacity",
    help="Most that all guests together may claim: (inventory - reserved) * allocation ratio, rounded down.",
    labels=_LABELS,
    unit=_UNIT,
    source="Placement's capacity of an inventory",
)
CLAIMED = Metric(
    name="hypervisor_claimed",
    help="What all guests claim, shut-off ones too: by Nova's flavor if known, else by libvirt's XML.",
    labels=_LABELS,
    unit=_UNIT,
    source="virDomainGetXMLDesc (nova:flavor, else vcpu, memory, disks; hostdev); resources_from_flavor",
)
SHUT_OFF_CLAIMED = Metric(
    name="hypervisor_shut_off_claimed",
    help="The part of hypervisor_claimed that guests hold which are shut off.",
    labels=_LABELS,
    unit=_UNIT,
    source="as hypervisor_claimed; virConnectGetAllDomainStats (state.state)",
)
MIGRATING_IN_CLAIMED = Metric(
    name="hypervisor_migrating_in_claimed",
    help="The part of hypervisor_claimed of guests that are migrating in. Until they have arrived, the"
    " hypervisor that they leave claims them too.",
    labels=_LABELS,
    unit=_UNIT,
    source="as hypervisor_claimed; virConnectGetAllDomainStats (state.state, state.reason)",
)
_PARTS = ((SHUT_OFF_CLAIMED, sum_shut_off), (MIGRATING_IN_CLAIMED, sum_migrating_in))


def _collect(snapshot: Snapshot) -> Iterator[Sample]:
    hostname = snapshot.resources.hypervisor_hostname
    for inventory in snapshot.resources.inventories:
        labels = {"hypervisor_hostname": hostname, "resource_class": inventory.resource_class.value}
        yield from INVENTORY.samples(inventory.total, **labels)
        yield from RESERVED.samples(inventory.reserved, **labels)
        yield from ALLOCATION_RATIO.samples(inventory.allocation_ratio, **labels)
        yield from CAPACITY.samples(inventory.capacity, **labels)
        yield from CLAIMED.samples(inventory.claimed, **labels)
    for metric, sum_part in _PARTS:
        for resource_class, amount in sum_part(snapshot.resources).items():
            yield from metric.samples(
                amount, hypervisor_hostname=hostname, resource_class=resource_class.value
            )


COLLECTOR = Collector(
    name="capacity",
    metrics=(
        INVENTORY,
        RESERVED,
        ALLOCATION_RATIO,
        CAPACITY,
        CLAIMED,
        SHUT_OFF_CLAIMED,
        MIGRATING_IN_CLAIMED,
    ),
    collect=_collect,
    needs=frozenset({"guests", "images", "node devices", "online CPUs", "storage"}),
)

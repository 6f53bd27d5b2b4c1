"""Flavors: how many more guests of each flavor fit, and what limits them.

hypervisor_flavor_slots{hypervisor_hostname="kvm01",flavor="m1.large"} 12
hypervisor_flavor_slots_limited_by{hypervisor_hostname="kvm01",flavor="m1.large",resource_class="MEMORY_MB"} 1
hypervisor_flavor_request{hypervisor_hostname="kvm01",flavor="m1.large",resource_class="MEMORY_MB"} 8192
"""

from __future__ import annotations

from collections.abc import Iterator

from exporter.metric import Collector, Metric, Sample
from exporter.model import ResourceClass, Snapshot

FLAVOR_SLOTS = Metric(
    name="hypervisor_flavor_slots",
    help="How many more guests of this flavor fit; the scarcest resource decides.",
    unit="guests",
    labels=("hypervisor_hostname", "flavor"),
    source="hypervisor_capacity and hypervisor_claimed; flavors of the configuration or of the guests",
)
LIMITED_BY = Metric(
    name="hypervisor_flavor_slots_limited_by",
    help="1 if this resource class prevents one more guest of the flavor, else 0.",
    labels=("hypervisor_hostname", "flavor", "resource_class"),
    source="as hypervisor_flavor_slots",
)
FLAVOR_REQUEST = Metric(
    name="hypervisor_flavor_request",
    help="What one guest of the flavor claims. Absent for a class of which it claims nothing.",
    unit="vCPUs, MiB, GiB or devices",
    labels=("hypervisor_hostname", "flavor", "resource_class"),
    source="as hypervisor_flavor_slots; Nova's resources_from_flavor",
)


def _collect(snapshot: Snapshot) -> Iterator[Sample]:
    hostname = snapshot.resources.hypervisor_hostname
    for each in snapshot.resources.flavor_slots:
        yield from FLAVOR_SLOTS.samples(each.slots, hypervisor_hostname=hostname, flavor=each.flavor)
        for requested, amount in each.request.items():
            yield from FLAVOR_REQUEST.samples(
                amount,
                hypervisor_hostname=hostname,
                flavor=each.flavor,
                resource_class=requested.value,
            )
        for resource_class in dict.fromkeys((*ResourceClass, *each.request)):
            yield from LIMITED_BY.samples(
                float(resource_class in each.limited_by),
                hypervisor_hostname=hostname,
                flavor=each.flavor,
                resource_class=resource_class.value,
            )


COLLECTOR = Collector(
    name="flavors",
    metrics=(FLAVOR_SLOTS, LIMITED_BY, FLAVOR_REQUEST),
    collect=_collect,
    needs=frozenset({"capabilities", "guests", "images", "node devices", "online CPUs", "storage"}),
)

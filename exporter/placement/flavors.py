"""Flavors: how many more guests of each fit on a hypervisor, and which resource is the scarcest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from exporter.model import Flavor, FlavorSlots, Inventory, ResourceClass


def get_flavor_slots(flavors: Iterable[Flavor], inventories: Sequence[Inventory]) -> tuple[FlavorSlots, ...]:
    """Return each flavor's slots, but for those that depend on a total which could not be told."""
    offered = {each.resource_class: each for each in inventories}
    found = (_slots_of(flavor, offered) for flavor in flavors)
    return tuple(slots for slots in found if slots is not None)


def request_of(flavor: Flavor) -> dict[ResourceClass, int]:
    """Return what a guest of the flavor asks Placement for; like Nova, leave out what it asks none of."""
    request = {
        ResourceClass.VCPU: flavor.vcpus,
        ResourceClass.PCPU: flavor.pcpus,
        ResourceClass.MEMORY_MB: flavor.memory_mb,
        ResourceClass.DISK_GB: flavor.disk_gb,
    }
    return {resource_class: amount for resource_class, amount in request.items() if amount}


def count_fitting(inventory: Inventory | None, amount: int) -> int | None:
    """Return how often `amount` can still be claimed; 0 of a class that is not offered, None if unknown."""
    if inventory is None:
        return 0
    if inventory.capacity is None or inventory.max_unit is None:
        return None
    if amount > inventory.max_unit:
        return 0
    return max(0, inventory.capacity - inventory.claimed) // amount


def _slots_of(flavor: Flavor, offered: dict[ResourceClass, Inventory]) -> FlavorSlots | None:
    fitting: dict[ResourceClass, int] = {}
    for resource_class, amount in request_of(flavor).items():
        count = count_fitting(offered.get(resource_class), amount)
        if count is None:
            return None
        fitting[resource_class] = count
    slots = min(fitting.values())
    limited_by = frozenset(each for each, count in fitting.items() if count == slots)
    return FlavorSlots(flavor=flavor.name, slots=slots, limited_by=limited_by)

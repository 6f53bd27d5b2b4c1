"""Flavors: how many more guests of each flavor fit on a hypervisor, and which resource limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from exporter.label import make_label_value
from exporter.model import (
    AnyResourceClass,
    Flavor,
    FlavorCell,
    FlavorSlots,
    Guest,
    Inventory,
    Problem,
    ResourceClass,
    Severity,
)
from exporter.placement.cells import CellRoom, count_fitting_in_cells
from exporter.placement.claims import claim_of_flavor, find_isolated_emulator_cpus, find_pinned_vcpus
from exporter.placement.devices import count_fitting_devices

# Names from guests become label values. They are limited, so that guests' metadata cannot flood Prometheus.
MAX_LEARNT_FLAVORS = 100


def get_flavor_slots(
    flavors: Iterable[Flavor], inventories: Sequence[Inventory], rooms: Sequence[CellRoom] | None
) -> tuple[FlavorSlots, ...]:
    """Return each flavor's slots. Flavors that depend on an unknown total are left out.

    :param rooms: of the host's NUMA cells; None for a host without cells, which takes no guest that needs one
    """
    offered = {each.resource_class: each for each in inventories}
    found = (_slots_of(flavor, offered, rooms) for flavor in flavors)
    return tuple(slots for slots in found if slots is not None)


def request_of(flavor: Flavor) -> dict[AnyResourceClass, int]:
    """Return what a guest of the flavor claims in Placement.

    As in Nova, classes without a claim are left out.
    """
    request: dict[AnyResourceClass, int] = {
        ResourceClass.VCPU: flavor.vcpus,
        ResourceClass.PCPU: flavor.pcpus,
        ResourceClass.MEMORY_MB: flavor.memory_mb,
        ResourceClass.DISK_GB: flavor.disk_gb,
    }
    for device_class, amount in flavor.devices:
        request[device_class] = request.get(device_class, 0) + amount
    return {resource_class: amount for resource_class, amount in request.items() if amount}


def count_fitting(inventory: Inventory | None, amount: int) -> int | None:
    """Return how often `amount` can still be claimed: 0 for a class that is not offered, None if unknown."""
    if inventory is None:
        return 0
    if inventory.capacity is None or inventory.max_unit is None or inventory.claimed is None:
        return None
    if amount > inventory.max_unit:
        return 0
    return max(0, inventory.capacity - inventory.claimed) // amount


def learn_flavors(
    flavors: Iterable[Flavor | None], *, known: Iterable[Flavor]
) -> tuple[tuple[Flavor, ...], tuple[Problem, ...]]:
    """Return the guests' flavors with names that are not configured, and a problem if some are left out.

    If guests disagree on a flavor, because it was created again under the same name, the majority wins. If
    there are too many flavors, those with the most guests stay. A flavor whose guests all boot from volumes
    needs no root disk. If one of them boots from an image, the next guest may do so too.

    :param flavors: the flavor of each guest; None for a guest without one
    """
    known_names = {flavor.name for flavor in known}
    seen: Counter[Flavor] = Counter()
    without_root: dict[Flavor, Flavor] = {}
    with_image: set[Flavor] = set()
    for flavor, guests in Counter([flavor for flavor in flavors if flavor is not None]).items():
        whole = replace(flavor, disk_gb=flavor.disk_gb + flavor.root_volume_gb, root_volume_gb=0)
        seen[whole] += guests
        if whole == flavor:
            with_image.add(whole)
        without_root[whole] = replace(flavor, root_volume_gb=0)
    by_name: dict[str, Flavor] = {}
    for whole, _ in sorted(seen.items(), key=_by_guests):
        flavor = whole if whole in with_image else without_root[whole]
        if flavor.name not in known_names and request_of(flavor):
            by_name.setdefault(flavor.name, flavor)
    learnt = tuple(by_name.values())
    if len(learnt) <= MAX_LEARNT_FLAVORS:
        return learnt, ()
    message = f"guests have {len(learnt)} flavors: the {MAX_LEARNT_FLAVORS} with the most guests are shown"
    too_many = Problem(severity=Severity.NOTE, reason="flavors", subject="", message=message)
    return learnt[:MAX_LEARNT_FLAVORS], (too_many,)


def _by_guests(seen: tuple[Flavor, int]) -> tuple[object, ...]:
    """Return what to sort by: the flavor with the most guests first, then the larger one."""
    flavor, guests = seen
    amounts = -flavor.vcpus, -flavor.pcpus, -flavor.memory_mb, -flavor.disk_gb
    layout = -flavor.numa_cells, flavor.layout, flavor.page_size_kib or 0, flavor.cpu_thread_policy or ""
    return -guests, flavor.name, *amounts, *layout, flavor.devices


def flavor_of(guest: Guest, dedicated_cpus: frozenset[int]) -> Flavor | None:
    """Return the flavor of a guest, with the guest's layout. A root disk that is a volume is apart.

    None if the guest has none, or its layout is not known.
    """
    if guest.nova_flavor is None or not guest.is_placement_known:
        return None
    whole, claim = (
        claim_of_flavor(guest.nova_flavor, guest, is_volume_backed=is_volume, dedicated_cpus=dedicated_cpus)
        for is_volume in (False, guest.is_volume_backed)
    )
    flavor = Flavor(
        name=make_label_value(guest.nova_flavor.name),
        vcpus=claim.get(ResourceClass.VCPU, 0),
        pcpus=claim.get(ResourceClass.PCPU, 0),
        memory_mb=claim[ResourceClass.MEMORY_MB],
        disk_gb=claim[ResourceClass.DISK_GB],
        numa_cells=len(guest.numa_cells),
        page_size_kib=guest.numa_cells[0].page_size_kib if guest.numa_cells else None,
        root_volume_gb=whole[ResourceClass.DISK_GB] - claim[ResourceClass.DISK_GB],
        devices=guest.nova_flavor.devices,
        cpu_thread_policy=guest.nova_flavor.cpu_thread_policy,
    )
    layout = _layout_of(guest, dedicated_cpus)
    return flavor if layout == flavor.cells else replace(flavor, layout=layout)


def _layout_of(guest: Guest, dedicated_cpus: frozenset[int]) -> tuple[FlavorCell, ...]:
    """Return what each NUMA cell of the guest needs. An isolated emulator's CPU is in the first."""
    pinned = find_pinned_vcpus(guest, dedicated_cpus)
    emulator = find_isolated_emulator_cpus(guest, dedicated_cpus) if pinned else ()
    return tuple(
        FlavorCell(
            vcpus=len(part.vcpus - pinned),
            pcpus=len(part.vcpus & pinned) + (0 if number else len(emulator)),
            memory_kib=part.memory_kib,
        )
        for number, part in enumerate(guest.numa_cells)
    )


def _slots_of(
    flavor: Flavor, offered: Mapping[AnyResourceClass, Inventory], rooms: Sequence[CellRoom] | None
) -> FlavorSlots | None:
    fitting: dict[AnyResourceClass, int] = {}
    request = request_of(flavor)
    for resource_class, amount in request.items():
        inventory = offered.get(resource_class)
        if isinstance(resource_class, ResourceClass):
            count = count_fitting(inventory, amount)
        else:
            amounts = [each for name, each in flavor.devices if name == resource_class]
            count = count_fitting_devices(resource_class, inventory, amounts)
        if count is None:
            return None
        fitting[resource_class] = count
    slots = min(fitting.values())
    if flavor.numa_cells:
        in_cells = count_fitting_in_cells(flavor, rooms or ())
        slots = min(slots, in_cells.guests)
        for resource_class, count in in_cells.by_class.items():
            claimed = _class_of(resource_class, fitting)
            if claimed is not None:
                fitting[claimed] = min(fitting[claimed], count)
    scarcest = frozenset(each for each, count in fitting.items() if count == slots)
    # If no single class explains the count (CPUs free in one cell, memory in another), name all of them.
    of_cells = frozenset(each for each in fitting if isinstance(each, ResourceClass))
    limited_by = scarcest or of_cells - {ResourceClass.DISK_GB}
    return FlavorSlots(flavor=flavor.name, slots=slots, limited_by=limited_by, request=request)


def _class_of(resource_class: ResourceClass, claimed: Collection[AnyResourceClass]) -> ResourceClass | None:
    """Return the class by which Placement counts what the cells count by this one; None if by none.

    Without cpu_dedicated_set, pinned vCPUs are VCPU there.
    """
    cpus = (ResourceClass.VCPU, ResourceClass.PCPU)
    classes = (resource_class, *cpus) if resource_class in cpus else (resource_class,)
    return next((each for each in classes if each in claimed), None)

"""Devices: the inventory of each class, and what guests hold of it.

Placement has a provider for each card. A guest's devices are those in its libvirt definition: Nova puts them
there when the guest is made, and they stay while it is shut off.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from exporter.model import (
    DeviceClass,
    DeviceProvider,
    GuestDevices,
    Inventory,
    NodeDevices,
)
from exporter.placement.pci import find_free

# A guest's devices, and what its flavor asks for.
Holding = tuple[GuestDevices, Sequence[tuple[DeviceClass, int]]]


def list_held_addresses(devices: NodeDevices, guests: Iterable[GuestDevices]) -> frozenset[str]:
    """Return the addresses of the PCI devices that guests have."""
    held = frozenset().union(*(each.hostdevs | each.interfaces for each in guests))
    return frozenset(devices.vdpa_addresses.get(each, each) for each in held)


def get_device_inventories(devices: NodeDevices, guests: Sequence[Holding] | None) -> tuple[Inventory, ...]:
    """Return the inventory of each class of devices, by Nova's rules for the providers.

    :param guests: None if they are not known
    """
    by_class: dict[DeviceClass, list[DeviceProvider]] = {}
    for provider in devices.providers:
        by_class.setdefault(provider.resource_class, []).append(provider)
    if guests is None:
        return tuple(_make_inventory(name, providers, None, 0) for name, providers in by_class.items())
    held = list_held_addresses(devices, [each for each, _ in guests])
    uuids = frozenset().union(*(each.mdev_uuids for each, _ in guests))
    unplaced = _count_unplaced(devices, guests)
    return tuple(
        _make_inventory(
            name,
            providers,
            held | uuids if unplaced is not None or not _has_mdevs(providers) else None,
            0 if unplaced is None else unplaced.get(name, 0),
        )
        for name, providers in by_class.items()
    )


def _make_inventory(
    name: DeviceClass, providers: Sequence[DeviceProvider], held: frozenset[str] | None, unplaced: int
) -> Inventory:
    claimed = None if held is None else [len(each.members & held) for each in providers]
    free = None
    if claimed is not None and _has_mdevs(providers):
        free = tuple(max(0, each.total - own) for each, own in zip(providers, claimed, strict=True))
    return Inventory(
        resource_class=name,
        total=sum(each.total for each in providers),
        reserved=0,
        allocation_ratio=1.0,
        claimed=None if claimed is None else sum(claimed) + unplaced,
        free_by_provider=free,
        unplaced=unplaced,
    )


def get_pool_inventories(devices: NodeDevices, guests: Iterable[GuestDevices]) -> tuple[Inventory, ...]:
    """Return what is left of PCI devices that Nova does not report to Placement, by the usual class names.

    They are in pools of Nova's own (nova.pci.stats). A flavor asks for them by an alias.
    """
    if devices.has_pci_in_placement:
        return ()
    free = find_free(devices.pci_devices, list_held_addresses(devices, guests))
    totals = Counter(each.resource_class for each in devices.pci_devices)
    left = Counter(each.resource_class for each in devices.pci_devices if each.address in free)
    return tuple(
        Inventory(
            resource_class=name,
            total=total,
            reserved=0,
            allocation_ratio=1.0,
            claimed=total - left[name],
        )
        for name, total in totals.items()
    )


def find_requested(devices: NodeDevices, own: GuestDevices) -> tuple[tuple[DeviceClass, int], ...] | None:
    """Return what a guest's flavor asked for, judged by what the guest has; None if a class is not known.

    Devices of network ports are not its flavor's. Mediated devices of one card were asked for together.
    """
    by_member = {member: each for each in devices.providers for member in each.members}
    pools = {} if devices.has_pci_in_placement else {each.address: each for each in devices.pci_devices}
    together: Counter[tuple[DeviceClass, str]] = Counter()
    requested: list[tuple[DeviceClass, int]] = []
    for member in own.hostdevs | own.mdev_uuids:
        if member in by_member and by_member[member].is_mdev:
            provider = by_member[member]
            together[provider.resource_class, provider.name] += 1
        elif member in by_member:
            requested.append((by_member[member].resource_class, 1))
        elif member in pools:
            requested.append((pools[member].resource_class, 1))
        else:
            return None
    requested += [(name, count) for (name, _), count in together.items()]
    return tuple(sorted(requested))


def is_offered_as_device(name: str) -> bool:
    """Return whether only devices can be of this class, so that a host that offers none of it has none.

    Other classes may come from elsewhere: Nova's provider.yaml, or another service.
    """
    return name == "VGPU" or name.startswith("CUSTOM_PCI_")


def count_fitting_devices(
    name: DeviceClass, inventory: Inventory | None, amounts: Sequence[int]
) -> int | None:
    """Return how many more guests can have these amounts of devices: 0 if none is offered, None if not known.

    Each amount of mediated devices is of one card (a group of Placement's request). PCI devices may be of any
    cards: Nova asks for each of them by itself.
    """
    if inventory is None:
        return 0 if is_offered_as_device(name) else None
    if inventory.capacity is None or inventory.claimed is None:
        return None
    free = inventory.free_by_provider
    if free is None:
        return max(0, inventory.capacity - inventory.claimed) // sum(amounts)
    amount, unplaced = amounts[0], inventory.unplaced
    if any(each != amount for each in amounts):
        return None
    if len(free) == 1:
        free, unplaced = (max(0, free[0] - unplaced),), 0
    if amount > 1 and unplaced:
        return None
    return max(0, sum(each // amount for each in free) - unplaced) // len(amounts)


def _has_mdevs(providers: Iterable[DeviceProvider]) -> bool:
    return any(each.is_mdev for each in providers)


def _count_unplaced(devices: NodeDevices, guests: Iterable[Holding]) -> Mapping[str, int] | None:
    """Return, by class, how many mediated devices guests have that do not exist now, as after a reboot.

    Their cards are not known. None if not even the class of one is known.
    """
    existing = {each.uuid for each in devices.mdevs}
    classes = {each.resource_class for each in devices.providers if each.is_mdev}
    unplaced: Counter[str] = Counter()
    for own, requested in guests:
        missing = len(own.mdev_uuids - existing)
        if not missing or not classes:
            continue
        found = find_missing_class(classes, requested)
        if found is None:
            return None
        unplaced[found] += missing
    return unplaced


def find_missing_class(
    classes: Collection[DeviceClass], requested: Sequence[tuple[DeviceClass, int]]
) -> DeviceClass | None:
    """Return the class of a guest's mediated devices that do not exist now; None if it is not known.

    :param classes: of all mediated devices of the host
    :param requested: what the guest's flavor asks for
    """
    possible = set(classes) if len(classes) == 1 else set(classes).intersection(name for name, _ in requested)
    return next(iter(possible)) if len(possible) == 1 else None

"""Devices: the inventory of each class, and what guests hold of it.

Placement has a provider for each card. A guest's devices are those in its libvirt definition: Nova puts them
there when the guest is made, and they stay while it is shut off.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from exporter.model import (
    DeviceClass,
    DeviceProvider,
    GuestDevices,
    Inventory,
    NodeDevices,
)

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
        possible = classes if len(classes) == 1 else classes.intersection(name for name, _ in requested)
        if not missing or not classes:
            continue
        if len(possible) != 1:
            return None
        unplaced[next(iter(possible))] += missing
    return unplaced

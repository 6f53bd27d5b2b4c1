"""Mediated devices (vGPUs): what each card offers, by Nova's rules.

Nova makes devices of one type only on each card: the type whose [mdev_TYPE] device_addresses name the card,
else the default type, which is the first enabled one without addresses. The rules are those of Nova 29 and
later (nova.virt.libvirt.driver: _get_supported_vgpu_types, _get_gpu_inventories).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from exporter.config.settings import HypervisorConfig
from exporter.model import DeviceClass, DeviceProvider, Mdev, MdevCard, MdevType

VGPU = DeviceClass("VGPU")

# libvirt's name of a PCI device. Another card, which is a virtual one, has no default type.
_NAME = re.compile(r"pci_([0-9a-fA-F]{4})_([0-9a-fA-F]{2})_([0-9a-fA-F]{2})_([0-7])", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class MdevView:
    """The cards' mediated devices as Nova has them."""

    providers: tuple[DeviceProvider, ...]  # with a total above 0
    available: tuple[MdevType, ...]  # by type, how many more Nova makes


@dataclass(frozen=True, kw_only=True, slots=True)
class _Choice:
    """Which type a card has."""

    by_address: Mapping[str, str]
    default: str | None
    classes: Mapping[str, str]  # by address
    limits: Mapping[str, int]  # max_instances by type

    @classmethod
    def make(cls, options: HypervisorConfig) -> _Choice:
        own = {each.name: each for each in options.mdev_types}
        enabled = options.enabled_mdev_types
        with_addresses = [own[name] for name in enabled if name in own and own[name].device_addresses]
        named = {each.name for each in with_addresses}
        return cls(
            by_address={address: each.name for each in with_addresses for address in each.device_addresses},
            default=next((name for name in enabled if name not in named), None),
            # As in Nova, cards of the default type are of the class VGPU, whatever the type's mdev_class is.
            classes={
                address: each.mdev_class for each in with_addresses for address in each.device_addresses
            },
            limits={each.name: each.max_instances for each in options.mdev_types if each.max_instances},
        )

    def get_type(self, card: str) -> str | None:
        """Return the type of the card of this name; None for a card that is not used."""
        address = _get_address(card)
        return self.by_address.get(card) if address is None else self.by_address.get(address, self.default)

    def get_class(self, card: str) -> DeviceClass:
        """Return the resource class of what the card offers."""
        return DeviceClass(self.classes.get(_get_address(card) or card, VGPU))


def get_mdev_view(cards: Sequence[MdevCard], mdevs: Sequence[Mdev], options: HypervisorConfig) -> MdevView:
    """Return what the cards offer, which is nothing without enabled_mdev_types.

    :param cards: in the order in which libvirt lists them; max_instances is used up in this order
    """
    choice = _Choice.make(options)
    existing = [each for each in mdevs if each.mdev_type == choice.get_type(each.parent)]
    totals = Counter(each.parent for each in existing)
    count_by_type = Counter(each.mdev_type for each in existing)
    available: Counter[str] = Counter()
    for card in cards:
        mdev_type = choice.get_type(card.name)
        if mdev_type is None or mdev_type not in card.available:
            continue
        count, limit = card.available[mdev_type], choice.limits.get(mdev_type)
        if limit is not None and count_by_type[mdev_type] + count > limit:
            # Nova then takes the whole card away, with the devices that exist on it.
            totals[card.name], count = 0, 0
        totals[card.name] += count
        count_by_type[mdev_type] += count
        available[mdev_type] += count
    return MdevView(
        providers=tuple(
            DeviceProvider(
                name=name,
                resource_class=choice.get_class(name),
                total=total,
                members=frozenset(each.uuid for each in mdevs if each.parent == name),
                is_mdev=True,
            )
            for name, total in totals.items()
            if total
        ),
        available=tuple(MdevType(name=name, available_instances=count) for name, count in available.items()),
    )


def _get_address(card: str) -> str | None:
    """Return the PCI address in libvirt's name of a card; None if it has none that Nova reads."""
    match = _NAME.fullmatch(card)
    return None if match is None else f"{match[1]}:{match[2]}:{match[3]}.{match[4]}"

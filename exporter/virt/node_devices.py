"""Node devices, parsed: PCI devices as Nova describes them, and types of mediated devices.

What is odd in one device costs that device or that part of it, never another device.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar
from xml.etree import ElementTree

from exporter.label import make_label_value
from exporter.model import Mdev, MdevCard, MdevType, PciDevice, UnreadDevice
from exporter.virt.libvirt_xml import (
    PCI_ADDRESS_FIELDS,
    format_pci_address,
    parse_pci_address,
    whole_number,
)
from exporter.virt.vital_product_data import parse_device_xml

T = TypeVar("T")

_NAME = re.compile(r"<name>([^<]*)</name>")
# "0x10de", with four digits at most.
_ID = re.compile(r"(?:0x)?[0-9a-fA-F]{1,4}", re.ASCII)
_MDEV_TYPES = ("capability/capability[@type='mdev_types']/type", "capability[@type='mdev_types']/type")
_MDEV_NAME = re.compile(r"mdev_([0-9a-fA-F]{8}(?:_[0-9a-fA-F]{4}){3}_[0-9a-fA-F]{12})", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class ParsedDevices:
    """All node devices that were read."""

    pci: tuple[PciDevice, ...]
    cards: tuple[MdevCard, ...]  # that mediated devices can be made of
    mdevs: tuple[Mdev, ...]
    interfaces: dict[str, str]  # the PCI addresses of network interfaces, by the interface's name
    unread: tuple[UnreadDevice, ...] = ()  # devices that could not be read, or not all of it
    vdpa_addresses: Mapping[str, str] = field(default_factory=dict)  # PCI addresses by "/dev/vhost-vdpa-0"
    repaired: tuple[str, ...] = ()  # devices whose vital product data libvirt did not escape

    @property
    def mdev_types(self) -> tuple[MdevType, ...]:
        """Every type of every card."""
        return tuple(
            MdevType(name=name, available_instances=count)
            for card in self.cards
            for name, count in card.available.items()
        )


def parse_node_devices(described: Iterable[str | UnreadDevice]) -> ParsedDevices:
    """Parse the results of virNodeDeviceGetXMLDesc for several devices.

    A device that is not what libvirt documents is left out, and is in `unread`.
    """
    return _Parser().parse(described)


class _Parser:
    """What is being read, and what could not be."""

    def __init__(self) -> None:
        self._devices: list[ElementTree.Element] = []
        self._unread: dict[str, UnreadDevice] = {}
        self._repaired: list[str] = []

    def parse(self, described: Iterable[str | UnreadDevice]) -> ParsedDevices:
        for each in described:
            self._add(each)
        pci = self._parse_pci_devices()
        addresses = {name: device.address for name, device in pci}
        return ParsedDevices(
            pci=tuple(device for _, device in pci),
            cards=tuple(self._parse_cards()),
            mdevs=tuple(self._parse_mdevs()),
            interfaces=dict(self._parse_interfaces(addresses)),
            vdpa_addresses=dict(self._parse_vdpa(addresses)),
            unread=tuple(self._unread.values()),
            repaired=tuple(self._repaired),
        )

    def _add(self, described: str | UnreadDevice) -> None:
        if isinstance(described, UnreadDevice):
            self._unread[described.name] = described
            return
        name = _find_name(described)
        device = self._try(name, partial(parse_device_xml, described))
        if device is not None:
            self._devices.append(device.element)
            self._repaired += [name] if device.is_repaired else []

    def _parse_pci_devices(self) -> list[tuple[str, PciDevice]]:
        """Return the PCI devices as Nova describes them, with their names (`Host._get_pcidev_info`)."""
        vdpa_parents = {
            device.findtext("parent")
            for device in self._devices
            if _find_capability(device, "vdpa") is not None
        }
        found: list[tuple[str, PciDevice]] = []
        for device in self._devices:
            pci, name = _find_capability(device, "pci"), _get_name(device)
            if pci is not None:
                parsed = self._try(name, partial(_parse_pci_device, pci, is_vdpa=name in vdpa_parents))
                found += [] if parsed is None else [(name, parsed)]
        with_serials = {each.address for _, each in found if each.has_serial_number}
        return [
            (name, replace(each, has_serial_number=_has_card_serial_number(each, with_serials)))
            for name, each in found
        ]

    def _parse_cards(self) -> Iterator[MdevCard]:
        """Yield the devices with types of mediated devices: of PCI, of s390, or virtual ones."""
        for device in self._devices:
            name = _get_name(device)
            types = [each for path in _MDEV_TYPES for each in device.iterfind(path)]
            parsed = [self._try(name, partial(_parse_mdev_type, each)) for each in types]
            available = dict(each for each in parsed if each is not None)
            if available:
                yield MdevCard(name=name, available=available)

    def _parse_mdevs(self) -> Iterator[Mdev]:
        for device in self._devices:
            mdev = _find_capability(device, "mdev")
            if mdev is not None:
                parsed = self._try(_get_name(device), partial(_parse_mdev, device, mdev))
                if parsed is not None:
                    yield parsed

    def _parse_interfaces(self, addresses: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        """Yield the name of each network interface of a PCI device, and the device's address."""
        for device in self._devices:
            net, parent = _find_capability(device, "net"), device.findtext("parent", "")
            if net is not None and parent in addresses:
                yield net.findtext("interface", ""), addresses[parent]

    def _parse_vdpa(self, addresses: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        """Yield the path of each vDPA device, and the address of the PCI device that it is of."""
        for device in self._devices:
            vdpa, parent = _find_capability(device, "vdpa"), device.findtext("parent", "")
            if vdpa is not None and parent in addresses:
                yield vdpa.findtext("chardev", ""), addresses[parent]

    def _try(self, name: str, parse: Callable[[], T]) -> T | None:
        """Return what was parsed of a device; None, and the device is unread, if it is odd."""
        try:
            return parse()
        except ValueError as error:
            self._unread.setdefault(name, UnreadDevice(name=name, error=f"unexpected XML: {error}"))
            return None


def _find_name(xml: str) -> str:
    """Return a device's name without parsing its XML, which may be none."""
    match = _NAME.search(xml)
    return make_label_value(match[1]) if match else "without a name"


def _get_name(device: ElementTree.Element) -> str:
    return make_label_value(device.findtext("name", "without a name"))


def _find_capability(element: ElementTree.Element, kind: str) -> ElementTree.Element | None:
    return element.find(f"capability[@type='{kind}']")


def _parse_pci_device(pci: ElementTree.Element, *, is_vdpa: bool) -> PciDevice:
    """Return a PCI device. Its serial number is that in its own vital product data.

    :raises ValueError: if it is not what libvirt documents
    """
    dev_type, parent = _dev_type(pci, is_vdpa=is_vdpa)
    return PciDevice(
        address=_address(pci),
        vendor_id=_id(pci, "vendor"),
        product_id=_id(pci, "product"),
        dev_type=dev_type,
        parent_address=parent,
        has_serial_number=bool(
            pci.findtext("capability[@type='vpd']/fields[@access='readonly']/serial_number")
        ),
    )


def _has_card_serial_number(device: PciDevice, with_serials: Container[str | None]) -> bool:
    """Return whether the card has a serial number: a virtual function may have that of its parent."""
    return device.has_serial_number or (
        device.dev_type == "type-VF" and device.parent_address in with_serials
    )


def _dev_type(pci: ElementTree.Element, *, is_vdpa: bool) -> tuple[str, str | None]:
    """Return Nova's type of a device, and the address of the physical function for a virtual one."""
    for capability in pci.iterfind("capability"):
        kind, physical = capability.get("type"), capability.find("address")
        if kind == "virt_functions":
            return "type-PF", None
        if kind == "phys_function" and physical is not None:
            return "vdpa" if is_vdpa else "type-VF", parse_pci_address(physical)
    return "type-PCI", None


def _address(pci: ElementTree.Element) -> str:
    return format_pci_address(*(whole_number(pci.findtext(name, "")) for name in PCI_ADDRESS_FIELDS))


def _id(pci: ElementTree.Element, tag: str) -> str:
    element = pci.find(tag)
    text = None if element is None else element.get("id")
    if text is None or not _ID.fullmatch(text):
        raise ValueError(f"{tag} id {text and text[:40]!r} is no number of four hexadecimal digits")
    return f"{int(text, 16):04x}"


def _parse_mdev(device: ElementTree.Element, mdev: ElementTree.Element) -> Mdev:
    """Return a mediated device. Before libvirt 7.3 only its name has its UUID.

    :raises ValueError: if it is not what libvirt documents
    """
    mdev_type, parent = mdev.find("type"), device.findtext("parent")
    in_name = _MDEV_NAME.match(device.findtext("name", ""))
    uuid = mdev.findtext("uuid") or (in_name[1].replace("_", "-") if in_name else None)
    if mdev_type is None or not parent or uuid is None:
        raise ValueError("a mediated device without type, parent or UUID")
    return Mdev(uuid=uuid.strip().lower(), parent=make_label_value(parent), mdev_type=_get_type_id(mdev_type))


def _get_type_id(element: ElementTree.Element) -> str:
    name = element.get("id")
    if name is None:
        raise ValueError("a type of mediated devices without a name")
    return make_label_value(name)


def _parse_mdev_type(element: ElementTree.Element) -> tuple[str, int]:
    """Return a type of mediated devices, and how many more can be made.

    :raises ValueError: if it is not what libvirt documents
    """
    name, available = _get_type_id(element), whole_number(element.findtext("availableInstances", ""))
    if available < 0:
        raise ValueError(f"{available} available instances of {name}")
    return name, available

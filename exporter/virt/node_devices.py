"""Node devices, parsed: PCI devices as Nova describes them, and types of mediated devices.

What is odd in one device costs that device or that part of it, never another device.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar
from xml.etree import ElementTree

from exporter.label import make_label_value
from exporter.model import MdevType, PciDevice, UnreadDevice
from exporter.virt.libvirt_xml import whole_number
from exporter.virt.vital_product_data import parse_device_xml

T = TypeVar("T")

_NAME = re.compile(r"<name>([^<]*)</name>")
# "0x10de", with four digits at most.
_ID = re.compile(r"(?:0x)?[0-9a-fA-F]{1,4}", re.ASCII)
_FIELDS = ("domain", "bus", "slot", "function")


@dataclass(frozen=True, kw_only=True, slots=True)
class ParsedDevices:
    """All node devices that were read."""

    pci: tuple[PciDevice, ...]
    mdev_types: tuple[MdevType, ...]
    interfaces: dict[str, str]  # the PCI addresses of network interfaces, by the interface's name
    unread: tuple[UnreadDevice, ...] = ()  # devices that could not be read, or not all of it
    repaired: tuple[str, ...] = ()  # devices whose vital product data libvirt did not escape


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
        return ParsedDevices(
            pci=tuple(device for _, device in pci),
            mdev_types=tuple(self._parse_mdev_types()),
            interfaces=dict(self._parse_interfaces({name: device.address for name, device in pci})),
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

    def _parse_mdev_types(self) -> Iterator[MdevType]:
        """Yield the types of mediated devices of each device: of PCI or of s390."""
        for device in self._devices:
            for element in device.iterfind("capability/capability[@type='mdev_types']/type"):
                parsed = self._try(_get_name(device), partial(_parse_mdev_type, element))
                if parsed is not None:
                    yield parsed

    def _parse_interfaces(self, addresses: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        """Yield the name of each network interface of a PCI device, and the device's address."""
        for device in self._devices:
            net, parent = _find_capability(device, "net"), device.findtext("parent", "")
            if net is not None and parent in addresses:
                yield net.findtext("interface", ""), addresses[parent]

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
            numbers = (int(physical.get(name, ""), 16) for name in _FIELDS)
            return "vdpa" if is_vdpa else "type-VF", _format_address(*numbers)
    return "type-PCI", None


def _address(pci: ElementTree.Element) -> str:
    return _format_address(*(whole_number(pci.findtext(name, "")) for name in _FIELDS))


def _format_address(domain: int, bus: int, slot: int, function: int) -> str:
    if min(domain, bus, slot, function) < 0:
        raise ValueError("a PCI address with a number below 0")
    return f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"


def _id(pci: ElementTree.Element, tag: str) -> str:
    element = pci.find(tag)
    text = None if element is None else element.get("id")
    if text is None or not _ID.fullmatch(text):
        raise ValueError(f"{tag} id {text and text[:40]!r} is no number of four hexadecimal digits")
    return f"{int(text, 16):04x}"


def _parse_mdev_type(element: ElementTree.Element) -> MdevType:
    """Return a type of mediated devices.

    :raises ValueError: if it is not what libvirt documents
    """
    name, available = element.get("id"), whole_number(element.findtext("availableInstances", ""))
    if name is None or available < 0:
        raise ValueError(f"a mediated device type {name!r} with {available} available instances")
    return MdevType(name=make_label_value(name), available_instances=available)

"""Node devices, parsed: PCI devices as Nova describes them, and types of mediated devices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from exporter.errors import HypervisorError
from exporter.label import make_label_value
from exporter.model import MdevType, PciDevice
from exporter.virt.libvirt_xml import parse_xml, whole_number

# Each kind of device is a series. No host has this many, so a longer list is an error.
MAX_KINDS = 256
_MAX_ID_LENGTH = 10  # "0x10de"


@dataclass(frozen=True, kw_only=True, slots=True)
class ParsedDevices:
    """All node devices that were read."""

    pci: tuple[PciDevice, ...]
    mdev_types: tuple[MdevType, ...]
    interfaces: dict[str, str]  # the PCI addresses of network interfaces, by the interface's name


def parse_node_devices(xmls: Iterable[str]) -> ParsedDevices:
    """Parse the results of virNodeDeviceGetXMLDesc for several devices.

    :raises HypervisorError: if they are not what libvirt documents
    """
    try:
        devices = [parse_xml(xml) for xml in xmls]
        parsed = ParsedDevices(
            pci=tuple(_pci_devices(devices)),
            mdev_types=tuple(mdev_type for device in devices for mdev_type in _mdev_types(device)),
            interfaces=dict(_interfaces(devices)),
        )
        _check_kinds(parsed)
        return parsed
    except (ValueError, KeyError, TypeError) as error:
        raise HypervisorError(f"unexpected node device XML: {error}") from error


def _check_kinds(parsed: ParsedDevices) -> None:
    kinds = {(each.vendor_id, each.product_id, each.dev_type) for each in parsed.pci}
    types = {each.name for each in parsed.mdev_types}
    if max(len(kinds), len(types)) > MAX_KINDS:
        raise ValueError(f"{len(kinds)} kinds of PCI and {len(types)} of mediated devices")


def _pci_devices(devices: Sequence[ElementTree.Element]) -> Iterator[PciDevice]:
    """Yield the PCI devices as Nova describes them (`Host._get_pcidev_info`)."""
    vdpa_parents = {
        device.findtext("parent") for device in devices if _find_capability(device, "vdpa") is not None
    }
    pci_devices = [
        (device.findtext("name"), pci)
        for device in devices
        if (pci := _find_capability(device, "pci")) is not None
    ]
    serials: dict[str | None, bool] = {_address(pci): _has_serial_number(pci) for _, pci in pci_devices}
    for name, pci in pci_devices:
        dev_type, parent = _dev_type(pci, is_vdpa=name in vdpa_parents)
        address = _address(pci)
        yield PciDevice(
            address=address,
            vendor_id=_id(pci, "vendor"),
            product_id=_id(pci, "product"),
            dev_type=dev_type,
            parent_address=parent,
            has_serial_number=serials[address] or (dev_type == "type-VF" and serials.get(parent, False)),
        )


def _find_capability(element: ElementTree.Element, kind: str) -> ElementTree.Element | None:
    return element.find(f"capability[@type='{kind}']")


def _dev_type(pci: ElementTree.Element, *, is_vdpa: bool) -> tuple[str, str | None]:
    """Return Nova's type of a device, and the address of the physical function for a virtual one."""
    for capability in pci.iterfind("capability"):
        kind, physical = capability.get("type"), capability.find("address")
        if kind == "virt_functions":
            return "type-PF", None
        if kind == "phys_function" and physical is not None:
            numbers = (int(physical.attrib[name], 16) for name in ("domain", "bus", "slot", "function"))
            return "vdpa" if is_vdpa else "type-VF", _format_address(*numbers)
    return "type-PCI", None


def _address(pci: ElementTree.Element) -> str:
    numbers = (whole_number(pci.findtext(name, "")) for name in ("domain", "bus", "slot", "function"))
    return _format_address(*numbers)


def _format_address(domain: int, bus: int, slot: int, function: int) -> str:
    return f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"


def _id(pci: ElementTree.Element, tag: str) -> str:
    element = pci.find(tag)
    if element is None:
        raise ValueError(f"no <{tag}>")
    number = int(element.attrib["id"][:_MAX_ID_LENGTH], 16)
    return f"{number:04x}"


def _has_serial_number(pci: ElementTree.Element) -> bool:
    """Whether the vital product data have the card's serial number."""
    return bool(pci.findtext("capability[@type='vpd']/fields[@access='readonly']/serial_number"))


def _mdev_types(device: ElementTree.Element) -> Iterator[MdevType]:
    """Yield the types of mediated devices of a device: of PCI or of s390."""
    for element in device.iterfind("capability/capability[@type='mdev_types']/type"):
        yield MdevType(
            name=make_label_value(element.attrib["id"]),
            available_instances=whole_number(element.findtext("availableInstances", "")),
        )


def _interfaces(devices: Sequence[ElementTree.Element]) -> Iterator[tuple[str, str]]:
    """Yield the name of each network interface of a PCI device, and the device's address."""
    addresses = {
        device.findtext("name"): _address(pci)
        for device in devices
        if (pci := _find_capability(device, "pci")) is not None
    }
    for device in devices:
        net, parent = _find_capability(device, "net"), device.findtext("parent")
        if net is not None and parent in addresses:
            yield net.findtext("interface", ""), addresses[parent]

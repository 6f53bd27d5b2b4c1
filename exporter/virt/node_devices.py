"""Node devices: the PCI devices that guests may be given, and the mediated devices that may still be made.

Reading them costs libvirt a call for each, so it is done between scrapes: when libvirt tells of a change, and
every few minutes. Scrapes take what is known.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from exporter.device_spec import list_assignable, parse_device_spec
from exporter.errors import ConnectionLostError, HypervisorError
from exporter.label import fit_label
from exporter.model import MdevType, NodeDevices, PciDevice, Problem, Severity
from exporter.virt.libvirt_xml import parse_xml, whole_number

# Events tell of devices that come, go or change; this is for what they miss.
MAX_AGE_SECONDS = 300.0
# Events come in swarms: a card that is given 64 virtual functions is 64 of them.
MIN_AGE_SECONDS = 5.0
# Each kind of device is a series: no host has as many, and one that says so is not believed.
MAX_KINDS = 256
_MAX_ID_LENGTH = 10  # "0x10de"


@dataclass(frozen=True, kw_only=True, slots=True)
class ParsedDevices:
    """All node devices that were read."""

    pci: tuple[PciDevice, ...]
    mdev_types: tuple[MdevType, ...]
    interfaces: dict[str, str]  # the PCI addresses of network interfaces, by the interface's name


class NodeDeviceCache:
    """The node devices that count, as they were last read.

    :param list_devices: returns the XML of the node devices that have one of these capabilities
    :param take_changed: returns whether an event spoke of a node device since the last call, and forgets it
    :param device_specs: Nova's [pci] device_spec, each as JSON; without any, no PCI device is read
    :param enabled_mdev_types: Nova's [devices] enabled_mdev_types; empty for all types
    :param clock: monotonic seconds
    """

    def __init__(
        self,
        list_devices: Callable[[Collection[str]], tuple[str, ...]],
        take_changed: Callable[[], bool],
        *,
        device_specs: Sequence[str],
        enabled_mdev_types: Sequence[str],
        clock: Callable[[], float],
    ) -> None:
        self._list_devices = list_devices
        self._take_changed = take_changed
        self._specs = tuple(spec for text in device_specs for spec in parse_device_spec(text))
        self._enabled_mdev_types = frozenset(enabled_mdev_types)
        self._clock = clock
        self._known: NodeDevices | None = None
        self._problem: Problem | None = None
        self._read_at: float | None = None
        self._has_changed = False

    def clear(self) -> None:
        """Forget everything: after a reconnection nobody knows what was missed."""
        self._known, self._problem, self._read_at = None, None, None

    def get(self) -> NodeDevices | None:
        """Return the devices; None before they were read."""
        return self._known

    def get_problems(self) -> tuple[Problem, ...]:
        """Return why they could not be read."""
        return () if self._problem is None else (self._problem,)

    def needs_reading(self) -> bool:
        """Whether `read` is due."""
        self._has_changed = self._take_changed() or self._has_changed
        if self._read_at is None:
            return True
        age = self._clock() - self._read_at
        return age >= (MIN_AGE_SECONDS if self._has_changed else MAX_AGE_SECONDS)

    def read(self) -> None:
        """Read the devices; to be called between scrapes, by another thread.

        :raises ConnectionLostError: when the connection broke
        """
        self._read_at, self._has_changed = self._clock(), False
        try:
            devices = parse_node_devices(self._list_devices(self._list_capabilities()))
        except ConnectionLostError:
            raise
        except HypervisorError as error:
            self._problem = Problem(
                severity=Severity.ERROR,
                reason=error.reason,
                subject="node devices",
                message=f"node devices cannot be read: {error}",
            )
            return
        self._problem = None
        self._known = NodeDevices(
            pci_devices=list_assignable(devices.pci, self._specs, devices.interfaces),
            mdev_types=tuple(each for each in devices.mdev_types if self._is_enabled(each)),
        )

    def _list_capabilities(self) -> list[str]:
        """Return which devices have to be read; each costs a call."""
        capabilities = ["mdev_types"]
        if self._specs:
            capabilities += ["pci", "vdpa"]
        if any(spec.devname for spec in self._specs):
            capabilities += ["net"]
        return capabilities

    def _is_enabled(self, mdev_type: MdevType) -> bool:
        return not self._enabled_mdev_types or mdev_type.name in self._enabled_mdev_types


def parse_node_devices(xmls: Iterable[str]) -> ParsedDevices:
    """Parse what virNodeDeviceGetXMLDesc returned of several devices.

    :raises HypervisorError: when it is not what libvirt documents
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
    """Return Nova's type of a device, and for a virtual function its physical one's address."""
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
    """Whether the vital product data tell the card's serial number."""
    return bool(pci.findtext("capability[@type='vpd']/fields[@access='readonly']/serial_number"))


def _mdev_types(device: ElementTree.Element) -> Iterator[MdevType]:
    """Yield the types of mediated devices that a device may be divided into: of PCI or of s390."""
    for element in device.iterfind("capability/capability[@type='mdev_types']/type"):
        yield MdevType(
            name=fit_label(element.attrib["id"]),
            available_instances=whole_number(element.findtext("availableInstances", "")),
        )


def _interfaces(devices: Sequence[ElementTree.Element]) -> Iterator[tuple[str, str]]:
    """Yield the name of each network interface that is a PCI device's, and that device's address."""
    addresses = {
        device.findtext("name"): _address(pci)
        for device in devices
        if (pci := _find_capability(device, "pci")) is not None
    }
    for device in devices:
        net, parent = _find_capability(device, "net"), device.findtext("parent")
        if net is not None and parent in addresses:
            yield net.findtext("interface", ""), addresses[parent]

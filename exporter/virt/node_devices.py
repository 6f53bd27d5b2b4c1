"""Node devices: the PCI devices that guests may be given, and the mediated devices that may still be made.

Reading them costs libvirt a call for each, so it is done between scrapes: when libvirt tells of a change, and
every few minutes. Scrapes take what is known.

They have a connection of their own: where libvirt's daemons are modular, virtnodedevd answers, which may be
absent or hang.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol
from xml.etree import ElementTree

from exporter.device_spec import DeviceSpec, list_assignable, parse_device_spec
from exporter.errors import ConnectError, ConnectionLostError, DaemonError, HypervisorError
from exporter.label import fit_label
from exporter.model import MdevType, NodeDevices, PciDevice, Problem, Severity
from exporter.virt.daemons import NODE_DEVICES, explain_silence
from exporter.virt.libvirt_xml import parse_xml, whole_number

# Events tell of devices that come, go or change; this is for what they miss.
MAX_AGE_SECONDS = 300.0
# Events come in swarms: a card that is given 64 virtual functions is 64 of them.
MIN_AGE_SECONDS = 5.0
# Nothing tells when virtnodedevd ends, and with it its events: one call sees whether it is still there.
CHECK_SECONDS = 30.0
# A failure is tried again after so long, and for so long what was known counts meanwhile.
RETRY_SECONDS = 5.0
FORGET_SECONDS = 2 * MAX_AGE_SECONDS
# No list of devices takes as long: somebody hangs.
TIMEOUT_SECONDS = 10.0
# Each kind of device is a series: no host has as many, and one that says so is not believed.
MAX_KINDS = 256
_MAX_ID_LENGTH = 10  # "0x10de"


class NodeDeviceHypervisor(Protocol):
    """What is asked of a hypervisor here; `virt.hypervisor.LibvirtHypervisor` says how each is meant."""

    calls: int

    @property
    def hung_openings(self) -> int: ...  # noqa: D102

    def connect(self) -> bool: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102
    def watch_node_devices(self) -> None: ...  # noqa: D102
    def count_node_devices(self) -> int: ...  # noqa: D102
    def list_node_devices(self, capabilities: Collection[str]) -> tuple[str, ...]: ...  # noqa: D102
    def take_node_devices_changed(self) -> bool: ...  # noqa: D102


@dataclass(frozen=True, kw_only=True, slots=True)
class ParsedDevices:
    """All node devices that were read."""

    pci: tuple[PciDevice, ...]
    mdev_types: tuple[MdevType, ...]
    interfaces: dict[str, str]  # the PCI addresses of network interfaces, by the interface's name


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Which devices count, by Nova's options of these names."""

    specs: tuple[DeviceSpec, ...]
    enabled_mdev_types: frozenset[str]

    @classmethod
    def parse(cls, device_specs: Sequence[str], enabled_mdev_types: Sequence[str]) -> _Wanted:
        specs = tuple(spec for text in device_specs for spec in parse_device_spec(text))
        return cls(specs, frozenset(enabled_mdev_types))

    @property
    def is_configured(self) -> bool:
        return bool(self.specs or self.enabled_mdev_types)

    def list_capabilities(self) -> list[str]:
        """Return which devices have to be read; each costs a call."""
        capabilities = ["mdev_types"]
        if self.specs:
            capabilities += ["pci", "vdpa"]
        if any(spec.devname for spec in self.specs):
            capabilities += ["net"]
        return capabilities

    def is_enabled(self, mdev_type: MdevType) -> bool:
        return not self.enabled_mdev_types or mdev_type.name in self.enabled_mdev_types


class NodeDeviceCache:
    """The node devices that count, as they were last read.

    :param hypervisor: a connection that is used for nothing else
    :param device_specs: Nova's [pci] device_spec, each as JSON; without any, no PCI device is read
    :param enabled_mdev_types: Nova's [devices] enabled_mdev_types; empty for all types
    :param clock: monotonic seconds
    """

    def __init__(
        self,
        hypervisor: NodeDeviceHypervisor,
        *,
        device_specs: Sequence[str],
        enabled_mdev_types: Sequence[str],
        clock: Callable[[], float],
    ) -> None:
        self._hypervisor = hypervisor
        self._wanted = _Wanted.parse(device_specs, enabled_mdev_types)
        self._clock = clock
        self._known: NodeDevices | None = None
        self._known_at = 0.0
        self._problem: Problem | None = None
        self._read_at: float | None = None
        self._checked_at = 0.0
        self._asked_at: float | None = None
        self._has_changed = False
        self._has_failed = False

    @property
    def calls(self) -> int:
        """How many calls were made to libvirt."""
        return self._hypervisor.calls

    @property
    def hung(self) -> int:
        """How many calls and openings of connections are under way that nobody may ever answer."""
        return self._hypervisor.hung_openings + (self._silent_seconds() >= TIMEOUT_SECONDS)

    def clear(self) -> None:
        """Forget everything: after a reconnection nobody knows what was missed."""
        self._known, self._problem, self._read_at = None, None, None

    def configure(self, *, device_specs: Sequence[str], enabled_mdev_types: Sequence[str]) -> None:
        """Read these devices from now on; those that were known are forgotten, unless the same are wanted."""
        wanted = _Wanted.parse(device_specs, enabled_mdev_types)
        if wanted != self._wanted:
            self._wanted = wanted
            self.clear()

    def close(self) -> None:
        """Close the connection, once it is in no call."""
        self._hypervisor.close()

    def get(self) -> NodeDevices | None:
        """Return the devices; None before they were read, and when that was too long ago."""
        return self._known if self._clock() - self._known_at <= FORGET_SECONDS else None

    def get_problems(self) -> tuple[Problem, ...]:
        """Return why they could not be read."""
        seconds = self._silent_seconds()
        if seconds >= TIMEOUT_SECONDS:
            return (self._make_problem("daemon", explain_silence(NODE_DEVICES, "node devices", seconds)),)
        return () if self._problem is None else (self._problem,)

    def needs_reading(self) -> bool:
        """Whether `read` is due."""
        return self._is_reading_due() or self._clock() - self._checked_at >= CHECK_SECONDS

    def _is_reading_due(self) -> bool:
        self._has_changed = self._hypervisor.take_node_devices_changed() or self._has_changed
        if self._read_at is None:
            return True
        age = self._clock() - self._read_at
        if self._has_failed:
            return age >= RETRY_SECONDS
        return age >= (MIN_AGE_SECONDS if self._has_changed else MAX_AGE_SECONDS)

    def read(self) -> None:
        """Read the devices, or see whether they can be; to be called between scrapes, by another thread.

        :raises HypervisorError: when libvirt cannot be reached at all
        """
        self._checked_at = self._asked_at = self._clock()
        if not self._has_failed and not self._is_reading_due() and self._can_be_read():
            return
        self._read_at = self._asked_at = self._clock()
        self._has_changed, self._has_failed = False, True
        wanted = self._wanted
        try:
            devices = parse_node_devices(self._list_devices(wanted))
        except (ConnectionLostError, ConnectError):
            raise  # the refresh meets the same, and tells
        except HypervisorError as error:
            self._problem = self._make_problem(error.reason, f"node devices cannot be read: {error}")
            return
        finally:
            self._asked_at = None
        self._problem, self._has_failed = None, False
        if wanted is not self._wanted:
            self._read_at = None  # others are wanted by now
            return
        self._known = NodeDevices(
            pci_devices=list_assignable(devices.pci, wanted.specs, devices.interfaces),
            mdev_types=tuple(each for each in devices.mdev_types if wanted.is_enabled(each)),
        )
        self._known_at = self._clock()

    def _can_be_read(self) -> bool:
        try:
            self._hypervisor.count_node_devices()
        except HypervisorError:
            return False
        finally:
            self._asked_at = None
        return True

    def _list_devices(self, wanted: _Wanted) -> tuple[str, ...]:
        """Ask libvirt; once more on a new connection, when it or another daemon's behind it is lost."""
        is_new = self._connect()
        try:
            return self._hypervisor.list_node_devices(wanted.list_capabilities())
        except (ConnectionLostError, DaemonError):
            # What is lost behind a connection stays lost, and the next one has to ask for events anew.
            self._hypervisor.close()
            if is_new:
                raise
        return self._list_devices(wanted)

    def _connect(self) -> bool:
        is_new = self._hypervisor.connect()
        if is_new:
            self._hypervisor.watch_node_devices()
        return is_new

    def _silent_seconds(self) -> float:
        asked_at = self._asked_at
        return 0.0 if asked_at is None else self._clock() - asked_at

    def _make_problem(self, reason: str, message: str) -> Problem:
        """Return a problem; a mere note where nobody has said that this host has devices to give."""
        severity = Severity.ERROR if self._wanted.is_configured else Severity.NOTE
        return Problem(severity=severity, reason=reason, subject="node devices", message=message)


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

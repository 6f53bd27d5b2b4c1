"""Nova's [pci] device_spec: which PCI devices guests may use (nova.pci.devspec)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from exporter.errors import ExporterError
from exporter.model import PciDevice
from exporter.patterns import compile_pattern

_ADDRESS = re.compile(r"([0-9a-f]+):([0-9a-f]+):([0-9a-f]+)\.([0-9a-f]+)")
_FIELDS = ("domain", "bus", "slot", "function")
_HIGHEST = {"domain": 0xFFFF, "bus": 0xFF, "slot": 0x1F, "function": 0x7}
_WIDTH = {"domain": 4, "bus": 2, "slot": 2, "function": 1}
_HIGHEST_ID = 0xFFFF
_CUSTOM = "CUSTOM_"
_NO_NAME = re.compile("[^0-9A-Z]+")
# os_resource_classes.STANDARDS.
STANDARD_RESOURCE_CLASSES = frozenset(
    {
        "VCPU",
        "MEMORY_MB",
        "DISK_GB",
        "PCI_DEVICE",
        "SRIOV_NET_VF",
        "NUMA_SOCKET",
        "NUMA_CORE",
        "NUMA_THREAD",
        "NUMA_MEMORY_MB",
        "IPV4_ADDRESS",
        "VGPU",
        "VGPU_DISPLAY_HEAD",
        "NET_BW_EGR_KILOBIT_PER_SEC",
        "NET_BW_IGR_KILOBIT_PER_SEC",
        "PCPU",
        "MEM_ENCRYPTION_CONTEXT",
        "FPGA",
        "PGPU",
        "NET_PACKET_RATE_KILOPACKET_PER_SEC",
        "NET_PACKET_RATE_EGR_KILOPACKET_PER_SEC",
        "NET_PACKET_RATE_IGR_KILOPACKET_PER_SEC",
    }
)
_TRUE = frozenset({"1", "t", "true", "on", "y", "yes"})

# A device's domain, bus, slot and function, in hexadecimal.
_AddressFields = tuple[str, str, str, str]


class DeviceSpecError(ExporterError, ValueError):
    """A device_spec is wrong. The message says why."""


class _Address(Protocol):
    """The addresses that a specification matches."""

    def matches(self, address: _AddressFields) -> bool:
        """Whether it matches this address."""

    @property
    def is_single(self) -> bool:
        """Whether it is a single address. That of an SR-IOV card also matches the card's functions."""


@dataclass(frozen=True, slots=True)
class _Glob:
    """A pattern such as "*:0a:00.*". None matches any value of the field."""

    fields: tuple[str | None, ...]

    @property
    def is_single(self) -> bool:
        return None not in self.fields

    def matches(self, address: _AddressFields) -> bool:
        return all(want in (None, have) for want, have in zip(self.fields, address, strict=True))


@dataclass(frozen=True, slots=True)
class _Regex:
    """A regular expression for each field, matched at the field's beginning."""

    patterns: tuple[re.Pattern[str], ...]

    @property
    def is_single(self) -> bool:
        return all(re.fullmatch("[0-9a-fA-F]*", each.pattern) for each in self.patterns)

    def matches(self, address: _AddressFields) -> bool:
        return all(want.match(have) for want, have in zip(self.patterns, address, strict=True))


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceSpec:
    """One specification. A device has to match all of it."""

    vendor_id: str | None  # "8086"; None for any
    product_id: str | None
    address: _Address | None  # None with a devname
    devname: str | None  # of a network interface: "eth0"
    is_remote_managed: bool  # managed by a card; Nova then needs the card's serial number
    resource_class: str | None = None  # in Placement, as Nova normalizes it; None for the usual name
    traits: frozenset[str] = frozenset()  # in Placement, normalized, too
    has_physical_network: bool = False  # for network ports; Nova does not report these to Placement
    has_one_time_use: bool = False  # whether the tag is there

    def matches(self, device: PciDevice, interfaces: Mapping[str, str]) -> bool:
        """Whether guests may use the device.

        :param interfaces: the PCI addresses of network interfaces, by the interface's name
        """
        address = self._find_address(interfaces)
        own = _split(device.address)
        if address is None or own is None:
            return False
        parent = _split(device.parent_address) if device.parent_address and address.is_single else None
        return (
            self.vendor_id in (None, device.vendor_id)
            and self.product_id in (None, device.product_id)
            and (address.matches(own) or (parent is not None and address.matches(parent)))
            and (device.has_serial_number or not self.is_remote_managed)
        )

    def _find_address(self, interfaces: Mapping[str, str]) -> _Address | None:
        if self.devname is None:
            return self.address
        return _parse_glob(interfaces[self.devname]) if self.devname in interfaces else None


def parse_device_spec(text: str) -> tuple[DeviceSpec, ...]:
    """Parse one device_spec: a JSON object, or a list of them.

    :raises DeviceSpecError: if it does not have the form that Nova documents
    """
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DeviceSpecError(f"no JSON: {error}") from error
    return tuple(_parse_object(each) for each in (parsed if isinstance(parsed, list) else [parsed]))


def _parse_object(spec: Any) -> DeviceSpec:
    if not isinstance(spec, dict):
        raise DeviceSpecError(f"{json.dumps(spec)} is no JSON object")
    devname, address = spec.get("devname"), spec.get("address")
    if devname and address:
        raise DeviceSpecError("devname and address exclude each other")
    return DeviceSpec(
        vendor_id=_parse_id(spec, "vendor_id"),
        product_id=_parse_id(spec, "product_id"),
        address=None if devname else _parse_address(address or "*:*:*.*"),
        devname=None if not devname else str(devname),
        is_remote_managed=str(spec.get("remote_managed", "")).strip().lower() in _TRUE,
        resource_class=normalize_resource_class(_parse_text(spec, "resource_class")),
        traits=frozenset(_normalize_trait(each) for each in _parse_text(spec, "traits").split(",") if each),
        has_physical_network=bool(spec.get("physical_network")),
        has_one_time_use="one_time_use" in spec,
    )


def _parse_text(spec: Mapping[str, Any], name: str) -> str:
    value = spec.get(name, "")
    if not isinstance(value, str):
        raise DeviceSpecError(f"{name} {json.dumps(value)} is no text")
    return value


def normalize_resource_class(name: str) -> str | None:
    """Return a resource class as Nova makes it for Placement (`_get_rc_for_dev`); None without any."""
    upper = name.upper()
    if not upper or upper in STANDARD_RESOURCE_CLASSES or upper.startswith(_CUSTOM):
        return upper or None
    return _CUSTOM + _NO_NAME.sub("_", upper)


def _normalize_trait(name: str) -> str:
    upper = name.upper()
    return upper if upper.startswith(_CUSTOM) else _CUSTOM + _NO_NAME.sub("_", upper)


def _parse_id(spec: Mapping[str, Any], name: str) -> str | None:
    value = spec.get(name, "*")
    if not isinstance(value, str):
        raise DeviceSpecError(f"{name} {json.dumps(value)} is no text")
    return _parse_hex(value.strip(), name=name, highest=_HIGHEST_ID, width=4)


def _parse_hex(text: str, *, name: str, highest: int, width: int) -> str | None:
    """Return a hexadecimal number in the form of libvirt's devices; None for `*`."""
    if text == "*":
        return None
    try:
        number = int(text, 16)
    except ValueError as error:
        raise DeviceSpecError(f"{name} {text!r} is no hexadecimal number") from error
    if not 0 <= number <= highest:
        raise DeviceSpecError(f"{name} {text!r} is above {highest:X}")
    return f"{number:0{width}x}"


def _parse_address(address: Any) -> _Address:
    if isinstance(address, str):
        return _parse_glob(address)
    if isinstance(address, dict):
        return _parse_regex(address)
    raise DeviceSpecError(f"address {json.dumps(address)} is neither text nor an object")


def _parse_glob(address: str) -> _Glob:
    """Parse "[[[<domain>]:]<bus>]:][<slot>][.[<function>]]". A missing field matches any value."""
    place, _, function = address.partition(".")
    fields = [each.strip() or "*" for each in place.split(":")]
    if len(fields) > len(_FIELDS) - 1:
        raise DeviceSpecError(f"address {address!r} has too many fields")
    padded = ["*"] * (len(_FIELDS) - 1 - len(fields)) + fields + [function.strip() or "*"]
    return _Glob(
        tuple(
            _parse_hex(text, name=f"address {name}", highest=_HIGHEST[name], width=_WIDTH[name])
            for name, text in zip(_FIELDS, padded, strict=True)
        )
    )


def _parse_regex(address: Mapping[str, Any]) -> _Regex:
    return _Regex(tuple(_compile(name, address.get(name, ".*")) for name in _FIELDS))


def _compile(name: str, pattern: Any) -> re.Pattern[str]:
    # Any pattern will do: it is matched against the few digits of this machine's PCI addresses.
    try:
        return compile_pattern(pattern)
    except (ValueError, TypeError) as error:
        raise DeviceSpecError(f"address {name} {pattern!r} is no regular expression: {error}") from error


def _split(address: str) -> _AddressFields | None:
    """Split "0000:0a:00.1". None for an address that Nova ignores, such as a domain above ffff."""
    match = _ADDRESS.fullmatch(address)
    if match is None:
        return None
    domain, bus, slot, function = match.groups()
    return (domain, bus, slot, function) if int(domain, 16) <= _HIGHEST["domain"] else None


def find_device_spec(
    device: PciDevice, specs: Iterable[DeviceSpec], interfaces: Mapping[str, str]
) -> DeviceSpec | None:
    """Return the first specification that matches a device, whose tags count (`Whitelist.get_devspec`)."""
    return next((spec for spec in specs if spec.matches(device, interfaces)), None)


def list_assignable(
    devices: Iterable[PciDevice],
    specs: Sequence[DeviceSpec],
    interfaces: Mapping[str, str],
) -> tuple[PciDevice, ...]:
    """Return the devices that match a specification (`Whitelist.device_assignable`)."""
    return tuple(device for device in devices if any(spec.matches(device, interfaces) for spec in specs))

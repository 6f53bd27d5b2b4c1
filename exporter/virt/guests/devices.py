"""The host's devices that a guest has, out of its domain's XML."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from xml.etree import ElementTree

from exporter.model import GuestDevices
from exporter.virt.libvirt_xml import OddParts, parse_pci_address


def parse_guest_devices(domain: ElementTree.Element, odd: OddParts) -> GuestDevices:
    """Return the PCI and mediated devices of a domain, running or not.

    :param odd: gets those that are odd, which are left out
    """
    list_devices = partial(_list_devices, domain, odd)
    return GuestDevices(
        hostdevs=frozenset(list_devices("hostdev", "pci", _pci_address)),
        interfaces=frozenset(
            (*list_devices("interface", "hostdev", _pci_address), *list_devices("interface", "vdpa", _vdpa))
        ),
        mdev_uuids=frozenset(list_devices("hostdev", "mdev", _mdev_uuid)),
        are_known=not odd,
    )


def _list_devices(
    domain: ElementTree.Element,
    odd: OddParts,
    tag: str,
    kind: str,
    parse: Callable[[ElementTree.Element], str],
) -> Iterator[str]:
    for element in domain.iterfind(f"devices/{tag}[@type='{kind}']"):
        device = odd.read(f"<{tag} type='{kind}'>", partial(parse, element))
        if device is not None:
            yield device


def _pci_address(device: ElementTree.Element) -> str:
    address = device.find("source/address")
    if address is None:
        raise ValueError("no address of the host's device")
    return parse_pci_address(address)


def _mdev_uuid(device: ElementTree.Element) -> str:
    address = device.find("source/address")
    uuid = "" if address is None else address.get("uuid", "").strip().lower()
    if not uuid:
        raise ValueError("no UUID of the mediated device")
    return uuid


def _vdpa(device: ElementTree.Element) -> str:
    """Return the path of a vDPA device."""
    source = device.find("source")
    path = "" if source is None else source.get("dev", "")
    if not path:
        raise ValueError("no path of the vDPA device")
    return path

"""The host's devices that a guest has, out of its domain's XML."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from xml.etree import ElementTree

from exporter.model import GuestDevices
from exporter.virt.libvirt_xml import parse_pci_address


def parse_guest_devices(domain: ElementTree.Element) -> GuestDevices:
    """Return the PCI and mediated devices of a domain, running or not. An odd one is left out."""
    return GuestDevices(
        hostdevs=frozenset(_pci_addresses(domain, "devices/hostdev[@type='pci']/source/address")),
        interfaces=frozenset(
            (*_pci_addresses(domain, "devices/interface[@type='hostdev']/source/address"), *_vdpa(domain))
        ),
        mdev_uuids=frozenset(
            uuid.strip().lower()
            for address in domain.iterfind("devices/hostdev[@type='mdev']/source/address")
            if (uuid := address.get("uuid"))
        ),
    )


def _pci_addresses(domain: ElementTree.Element, path: str) -> Iterator[str]:
    for element in domain.iterfind(path):
        with suppress(ValueError):
            yield parse_pci_address(element)


def _vdpa(domain: ElementTree.Element) -> Iterator[str]:
    """Yield the path of each vDPA device."""
    for source in domain.iterfind("devices/interface[@type='vdpa']/source"):
        if path := source.get("dev"):
            yield path

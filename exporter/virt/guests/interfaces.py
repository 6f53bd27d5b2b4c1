"""Guests' network interfaces: <interface> of a domain's XML."""

from __future__ import annotations

from xml.etree import ElementTree

from exporter.model import Interface

# What an interface is plugged into, by the attribute of <source>: a bridge, one of libvirt's networks, a
# device of the host (direct), or the socket of a switch (vhostuser).
_SOURCES = ("bridge", "network", "dev", "path")


def parse_interface(element: ElementTree.Element) -> Interface:
    """Parse one <interface>. What it does not say is empty."""
    source = element.find("source")
    names = [] if source is None else [source.get(each, "") for each in _SOURCES]
    return Interface(
        target=_attribute(element, "target", "dev"),
        type=element.get("type", ""),
        mac=_attribute(element, "mac", "address"),
        bridge=next(filter(None, names), ""),
        port_id=_attribute(element, "virtualport/parameters", "interfaceid"),
        model=_attribute(element, "model", "type"),
        mtu=_attribute(element, "mtu", "size"),
    )


def _attribute(element: ElementTree.Element, path: str, name: str) -> str:
    child = element.find(path)
    return "" if child is None else child.get(name, "")

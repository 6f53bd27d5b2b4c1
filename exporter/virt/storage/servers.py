"""Names of servers, in one form for all hypervisors that write them."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable

_LOOPBACK_NAME = re.compile(r"(?:.*\.)?localhost|localhost[46]?(?:\..*)?|ip6-(?:localhost|loopback)")
_HOST_WITH_PORT = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>\d{1,5}))?", re.ASCII)


def normalise_host(text: str) -> str | None:
    """Return a host's name or address as all hypervisors would write it.

    None for one that is another host to everybody: a loopback or link-local address, or no name at all.
    """
    name = text.strip().removeprefix("[").removesuffix("]").rstrip(".").lower()
    address = _parse_address(name)
    if address is None:
        return None if not name or _LOOPBACK_NAME.fullmatch(name) else name
    if address.is_loopback or address.is_link_local or address.is_unspecified:
        return None
    return f"[{address}]" if address.version == 6 else str(address)


def normalise_hosts(hosts: Iterable[str], *, ports: frozenset[str]) -> str | None:
    """Return hosts in one order, without default ports; None if one is another host to everybody.

    :param hosts: "mon1", "mon1:6789", "192.0.2.1" or "[2001:db8::1]:6789"
    :param ports: the default ones
    """
    found: set[str] = set()
    for each in hosts:
        match = _HOST_WITH_PORT.fullmatch(each.strip())
        # An IPv6 address may have no brackets, and then no port.
        name, port = (each, None) if match is None else (match["host"], match["port"])
        host = normalise_host(name)
        if host is None:
            return None
        is_default = port is None or port in ports or not int(port)
        found.add(host if is_default else f"{host}:{port}")
    return ",".join(sorted(found)) or None


def normalise_path(path: str) -> str:
    """Return a server's path without double slashes, and without one at the end."""
    return "/" + "/".join(part for part in path.split("/") if part not in ("", "."))


def join_port(host: str, port: str) -> str:
    """Return "host:port"; the host alone if that is no port."""
    if not port.isdecimal():
        return host
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def _parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return an address in any form that the C library takes ("127.1"); None for a name."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        try:
            return ipaddress.IPv4Address(socket.inet_aton(text)) if re.fullmatch(r"[\d.]+", text) else None
        except OSError:
            return None
    return getattr(address, "ipv4_mapped", None) or address


def split_port(text: str) -> tuple[str, str]:
    """Split "host:port" as `join_port` writes it. There may be no port."""
    match = _HOST_WITH_PORT.fullmatch(text)
    return (text, "") if match is None else (match["host"], match["port"] or "")

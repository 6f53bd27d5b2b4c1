"""The address of a hypervisor: Nova's `my_ip`."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

# TEST-NET-1 (RFC 5737): an address that nobody has. To connect a datagram socket sends nothing. The kernel
# only chooses the source address.
_NOWHERE = ("192.0.2.1", 9)


def get_host_ip(uri: str | None) -> str | None:
    """Return the address of the hypervisor at a libvirt URI, or of this machine; None if it is not known.

    For this machine: the address of the interface with the default route, as Nova's default for `my_ip`
    (oslo_utils.netutils.get_my_ipv4). For another machine: the address of its name; to resolve it may block.
    """
    try:
        host = None if uri is None else urlsplit(uri).hostname
    except ValueError:
        return None
    return _resolve(host) if host else _get_own_ip()


def _get_own_ip() -> str | None:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(_NOWHERE)
            return str(probe.getsockname()[0])
    except OSError:
        return None


def _resolve(host: str) -> str | None:
    try:
        *_, address = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):  # the latter of a name that cannot be one, such as a..b
        return None
    return str(address[0])

"""This machine: whether a host in a URI is it. No name server is asked, as that might take long."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

_LOOPBACK_NAMES = frozenset(
    {
        "localhost",
        "localhost.localdomain",
        "localhost4",
        "localhost4.localdomain4",
        "localhost6",
        "localhost6.localdomain6",
        "ip6-localhost",
        "ip6-loopback",
    }
)
# Where it is 1, a program may use an address that this machine does not have (yet), as for keepalived.
_NONLOCAL_BIND = {
    socket.AF_INET: Path("/proc/sys/net/ipv4/ip_nonlocal_bind"),
    socket.AF_INET6: Path("/proc/sys/net/ipv6/ip_nonlocal_bind"),
}
_ANY_PORT = 9  # to connect a datagram socket sends nothing


@dataclass(frozen=True, slots=True)
class ThisMachine:
    """What this machine is called.

    :ivar names: in lower case, without those of the loopback device
    """

    names: frozenset[str] = frozenset()

    def is_named(self, host: str) -> bool:
        """Return whether a host is this machine by a name or an address that others may use, too.

        :param host: as in a URI: "kvm01", "192.0.2.7", "[2001:db8::7]"
        """
        return not is_loopback(host) and (_normalize(host) in self.names or _is_own_address(_normalize(host)))


def read_this_machine(
    *,
    hosts: Path = Path("/etc/hosts"),
    resolver: Path = Path("/etc/resolv.conf"),
    hostname: str | None = None,
) -> ThisMachine:
    """Return what this machine is called: its host name, with and without a domain, and as in /etc/hosts.

    :param resolver: its first search domain completes the host name, as for `hostname --fqdn`
    """
    name = _normalize(socket.gethostname() if hostname is None else hostname)
    short = name.partition(".")[0]
    names = {name, short, *_list_own_names(_read_lines(hosts), {name, short})}
    if "." not in name:
        names |= {f"{name}.{domain}" for domain in _find_domain(_read_lines(resolver))}
    return ThisMachine(frozenset(names) - _LOOPBACK_NAMES - {""})


def is_loopback(host: str) -> bool:
    """Return whether a host of a URI is reached by the loopback device. None is, to libvirt."""
    name = _normalize(host)
    if not name or name in _LOOPBACK_NAMES or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _normalize(host: str) -> str:
    return unquote(host).lower().strip("[]").removesuffix(".")


def _list_own_names(lines: Iterable[list[str]], host_names: set[str]) -> Iterator[str]:
    """Yield the names in /etc/hosts of an address that this machine has.

    A loopback address counts only in a line with the host name, such as Debian's 127.0.1.1: other names may
    be of tunnels to other machines.
    """
    is_own: dict[str, bool] = {}
    for address, *others in lines:
        names = set(map(_normalize, others))
        if address not in is_own:
            is_own[address] = _is_own_address(address)
        if names & host_names if is_loopback(address) else is_own[address]:
            yield from names


def _find_domain(lines: Iterable[list[str]]) -> list[str]:
    """Return the first domain in which names are looked for; none if there is none."""
    domains = [words[1] for words in lines if words[0] in ("search", "domain") and len(words) > 1]
    return [_normalize(domains[-1])] if domains else []


def _read_lines(path: Path) -> list[list[str]]:
    """Return the words of each line with any."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [words for line in text.splitlines() if (words := line.partition("#")[0].split())]


def _is_own_address(text: str) -> bool:
    """Return whether it is an address of one of this machine's interfaces."""
    try:
        if not _is_for_one(text):
            return False
        ((family, _, _, _, address), *_) = socket.getaddrinfo(
            text, 0, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST
        )
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            if _may_bind_any(family):
                probe.connect((address[0], _ANY_PORT, *address[2:]))
                return bool(probe.getsockname()[0] == address[0])
            probe.bind(address)
            return True
    except (OSError, ValueError):
        return False


def _is_for_one(text: str) -> bool:
    """Return whether it is the address of one machine, and not of all or none.

    :raises ValueError: if it is no address
    """
    address = ipaddress.ip_address(text)
    return not address.is_unspecified and not address.is_multicast


def _may_bind_any(family: int) -> bool:
    path = _NONLOCAL_BIND.get(socket.AddressFamily(family))
    try:
        return path is not None and path.read_text().strip() != "0"
    except OSError:
        return False

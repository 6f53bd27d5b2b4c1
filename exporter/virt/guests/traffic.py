"""Traffic of guests' network interfaces, by the kernel's counters of the host's devices: /proc/net/dev.

It is read once for all guests. libvirt reads it from the top for each interface, and asks ovs-vsctl for one
of type vhostuser.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from exporter.guest_records import InterfaceCounters
from exporter.model import Guest, Interface
from exporter.virt.small_files import MAX_COUNTER, exists

# Their packets pass no device of the host's kernel.
_WITHOUT_DEVICE = ("vhostuser", "hostdev", "vdpa", "user")
_COUNTERS = 8


class GuestTraffic:
    """Reads the counters. For one thread at a time.

    :param root: where /proc and /sys are
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lines: Mapping[bytes, bytes] = {}
        self._shares_view: dict[str, bool] = {}

    def begin(self) -> None:
        """Read the counters of all devices of this process's network namespace."""
        try:
            content = (self._root / "proc/self/net/dev").read_bytes()
        except OSError:
            content = b""
        self._lines = _parse_net_dev(content)
        # A device that comes later under the name of one that is gone may be of another kind.
        self._shares_view = {
            name: shares for name, shares in self._shares_view.items() if os.fsencode(name) in self._lines
        }

    def get(self, guest: Guest) -> Mapping[str, InterfaceCounters]:
        """Return the counters of a guest's interfaces by the host's device: of those that it has."""
        found: dict[str, InterfaceCounters] = {}
        for interface in list_devices(guest):
            line = self._lines.get(os.fsencode(interface.target))
            counters = None if line is None else _parse(line, swap=not self._shares_hosts_view(interface))
            if counters is not None:
                found[interface.target] = counters
        return found

    def _shares_hosts_view(self, interface: Interface) -> bool:
        """Whether what the device received is what the guest received: that of macvtap, and no tap.

        libvirt goes by the type alone (virDomainNetTypeSharesHostView). But a device that others made for an
        interface of type `ethernet` may be either.
        """
        if interface.type != "ethernet":
            return interface.type == "direct"
        name = interface.target
        if name not in self._shares_view:
            device = f"{self._root}/sys/class/net/{name}"
            self._shares_view[name] = exists(device) and not exists(f"{device}/tun_flags")
        return self._shares_view[name]


def list_devices(guest: Guest) -> Iterator[Interface]:
    """Yield the interfaces whose packets pass a device of the host."""
    for interface in guest.interfaces:
        if interface.target and interface.type not in _WITHOUT_DEVICE:
            yield interface


def _parse_net_dev(content: bytes) -> Mapping[bytes, bytes]:
    """Return the line of each interface in /proc/net/dev, by its name; the last one may be cut off."""
    lines = (line.rpartition(b":") for line in content.split(b"\n")[2:-1])
    return {name.strip(): counters for name, _, counters in lines}


def _parse(line: bytes, *, swap: bool) -> InterfaceCounters | None:
    """Parse a line without its name; None if it is odd."""
    fields = line.split()
    known = _parse_numbers([*fields[:4], *fields[8:12]])  # bytes, packets, errs, drop: received, transmitted
    if known is None or len(known) < _COUNTERS:
        return None
    to_host, from_host = known[:4], known[4:]
    received, transmitted = (from_host, to_host) if swap else (to_host, from_host)
    return InterfaceCounters(
        received_bytes=received[0],
        received_packets=received[1],
        received_errors=received[2],
        received_dropped=received[3],
        transmitted_bytes=transmitted[0],
        transmitted_packets=transmitted[1],
        transmitted_errors=transmitted[2],
        transmitted_dropped=transmitted[3],
    )


def _parse_numbers(fields: Iterable[bytes]) -> list[int] | None:
    """Parse whole numbers; None if one of them is odd."""
    try:
        numbers = [int(field) for field in fields if field.isdigit()]
    except ValueError:  # more digits than int() takes
        return None
    return numbers if max(numbers, default=0) <= MAX_COUNTER else None

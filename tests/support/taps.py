"""Network devices between this machine and guests, on which nobody speaks but the test."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.boot_sectors import CARD_SLOT
from tests.support.sandbox import run

_FRAME = bytes.fromhex("ffffffffffff 020000000001 88b5")  # to all, from nobody, for experiments


@dataclass(frozen=True)
class Traffic:
    """What the guest behind a device received and sent, as the kernel counts it: the other way round."""

    received_packets: int
    received_bytes: int
    sent_packets: int
    sent_bytes: int


@contextlib.contextmanager
def quiet_tap(name: str) -> Iterator[str]:
    """Make a tap device that is up, and by which the machine itself says nothing: it has no IPv6.

    :param name: 15 characters at most
    """
    run(["ip", "tuntap", "add", "dev", name, "mode", "tap"])
    try:
        Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")
        run(["ip", "link", "set", name, "up"])
        yield name
    finally:
        run(["ip", "link", "delete", name])


def send_frames(tap: str, count: int, *, size: int) -> None:
    """Send frames of this size to the guest behind a tap."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind((tap, 0))
        for _ in range(count):
            sender.send(_FRAME.ljust(size, b"\0"))


def read_traffic(tap: str) -> Traffic:
    """Return what the kernel counted."""
    counters = Path("/sys/class/net", tap, "statistics")

    def read(name: str) -> int:
        return int((counters / name).read_text())

    return Traffic(read("tx_packets"), read("tx_bytes"), read("rx_packets"), read("rx_bytes"))


def card_interface(tap: str, *, mac: str = "52:54:00:00:00:05") -> str:
    """Return an RTL8139 on a tap that is there already, where a boot sector looks for it.

    It takes what arrives and throws it away while no driver has set it up, so that all of it counts.
    """
    return f"""<interface type='ethernet'>
      <mac address='{mac}'/>
      <target dev='{tap}' managed='no'/>
      <model type='rtl8139'/>
      <address type='pci' domain='0x0000' bus='0x00' slot='{CARD_SLOT:#04x}' function='0x0'/>
    </interface>"""

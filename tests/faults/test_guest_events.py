"""What happens to real guests is counted: a panic, a watchdog that expires, a disk without room.

Each guest is a boot sector of some bytes, which does just that.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import pytest

from tests.support.exporter_process import RunningExporter, serve
from tests.support.guests import MIB, file_disk, guest_xml
from tests.support.libvirtd import LibvirtDaemon
from tests.support.waiting import wait_until

SECTOR = 512
_EVENTS = ("io_error", "watchdog", "panic", "migrated_in", "migrated_out")
_HALT = bytes.fromhex("f4 ebfd")  # hlt; jmp to it
# The ports of QEMU's ISA devices: pvpanic, and the time and start of the watchdog ib700.
_PANIC_PORT, _WATCHDOG_PORT = 0x505, 0x443
_PANICKED, _TWO_SECONDS = 1, 0x0E


def write_port(port: int, value: int) -> bytes:
    """Return code that writes a byte to an I/O port."""
    return b"\xba" + struct.pack("<H", port) + b"\xb0" + bytes([value]) + b"\xee"  # mov dx; mov al; out


def write_sector(number: int) -> bytes:
    """Return code that writes this sector of the boot disk by the BIOS (int 13h, function 43h)."""
    packet_at = 0x7C00 + 0x100
    code = bytes.fromhex("31c0 8ed8 b80043 b280 be") + struct.pack("<H", packet_at) + bytes.fromhex("cd13")
    return (code + _HALT).ljust(0x100, b"\0") + struct.pack("<HHHHQ", 16, 1, 0x7C00, 0, number)


def make_disk(path: Path, code: bytes) -> str:
    """Make a sparse image of 16 MiB that begins with this code."""
    with path.open("wb") as file:
        file.write((code + _HALT).ljust(SECTOR - 2, b"\0") + b"\x55\xaa")
        file.truncate(16 * MIB)
    return file_disk(path, format="raw")


def count(exporter: RunningExporter) -> dict[str, float]:
    """Return the events that were counted, those that are 0 among them."""
    return {
        labels["event"]: value for labels, value in exporter.scrape().series("hypervisor_guest_events_total")
    }


def wait_for(exporter: RunningExporter, **expected: int) -> None:
    """Wait until these and no others were counted."""
    all_expected = {**dict.fromkeys(_EVENTS, 0), **expected}
    wait_until(lambda: count(exporter) == all_expected, f"the events {expected}")


def hypervisor(libvirtd: LibvirtDaemon) -> dict[str, Any]:
    return {"name": "local", "uri": libvirtd.uri_read_only}


@pytest.mark.parametrize(
    ("event", "code", "device"),
    [
        ("panic", write_port(_PANIC_PORT, _PANICKED), "<panic model='isa'/>"),
        ("watchdog", write_port(_WATCHDOG_PORT, _TWO_SECONDS), "<watchdog model='ib700' action='none'/>"),
    ],
)
def test_what_a_guest_does_is_counted_once(
    event: str, code: bytes, device: str, libvirtd: LibvirtDaemon
) -> None:
    disk = make_disk(libvirtd.images / "guest.raw", code)
    with serve({"cache_ttl": "0s", "hypervisors": [hypervisor(libvirtd)]}) as exporter:
        wait_for(exporter)
        libvirtd.start_guest(guest_xml("guest", disks=[disk], interfaces=[device]))
        wait_for(exporter, **{event: 1})


def test_a_disk_without_room_is_counted(libvirt_cache: Path) -> None:
    """The file system has room for the sector that the guest boots from, not for the one that it writes."""
    with LibvirtDaemon(cache=libvirt_cache, images_bytes=1 * MIB) as libvirtd:
        disk = make_disk(libvirtd.images / "guest.raw", write_sector(8192))
        fill(libvirtd.images / "filler")
        with serve({"cache_ttl": "0s", "hypervisors": [hypervisor(libvirtd)]}) as exporter:
            wait_for(exporter)
            libvirtd.start_guest(guest_xml("guest", disks=[disk]))
            wait_for(exporter, io_error=1)
            states = {
                labels["state"]: value for labels, value in exporter.scrape().series("hypervisor_domains")
            }
            assert states["paused"] == 1


def fill(path: Path) -> None:
    """Leave no room on the file system of this path."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            os.write(file, bytes(4096))
    except OSError:
        os.close(file)

"""What the collector `guests` shows is what guests did, and what libvirt says of them.

The guests do what a boot sector tells them (tests/support/boot_sectors.py), so it is known to the byte.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.boot_sectors import SECTOR, boot_sector
from tests.support.exporter_process import Scrape
from tests.support.libvirtd import LibvirtDaemon
from tests.support.linux_guests import MEMORY_MIB, start_linux_guest
from tests.support.migration import OTHER_HOST, migrate
from tests.support.sandbox import SandboxError
from tests.support.taps import card_interface, quiet_tap, read_traffic, send_frames
from tests.support.waiting import wait_until
from tests.support.working_guests import (
    get_written,
    serve_guests,
    start_guest,
    start_writers,
    wait_for_answers,
)

KIB = 1024

# A guest's Linux may let it fill less than half of its memory.
_FILLED_MIB = 24

# What the worker does: 100 requests of 8 sectors, and 7 frames. 30 are sent to it.
_WRITES, _SECTORS, _SENT, _SENT_BYTES, _RECEIVED, _RECEIVED_BYTES = 100, 8, 7, 200, 30, 100

_LIBVIRTS = {"packets": "pkts"}

# libvirt's own statistics of a disk, by the metric that has them, and what turns them into its unit.
_DISK_STATISTICS = {
    "read_bytes_total": ("rd.bytes", 1),
    "written_bytes_total": ("wr.bytes", 1),
    "reads_completed_total": ("rd.reqs", 1),
    "writes_completed_total": ("wr.reqs", 1),
    "read_time_seconds_total": ("rd.times", 1e-9),
    "write_time_seconds_total": ("wr.times", 1e-9),
    "flush_requests_total": ("fl.reqs", 1),
    "flush_requests_time_seconds_total": ("fl.times", 1e-9),
    "size_bytes": ("capacity", 1),
    "allocated_bytes": ("physical", 1),
}
_BALLOON_STATISTICS = {
    "balloon_bytes": ("current", KIB),
    "available_bytes": ("available", KIB),
    "swap_in_bytes_total": ("swap_in", KIB),
    "swap_out_bytes_total": ("swap_out", KIB),
}


@pytest.fixture(params=["v1", "v2"])
def grouping_libvirtd(request: pytest.FixtureRequest, libvirt_cache: Path) -> Iterator[LibvirtDaemon]:
    """A libvirtd that makes a control group for each guest."""
    try:
        daemon = LibvirtDaemon(cache=libvirt_cache, cgroups=request.param)
    except SandboxError as error:
        pytest.skip(f"control groups of {request.param}: {error}")
    with daemon:
        yield daemon


def test_cpu_time_and_frames_are_what_was_done_and_what_libvirt_says(
    grouping_libvirtd: LibvirtDaemon,
) -> None:
    """Frames are those that the guest sent and was sent. CPU time is the kernel's, as libvirt tells it."""
    libvirtd = grouping_libvirtd
    with quiet_tap("hx-worker") as tap:
        sector = boot_sector(frames=_SENT, frame_bytes=_SENT_BYTES)
        works = start_guest(libvirtd, "works", sector, interfaces=[card_interface(tap)])
        spins = start_guest(libvirtd, "spins", boot_sector(spins=True))
        sleeps = start_guest(libvirtd, "sleeps", boot_sector())
        wait_until(lambda: read_traffic(tap).sent_packets == _SENT, "the guest's work to be done")
        send_frames(tap, _RECEIVED, size=_RECEIVED_BYTES)
        wait_until(lambda: read_traffic(tap).received_packets == _RECEIVED, "the frames to arrive")
        with serve_guests(libvirtd) as exporter:
            wait_for_answers(exporter, "works", "spins", "sleeps")
            before = {guest.name(): _statistics(guest) for guest in (works, spins, sleeps)}
            first = exporter.scrape()
            time.sleep(1)
            last = exporter.scrape()
            after = {guest.name(): _statistics(guest) for guest in (works, spins, sleeps)}

    network = {
        "receive": ("rx", _RECEIVED, _RECEIVED * _RECEIVED_BYTES),
        "transmit": ("tx", _SENT, _SENT * _SENT_BYTES),
    }
    for direction, (libvirts, packets, size) in network.items():
        for name, expected in (("packets", packets), ("bytes", size), ("errs", None), ("drop", None)):
            metric = f"hypervisor_guest_network_{direction}_{name}_total"
            value = last.value(metric, domain="works", device=tap)
            assert value == after["works"][f"net.0.{libvirts}.{_LIBVIRTS.get(name, name)}"], metric
            assert expected in (None, value), metric

    # libvirt's CPU time is the same counter of the kernel's, read before and after.
    for guest in before:
        used = last.value("hypervisor_guest_cpu_seconds_total", domain=guest)
        assert before[guest]["cpu.time"] - 1000 <= used * 1e9 <= after[guest]["cpu.time"] + 1000, guest
    burnt = {guest: _grown(first, last, guest) for guest in before}
    assert burnt["sleeps"] < burnt["spins"] / 4
    delay = last.value("hypervisor_guest_vcpu_delay_seconds_total", domain="spins") * 1e9
    assert before["spins"]["vcpu.0.delay"] - 1000 <= delay <= after["spins"]["vcpu.0.delay"] + 1000
    together = last.value("hypervisor_guests_cpu_seconds_total") * 1e9
    each = [last.value("hypervisor_guest_cpu_seconds_total", domain=guest) * 1e9 for guest in before]
    assert together >= sum(each) - 1000, "of version 1 it may be the very same number, but for rounding"


def test_a_disks_numbers_are_what_was_written_and_what_libvirt_says(libvirtd: LibvirtDaemon) -> None:
    """Bytes and requests are those that the guest was made to write; times and sizes are QEMU's."""
    works = start_guest(libvirtd, "works", boot_sector(writes=_WRITES, sectors=_SECTORS))
    wait_until(lambda: _statistics(works)["block.0.wr.reqs"] == _WRITES, "the guest's work to be done")
    with serve_guests(libvirtd) as exporter:
        scrape = wait_for_answers(exporter, "works")
        told = _statistics(works)
    assert get_written(scrape, "works") == _WRITES * _SECTORS * SECTOR
    for name, (field, factor) in _DISK_STATISTICS.items():
        value = scrape.value(f"hypervisor_guest_disk_{name}", domain="works", device="vda")
        assert value == pytest.approx(told[f"block.0.{field}"] * factor), name
    assert scrape.value("hypervisor_guest_disk_writes_completed_total", domain="works") == _WRITES


def test_a_guest_tells_its_memory(libvirtd: LibvirtDaemon) -> None:
    """A guest that has filled some memory can use as much less than an empty one; libvirt says the same."""
    filled = start_linux_guest(libvirtd, "filled", filled_mib=_FILLED_MIB)
    empty = start_linux_guest(libvirtd, "empty")
    for guest in (filled, empty):
        wait_until(lambda guest=guest: "balloon.usable" in _statistics(guest), "its account of its memory")

    def differ() -> float:
        """Return by how many MiB; what they tell while they boot says little."""
        usable = [_statistics(guest).get("balloon.usable", 0) for guest in (empty, filled)]
        return float(usable[0] - usable[1]) / 1024

    wait_until(lambda: abs(differ() - _FILLED_MIB) < 4, "its memory to be filled")
    with serve_guests(libvirtd) as exporter:
        wait_until(
            lambda: exporter.scrape().get("hypervisor_guest_memory_usable_bytes", domain="empty") is not None,
            "the first round",
        )
        scrape = exporter.scrape()
        told = _statistics(filled)
    usable = {
        guest: scrape.value("hypervisor_guest_memory_usable_bytes", domain=guest) / 2**20
        for guest in ("filled", "empty")
    }
    assert usable["empty"] - usable["filled"] == pytest.approx(_FILLED_MIB, abs=4)
    for name, (field, factor) in _BALLOON_STATISTICS.items():
        value = scrape.value(f"hypervisor_guest_memory_{name}", domain="filled")
        assert value == told[f"balloon.{field}"] * factor, name
    assert scrape.value("hypervisor_guest_memory_balloon_bytes", domain="filled") == MEMORY_MIB * 2**20
    told_at = scrape.value("hypervisor_guest_memory_stats_timestamp_seconds", domain="filled")
    assert abs(time.time() - told_at) < 60


def test_a_guest_that_moves_is_told_on_both_sides(libvirtd: LibvirtDaemon, libvirt_cache: Path) -> None:
    """Its events are counted, its counters begin anew, and afterwards one side alone has its numbers."""
    start_writers(libvirtd, "moves")
    with (
        LibvirtDaemon(cache=libvirt_cache, settings=OTHER_HOST) as other,
        serve_guests(libvirtd) as leaving,
        serve_guests(other) as arriving,
    ):
        wait_for_answers(leaving, "moves")
        assert arriving.scrape().series("hypervisor_guest_info") == []
        before = get_written(leaving.scrape(), "moves") or 0
        migrate(libvirtd, other, "moves")
        wait_until(lambda: get_written(arriving.scrape(), "moves") is not None, "its numbers to arrive")
        assert leaving.scrape().series("hypervisor_guest_info") == []
        assert 0 < (get_written(arriving.scrape(), "moves") or 0) < before
        events = "hypervisor_guest_events_total"
        assert leaving.scrape().value(events, event="migrated_out") == 1
        assert arriving.scrape().value(events, event="migrated_in") == 1
        migrate(other, libvirtd, "moves")
        wait_until(lambda: get_written(leaving.scrape(), "moves") is not None, "it to come back")
        assert leaving.scrape().value(events, event="migrated_in") == 1
        assert arriving.scrape().value(events, event="migrated_out") == 1


def _statistics(domain: Any) -> dict[str, Any]:
    ((_, statistics),) = domain.connect().domainListGetStats([domain])
    return dict(statistics)


def _grown(first: Scrape, last: Scrape, guest: str) -> float:
    name = "hypervisor_guest_cpu_seconds_total"
    return last.value(name, domain=guest) - first.value(name, domain=guest)

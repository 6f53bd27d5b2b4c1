"""What the kernel's files say of guests is what libvirt says of them, and what the guests did.

A real libvirtd makes real control groups, of version 1 and 2, for guests of which it is known what they do.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import libvirt
import pytest

from tests.support.boot_sectors import boot_sector, make_boot_disk
from tests.support.exporter_process import RunningExporter, serve
from tests.support.guests import file_disk, guest_xml
from tests.support.libvirtd import LibvirtDaemon
from tests.support.sandbox import SandboxError
from tests.support.taps import card_interface, quiet_tap, read_traffic, send_frames
from tests.support.waiting import wait_until

_AS_NOBODY = Path(__file__).resolve().parents[1] / "support/as_nobody.py"
_FRAMES, _FRAME_BYTES = 20, 100
_SENT, _SENT_BYTES = 7, 200
# As systemd's ProtectProc=invisible does it.
_HIDE = 'mount -t proc -o hidepid=invisible proc /proc; exec "$@"'


@pytest.fixture(scope="module", params=["v1", "v2"])
def libvirtd_with_groups(request: pytest.FixtureRequest, libvirt_cache: Path) -> Iterator[LibvirtDaemon]:
    """A libvirtd that makes groups of this version."""
    with contextlib.ExitStack() as stack:
        try:
            daemon = stack.enter_context(LibvirtDaemon(cgroups=request.param, cache=libvirt_cache))
        except SandboxError as error:
            pytest.skip(f"control groups of {request.param}: {error}")
        yield daemon


@pytest.fixture
def libvirtd(libvirtd_with_groups: LibvirtDaemon) -> Iterator[LibvirtDaemon]:
    """It, without any guest."""
    yield libvirtd_with_groups
    libvirtd_with_groups.clear()


@contextlib.contextmanager
def serve_beside(libvirtd: LibvirtDaemon, *prefix: str) -> Iterator[RunningExporter]:
    """Run the exporter as nobody where it sees the same control groups as libvirtd."""
    settings = {
        "hypervisors": [{"uri": libvirtd.uri_read_only}],
        "guests": {"per_vcpu": True},
        "cache_ttl": "0s",
    }
    command = libvirtd.sandbox.command(*prefix, sys.executable, str(_AS_NOBODY))
    with serve(settings, command=command, flags=["--collector.guests"]) as exporter:
        yield exporter


def start(libvirtd: LibvirtDaemon, name: str, sector: bytes, **options: Any) -> Any:
    """Start a guest that does what its boot sector says."""
    disk = make_boot_disk(libvirtd.images / f"{name}.raw", sector)
    return libvirtd.start_guest(guest_xml(name, disks=[file_disk(disk, format="raw")], **options))


def read_statistics(domain: Any) -> Mapping[str, Any]:
    """Return what libvirt says of a guest."""
    groups = (
        libvirt.VIR_DOMAIN_STATS_CPU_TOTAL
        | libvirt.VIR_DOMAIN_STATS_VCPU
        | libvirt.VIR_DOMAIN_STATS_INTERFACE
    )
    ((_, statistics),) = domain.connect().domainListGetStats([domain], groups)
    found: Mapping[str, Any] = statistics
    return found


def test_cpu_time_and_delay_are_those_of_libvirt(libvirtd: LibvirtDaemon) -> None:
    """The values are read between two readings of libvirt's, and all of them only grow."""
    spins = start(libvirtd, "sp_in-1", boot_sector(spins=True), vcpus=2)
    start(libvirtd, "sleeps", boot_sector())
    time.sleep(1)
    with serve_beside(libvirtd) as exporter:
        exporter.scrape()
        before = read_statistics(spins)
        scrape = exporter.scrape()
        after = read_statistics(spins)
        assert "wait for CPUs is not known" not in exporter.log

    def is_between(name: str, value: float) -> bool:
        return before[name] <= value * 1e9 + 2 and value * 1e9 - 2 <= after[name]

    assert is_between("cpu.time", scrape.value("hypervisor_guest_cpu_seconds_total", domain="sp_in-1"))
    delays = [
        scrape.value("hypervisor_guest_one_vcpu_delay_seconds_total", domain="sp_in-1", vcpu=str(vcpu))
        for vcpu in (0, 1)
    ]
    assert all(is_between(f"vcpu.{vcpu}.delay", delay) for vcpu, delay in enumerate(delays))
    delay = scrape.value("hypervisor_guest_vcpu_delay_seconds_total", domain="sp_in-1")
    assert delay == pytest.approx(sum(delays))
    assert scrape.value("hypervisor_guest_cpu_seconds_total", domain="sp_in-1") > scrape.value(
        "hypervisor_guest_cpu_seconds_total", domain="sleeps"
    )
    together = scrape.value("hypervisor_guests_cpu_seconds_total")
    each = [value for _, value in scrape.series("hypervisor_guest_cpu_seconds_total")]
    # The sum was read a moment before, or after.
    assert together == pytest.approx(sum(each), rel=0.2)


def test_pressure_and_resident_memory_are_known_where_the_kernel_counts_them(libvirtd: LibvirtDaemon) -> None:
    start(libvirtd, "spins", boot_sector(spins=True), memory_mib=64)
    with serve_beside(libvirtd) as exporter:
        scrape = exporter.scrape()
    resident = scrape.get("hypervisor_guest_memory_resident_bytes", domain="spins")
    pressure = {
        labels["resource"] for labels, _ in scrape.series("hypervisor_guest_pressure_waiting_seconds_total")
    }
    if "memory.stat" in {path.name for path in find_files(libvirtd)}:
        assert resident is not None
        assert 1 << 20 < resident < 1 << 30
    else:
        assert resident is None
    assert pressure == {path.stem for path in find_files(libvirtd) if path.suffix == ".pressure"} - {
        "irq",
        "cgroup",
    }


def find_files(libvirtd: LibvirtDaemon) -> list[Path]:
    """Return the files of the guests' groups."""
    return [
        path
        for tree in Path("/sys/fs/cgroup").glob(f"**/{libvirtd.sandbox.root.name}/machine/*")
        for path in tree.glob("*")
    ]


def test_traffic_is_what_was_sent_to_the_guest_and_what_it_sent(libvirtd: LibvirtDaemon) -> None:
    with quiet_tap("hx-use0") as tap:
        sector = boot_sector(frames=_FRAMES, frame_bytes=_FRAME_BYTES)
        talks = start(libvirtd, "talks", sector, interfaces=[card_interface(tap)])
        wait_until(lambda: read_traffic(tap).sent_packets == _FRAMES, "the guest's frames")
        send_frames(tap, _SENT, size=_SENT_BYTES)
        with serve_beside(libvirtd) as exporter:
            scrape = exporter.scrape()
            told = read_statistics(talks)

    def value(name: str) -> float:
        return scrape.value(f"hypervisor_guest_network_{name}_total", domain="talks", device="hx-use0")

    assert (value("transmit_packets"), value("transmit_bytes")) == (_FRAMES, _FRAMES * _FRAME_BYTES)
    assert (value("receive_packets"), value("receive_bytes")) == (_SENT, _SENT * _SENT_BYTES)
    assert {value(name) for name in ("receive_errs", "receive_drop", "transmit_errs")} == {0}
    for name, field in {"bytes": "bytes", "packets": "pkts", "errs": "errs", "drop": "drop"}.items():
        assert value(f"receive_{name}") == told[f"net.0.rx.{field}"]
        assert value(f"transmit_{name}") == told[f"net.0.tx.{field}"]


def test_what_a_unit_hides_is_one_note_and_costs_only_that(libvirtd: LibvirtDaemon) -> None:
    start(libvirtd, "spins", boot_sector(spins=True))
    with serve_beside(libvirtd, "unshare", "--mount", "sh", "-ec", _HIDE, "sh") as exporter:
        for _ in range(3):
            scrape = exporter.scrape()
        assert scrape.value("hypervisor_guest_cpu_seconds_total", domain="spins") > 0
        assert "hypervisor_guest_vcpu_delay_seconds_total" not in scrape.names
        assert exporter.log.count("the guests' vCPUs wait for CPUs is not known") == 1


def test_guests_that_come_and_go_leave_nothing_open(libvirtd: LibvirtDaemon) -> None:
    """A guest that was destroyed is gone at once, and one that is started again begins at 0."""
    guest = start(libvirtd, "spins", boot_sector(spins=True))
    start(libvirtd, "stays", boot_sector(spins=True))
    name = "hypervisor_guest_cpu_seconds_total"
    with serve_beside(libvirtd) as exporter:
        time.sleep(1)
        first = exporter.scrape().value(name, domain="spins")
        folder = Path(f"/proc/{exporter.process.pid}/fd")
        count = len(list(folder.iterdir()))
        for _ in range(3):
            guest.destroy()
            assert exporter.scrape().get(name, domain="spins") is None
            guest.create()
            scrape = exporter.scrape()
            assert scrape.value(name, domain="spins") < first
            assert scrape.value(name, domain="stays") > 0
        assert len(list(folder.iterdir())) <= count + 4

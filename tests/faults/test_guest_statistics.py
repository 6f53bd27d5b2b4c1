"""Guests freeze while libvirt is asked for their statistics: no other guest loses anything, and no scrape.

The exporter does not see the processes of these guests: their libvirtd keeps its files elsewhere. So it is
told of a frozen guest only by its silence.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from exporter.errors import GoneError
from exporter.guest_records import DiskCounters
from exporter.virt.guests.statistics import is_of_the_monitor, parse_disks, parse_interfaces, parse_memory
from exporter.virt.hypervisor import LibvirtHypervisor
from tests.support.boot_sectors import boot_sector, make_boot_disk
from tests.support.exporter_process import RunningExporter, Scrape, run_once, scrape_once, serve
from tests.support.frozen_guests import frozen, frozen_with_jobs_held
from tests.support.guests import MIB, file_disk, guest_xml, tap_interface
from tests.support.libvirtd import LibvirtDaemon
from tests.support.waiting import wait_until
from tests.support.watching import Timed, check_whole, slow, watch

_MAX_HUNG = 5
# The next round comes at most so much later, and takes 2 s more for each guest that begins to hang.
_ROUND_SECONDS = 14

_RESPONSIVE = "hypervisor_guest_responsive"
_TIMESTAMP = "hypervisor_guest_stats_timestamp_seconds"
_WRITTEN = "hypervisor_guest_disk_written_bytes_total"
_READ = "hypervisor_guest_disk_read_bytes_total"


def test_a_frozen_guest_costs_no_other_guest_a_sample_and_no_scrape_any_time(libvirtd: LibvirtDaemon) -> None:
    """Shows that all others are read on, that one call hangs, and that all is well when it goes on."""
    _start_guests(libvirtd, "frozen", "well", "other")
    with _serve(libvirtd) as exporter:
        before = _wait_for_all(exporter, 3)
        with frozen(libvirtd, "frozen"):
            frozen_at = time.time()
            taken = _watch_until(
                exporter, libvirtd, lambda scrape: scrape.get(_RESPONSIVE, domain="frozen") == 0
            )
            taken += _watch_until(
                exporter, libvirtd, lambda scrape: _is_read_after(scrape, frozen_at + 5, "well")
            )
            last = taken[-1].scrape
            check_whole(taken, before)
            assert slow(taken) == []
            assert max(each.scrape.value("hypervisor_hung_calls") for each in taken) == 1
            assert last.value(_RESPONSIVE, domain="frozen") == 0
            assert last.value("hypervisor_guests_unresponsive") == 1
            assert last.value("hypervisor_guest_stats_suspended") == 0
            assert last.value(_TIMESTAMP, domain="frozen") <= frozen_at
            assert last.value(_WRITTEN, domain="frozen") >= before.value(_WRITTEN, domain="frozen") > 0
            assert last.value(_WRITTEN, domain="well") > before.value(_WRITTEN, domain="well")
            assert last.value(_WRITTEN, domain="other") > before.value(_WRITTEN, domain="other")
        _watch_until(exporter, libvirtd, lambda scrape: scrape.get(_RESPONSIVE, domain="frozen") == 1)
        assert exporter.scrape().value("hypervisor_hung_calls") == 0


def test_a_guest_whose_job_is_held_keeps_its_last_numbers(libvirtd: LibvirtDaemon) -> None:
    """Shows that no number becomes 0, that no call hangs, and that it shows who does not answer."""
    _start_guests(libvirtd, "held", "well")
    with _serve(libvirtd) as exporter:
        before = _wait_for_all(exporter, 2)
        with frozen_with_jobs_held(libvirtd, "held"):
            held_at = time.time()
            taken = _watch_until(
                exporter, libvirtd, lambda scrape: scrape.get(_RESPONSIVE, domain="held") == 0
            )
            taken += _watch_until(exporter, libvirtd, lambda scrape: _is_read_after(scrape, held_at, "well"))
            check_whole(taken, before)
            assert slow(taken) == []
            for each in taken:
                assert each.scrape.value(_READ, domain="held") == before.value(_READ, domain="held") > 0
                assert each.scrape.value("hypervisor_guest_stats_suspended") == 0
            assert taken[-1].scrape.value(_TIMESTAMP, domain="held") <= held_at


def test_many_frozen_guests_take_a_quarter_of_the_workers(libvirtd: LibvirtDaemon) -> None:
    """Shows that reading is suspended then, and that the numbers of before are shown meanwhile."""
    names = [f"frozen{number}" for number in range(_MAX_HUNG + 2)]
    _start_guests(libvirtd, *names, "well")
    with _serve(libvirtd) as exporter:
        before = _wait_for_all(exporter, len(names) + 1)
        with frozen(libvirtd, *names):
            suspended = "hypervisor_guest_stats_suspended"
            taken = _watch_until(exporter, libvirtd, lambda scrape: scrape.get(suspended) == 1, seconds=30)
            taken += watch(exporter, libvirtd, 2)
            check_whole(taken, before)
            assert slow(taken) == []
            assert max(each.scrape.value("hypervisor_hung_calls") for each in taken) == _MAX_HUNG
            assert taken[-1].scrape.value("hypervisor_guests_unresponsive") == _MAX_HUNG
            assert "No guest is asked for its statistics" in exporter.log
            assert libvirtd.connection.lookupByName("well").blockInfo("vda"), "others are answered"
        _watch_until(exporter, libvirtd, lambda scrape: scrape.get("hypervisor_guests_unresponsive") == 0)
        assert exporter.scrape().value("hypervisor_guest_stats_suspended") == 0


def test_a_guest_that_is_seen_to_be_stopped_is_not_asked(libvirtd: LibvirtDaemon) -> None:
    """Shows that it costs no call, where libvirtd's files and the guests' processes can be seen."""
    _start_guests(libvirtd, "frozen", "well")
    command = libvirtd.sandbox.command(sys.executable, "-m", "exporter")
    with _serve(libvirtd, command=command) as exporter:
        before = _wait_for_all(exporter, 2)
        with frozen(libvirtd, "frozen"):
            taken = _watch_until(
                exporter, libvirtd, lambda scrape: scrape.get(_RESPONSIVE, domain="frozen") == 0
            )
            frozen_at = time.time()
            taken += _watch_until(
                exporter, libvirtd, lambda scrape: _is_read_after(scrape, frozen_at, "well")
            )
            check_whole(taken, before)
            assert max(each.scrape.value("hypervisor_hung_calls") for each in taken) == 0
        _watch_until(exporter, libvirtd, lambda scrape: scrape.get(_RESPONSIVE, domain="frozen") == 1)


def test_what_libvirt_tells_is_what_the_guest_has_done(libvirtd: LibvirtDaemon) -> None:
    """Shows the disks and interfaces of a guest, also over a network, where no file can be read."""
    sector = boot_sector(writes=4, sectors=8)
    disk = file_disk(make_boot_disk(libvirtd.images / "well", sector), format="raw")
    balloon = "<memballoon model='virtio'><stats period='1'/></memballoon>"
    domain = libvirtd.start_guest(
        guest_xml("well", disks=[disk], interfaces=[tap_interface()], balloon=balloon)
    )
    wait_until(lambda: domain.blockStats("vda")[3] == 4 * 8 * 512, "the guest to write")
    hypervisor = LibvirtHypervisor(libvirtd.uri_tcp)
    hypervisor.connect()
    told = hypervisor.get_domain_statistics(domain.UUIDString(), ("balloon", "block", "interface"))
    assert is_of_the_monitor(told)
    (device,) = parse_interfaces(told)
    assert device.startswith(("vnet", "tap"))
    assert parse_disks(told)["vda"] == DiskCounters(
        read_bytes=domain.blockStats("vda")[1],
        read_requests=domain.blockStats("vda")[0],
        read_ns=told["block.0.rd.times"],  # type: ignore[arg-type]
        written_bytes=4 * 8 * 512,
        write_requests=4,
        write_ns=told["block.0.wr.times"],  # type: ignore[arg-type]
        flush_requests=0,
        flush_ns=0,
        size_bytes=MIB,
        allocated_bytes=(libvirtd.images / "well").stat().st_blocks * 512,
    )
    memory = parse_memory(told)
    assert memory is not None
    assert (memory.balloon_kib, memory.updated_at) == (16 * 1024, None), "it runs no driver"
    uuid = domain.UUIDString()
    assert [each.uuid for each in hypervisor.list_domains()] == [uuid]
    domain.destroy()
    domain.undefine()
    with pytest.raises(GoneError):
        hypervisor.get_domain_statistics(uuid, ["block"])
    hypervisor.close()


def test_another_machines_guests_have_what_libvirt_tells_of_them(libvirtd: LibvirtDaemon) -> None:
    """Shows CPU time and interfaces without any file; a frozen guest's are the last ones, others go on."""
    for name in ("frozen", "well"):
        sector = boot_sector(writes=1, goes_on=True)
        disk = file_disk(make_boot_disk(libvirtd.images / name, sector), format="raw")
        libvirtd.start_guest(guest_xml(name, disks=[disk], interfaces=[tap_interface()]))
    libvirtd.define_pool("images", libvirtd.images)
    settings = {"cache_ttl": "0s", "hypervisors": [{"name": "kvm", "uri": libvirtd.uri_tcp}]}
    with serve(settings, flags=["--collector.guests"]) as exporter:
        before = _wait_for_all(exporter, 2)
        cpu, sent = "hypervisor_guest_cpu_seconds_total", "hypervisor_guest_network_transmit_bytes_total"
        names = {labels["domain"] for labels, value in before.series(cpu) if value > 0}
        assert names == {labels["domain"] for labels, _ in before.series(sent)} == {"frozen", "well"}
        with frozen(libvirtd, "frozen"):
            frozen_at = time.time()
            taken = _watch_until(
                exporter,
                libvirtd,
                lambda scrape: (
                    scrape.get(_RESPONSIVE, domain="frozen") == 0
                    and _is_read_after(scrape, frozen_at, "well")
                ),
            )
            check_whole(taken, before)
            assert slow(taken) == []
            last = taken[-1].scrape
            assert last.value(cpu, domain="well") > before.value(cpu, domain="well")
            assert last.value(cpu, domain="frozen") >= before.value(cpu, domain="frozen")


def test_the_first_scrape_and_once_have_the_statistics(libvirtd: LibvirtDaemon) -> None:
    _start_guests(libvirtd, "a", "b")
    with _serve(libvirtd) as exporter:
        assert len(exporter.scrape().series(_TIMESTAMP)) == 2
    once = scrape_once([_hypervisor(libvirtd)], flags=["--collector.guests"])
    assert len(once.series(_TIMESTAMP)) == 2
    assert scrape_once([_hypervisor(libvirtd)]).series(_TIMESTAMP) == []


def test_what_guests_of_another_machine_use_is_printed(libvirtd: LibvirtDaemon) -> None:
    """Shows that libvirt is asked for it twice. `local: false` is what another machine's URI is."""
    _start_guests(libvirtd, "busy")
    flags = ["--collector.guests", "--format=json", "--guests=kvm"]
    printed = run_once([{**_hypervisor(libvirtd), "local": False}], flags=flags)
    (guest,) = json.loads(printed.stdout)["guests"]
    assert guest["used_cpus"] > 0


def test_guests_outlive_a_restart_of_libvirtd_and_so_do_their_numbers(libvirtd: LibvirtDaemon) -> None:
    """Shows that counters go on where they were, though nobody could be asked for a while."""
    _start_guests(libvirtd, "well")
    with _serve(libvirtd) as exporter:
        before = _wait_for_all(exporter, 1)
        libvirtd.restart()
        restarted_at = time.time()
        taken = _watch_until(
            exporter, libvirtd, lambda scrape: _is_read_after(scrape, restarted_at, "well"), seconds=40
        )
        written = [each.scrape.get(_WRITTEN, domain="well") for each in taken]
        known = [each for each in written if each is not None]
        assert known == sorted(known)
        assert known[-1] > before.value(_WRITTEN, domain="well")


def _start_guests(libvirtd: LibvirtDaemon, *names: str) -> None:
    """Start guests that write all the time."""
    for name in names:
        sector = boot_sector(writes=1, goes_on=True)
        disk = file_disk(make_boot_disk(libvirtd.images / name, sector), format="raw")
        libvirtd.start_guest(guest_xml(name, disks=[disk]))


def _hypervisor(libvirtd: LibvirtDaemon) -> dict[str, Any]:
    return {"name": "kvm", "uri": libvirtd.uri_read_only, "instances_path": str(libvirtd.images)}


@contextmanager
def _serve(libvirtd: LibvirtDaemon, *, command: Sequence[str] = ()) -> Iterator[RunningExporter]:
    settings = {"cache_ttl": "0s", "hypervisors": [_hypervisor(libvirtd)]}
    with serve(settings, command=command, flags=["--collector.guests"]) as exporter:
        yield exporter
        assert "Traceback" not in exporter.log


def _wait_for_all(exporter: RunningExporter, guests: int) -> Scrape:
    """Return the first scrape in which all guests have told that they wrote something."""

    def is_there() -> bool:
        return sum(value > 0 for _, value in exporter.scrape().series(_WRITTEN)) == guests

    wait_until(is_there, "all guests' statistics", seconds=60)
    return exporter.scrape()


def _watch_until(
    exporter: RunningExporter, libvirtd: LibvirtDaemon, is_over: Any, *, seconds: float = 2 * _ROUND_SECONDS
) -> list[Timed]:
    """Scrape until something shows; the last of the scrapes shows it."""
    taken: list[Timed] = []
    deadline = time.monotonic() + seconds
    while not taken or not is_over(taken[-1].scrape):
        assert time.monotonic() < deadline, f"it does not show; the last scrape:\n{taken[-1].scrape.text}"
        taken += watch(exporter, libvirtd, 0.1)
    return taken


def _is_read_after(scrape: Scrape, moment: float, domain: str) -> bool:
    return (scrape.get(_TIMESTAMP, domain=domain) or 0) > moment

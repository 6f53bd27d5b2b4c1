"""libvirtd freezes, dies, comes back, and is not there: scrapes go on, and tell."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.exporter_process import RunningExporter, Scrape, scrape_once, serve
from tests.support.guests import GIB, file_disk, guest_xml, make_qcow2
from tests.support.libvirtd import LibvirtDaemon
from tests.support.waiting import wait_until

# A scrape has to be answered by `scrape_timeout`; a client that waits so much longer waits in vain only for
# one that would hang.
SCRAPE_TIMEOUT = 1
HANGS = 15


@pytest.fixture
def own_libvirtd(libvirt_cache: Path) -> Iterator[LibvirtDaemon]:
    """A libvirtd that nobody else uses, to be killed and frozen."""
    with LibvirtDaemon(cache=libvirt_cache) as daemon:
        yield daemon


def test_a_frozen_daemon_delays_no_scrape_and_costs_one_thread(own_libvirtd: LibvirtDaemon) -> None:
    """Shows that scrapes go on with the last numbers, that nothing piles up, and that it recovers."""
    with _serve(own_libvirtd) as exporter:
        timeouts = _count_timeouts(wait_until(lambda: _scrape_well(exporter), "a good scrape"))
        own_libvirtd.freeze()
        try:
            scrapes = [exporter.scrape(seconds=HANGS)]
            threads = _count_threads(exporter)
            scrapes += [exporter.scrape(seconds=HANGS) for _ in range(8)]
            assert _count_threads(exporter) <= threads
        finally:
            own_libvirtd.thaw()
        for scrape in scrapes:
            assert scrape.value("hypervisor_up") == 0
            assert scrape.value("hypervisor_refreshes_in_flight") == 1
            assert scrape.value("hypervisor_hung_calls") == 1
            assert scrape.get("hypervisor_vcpus") is not None, "the last snapshot is still within its grace"
            assert _count_timeouts(scrape) == timeouts + 1
        wait_until(lambda: _is_up(exporter), "the thawed libvirtd to be up again")
        assert exporter.scrape().value("hypervisor_hung_calls") == 0


def test_debug_names_the_call_that_a_frozen_daemon_does_not_answer(own_libvirtd: LibvirtDaemon) -> None:
    """Shows it both to whoever began the refresh and to whoever comes later and shares it."""
    own_libvirtd.start_guest(guest_xml("guest"))
    with _serve(own_libvirtd) as exporter:
        well = exporter.get("/metrics?debug=true", seconds=HANGS)
        own_libvirtd.freeze()
        try:
            first = exporter.get("/metrics?debug=true", seconds=HANGS)
            second = exporter.get("/metrics?debug=true", seconds=HANGS)
        finally:
            own_libvirtd.thaw()
    assert re.search(r"\d  call +virConnectGetAllDomainStats: ok ", well)
    assert "UNDER WAY" not in well
    for hung in (first, second):
        assert "\nUp: no. " in hung
        assert re.search(r">\d+\.\d+  call +vir\w+.*: UNDER WAY", hung)
        assert re.search(r"\nhypervisor_up\{.*\} 0\.0\n", hung)
    assert "which shares it" not in first
    assert "which shares it" in second


def test_keep_alive_finds_a_dead_connection(own_libvirtd: LibvirtDaemon) -> None:
    """Shows that a connection on which nothing comes any more is given up, without a word from the kernel."""
    with _serve(own_libvirtd, stale_grace="2s") as exporter:
        own_libvirtd.freeze()
        try:
            calls = exporter.scrape(seconds=HANGS).value("hypervisor_libvirt_calls_total")
            wait_until(
                lambda: _reconnects(exporter, calls),
                "keep-alive to give the connection up",
                seconds=60,
            )
            assert exporter.scrape().get("hypervisor_vcpus") is None, "the grace is over"
        finally:
            own_libvirtd.thaw()
        wait_until(lambda: _is_up(exporter), "the thawed libvirtd to be up again")
        assert exporter.scrape().value("hypervisor_connects_total") == 2


@pytest.mark.parametrize("how", ["kill", "terminate"])
def test_the_end_of_the_daemon_shows_at_once_and_so_does_its_return(
    how: str, own_libvirtd: LibvirtDaemon
) -> None:
    """Shows that a cached snapshot does not hide the end, and that the guests, which ran on, are found."""
    own_libvirtd.start_guest(guest_xml("guest", vcpus=2))
    with _serve(own_libvirtd, cache_ttl="1h") as exporter:
        assert exporter.scrape().value("hypervisor_vcpus_used") == 2
        getattr(own_libvirtd, how)()
        wait_until(lambda: not _is_up(exporter), "the exporter to notice")
        assert exporter.scrape().value("hypervisor_vcpus_used") == 2, "it is still within its grace"
        own_libvirtd.start()
        wait_until(lambda: _is_up(exporter), "the exporter to be connected again")
        again = exporter.scrape()
    assert again.value("hypervisor_vcpus_used") == 2
    assert again.value("hypervisor_connects_total") == 2


def test_a_daemon_that_comes_back_with_other_guests_is_read_anew(own_libvirtd: LibvirtDaemon) -> None:
    """Shows that nothing is remembered of guests that were changed while nobody was connected."""
    domain = own_libvirtd.define(guest_xml("first", disks=[_image(own_libvirtd, "first", 3)]))
    with _serve(own_libvirtd) as exporter:
        assert exporter.scrape().value("hypervisor_domains", state="shutoff") == 1
        own_libvirtd.terminate()
        assert exporter.scrape(seconds=HANGS).value("hypervisor_up") == 0
        own_libvirtd.start()
        domain = own_libvirtd.connection.lookupByName("first")
        uuid = domain.UUIDString()
        domain.undefine()
        other = guest_xml("other", vcpus=4, disks=[_image(own_libvirtd, "other", 5)])
        own_libvirtd.start_guest(other.replace("<memory", f"<uuid>{uuid}</uuid><memory", 1))
        wait_until(lambda: _is_up(exporter), "the exporter to be connected again")
        kept_on, fresh = exporter.scrape(), scrape_once([_hypervisor(own_libvirtd)])
    assert _numbers(kept_on.series) == _numbers(fresh.series)
    assert fresh.value("hypervisor_vcpus_used") == 4


def test_without_a_daemon_it_starts_and_finds_it_later(own_libvirtd: LibvirtDaemon) -> None:
    """Shows that the exporter listens, says that the hypervisor is down, and needs no restart."""
    own_libvirtd.terminate()
    once = scrape_once([_hypervisor(own_libvirtd)])
    assert (once.exit_status, once.value("hypervisor_up")) == (1, 0)
    with _serve(own_libvirtd, is_there=False) as exporter:
        absent = exporter.scrape(seconds=HANGS)
        assert absent.value("hypervisor_up") == 0
        assert absent.value("hypervisor_refresh_errors_total", reason="connect") > 0
        assert not [name for name in absent.names if "vcpus" in name]
        own_libvirtd.start()
        assert wait_until(lambda: _is_up(exporter), "the exporter to find libvirtd")
        assert exporter.log.count("reason=connect") == 2, "once when it failed, once when it was over"


def _hypervisor(libvirtd: LibvirtDaemon) -> dict[str, Any]:
    return {"name": "kvm", "uri": libvirtd.uri_read_only, "instances_path": str(libvirtd.images)}


@contextmanager
def _serve(libvirtd: LibvirtDaemon, *, is_there: bool = True, **settings: Any) -> Iterator[RunningExporter]:
    """Run an exporter. If libvirtd is there, wait until it was read.

    A libvirtd that has just started runs QEMU before it gives its capabilities. With other tests beside it,
    this takes longer than a scrape waits.
    """
    times = {"cache_ttl": "0s", "scrape_timeout": f"{SCRAPE_TIMEOUT}s", **settings}
    with serve({**times, "hypervisors": [_hypervisor(libvirtd)]}) as exporter:
        if is_there:
            wait_until(lambda: _is_up(exporter), "the exporter to have read it")
        yield exporter
        assert "Traceback" not in exporter.log


def _image(libvirtd: LibvirtDaemon, name: str, gib: int) -> str:
    return file_disk(make_qcow2(libvirtd.images / name, gib * GIB))


def _is_up(exporter: RunningExporter) -> bool:
    return _scrape_well(exporter) is not None


def _scrape_well(exporter: RunningExporter) -> Scrape | None:
    """Return a scrape that was answered in time; None if this one was not."""
    scrape = exporter.scrape(seconds=HANGS)
    return scrape if scrape.value("hypervisor_up") == 1 else None


def _count_timeouts(scrape: Scrape) -> float:
    return scrape.value("hypervisor_refresh_errors_total", reason="timeout")


def _reconnects(exporter: RunningExporter, calls: float) -> bool:
    """Whether the refresh that hung has ended, and another one is trying to connect.

    That is a new call, which hangs beside the refresh that is late. Other connections may be opening, too.
    """
    scrape = exporter.scrape(seconds=HANGS)
    is_trying = scrape.value("hypervisor_libvirt_calls_total") > calls
    return is_trying and scrape.value("hypervisor_hung_calls") >= 2


def _numbers(series: Any) -> dict[str, Any]:
    names = ("vcpus", "vcpus_used", "local_gb", "disk_available_least", "running_vms", "domains")
    more = ("storage_overcommitted_bytes", "unsized_disks")
    return {name: series(f"hypervisor_{name}") for name in (*names, *more)}


def _count_threads(exporter: RunningExporter) -> int:
    status = Path(f"/proc/{exporter.process.pid}/status").read_text()
    return int(status.partition("Threads:")[2].split()[0])

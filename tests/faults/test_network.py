"""The network between exporter and hypervisor stalls, breaks, and lies."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from tests.support.exporter_process import RunningExporter, Scrape, serve
from tests.support.guests import GIB, file_disk, guest_xml, make_qcow2
from tests.support.libvirtd import LibvirtDaemon
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

HANGS = 15  # seconds, of a scrape that has to be answered within one


@pytest.fixture
def proxy(libvirtd: LibvirtDaemon) -> Iterator[Proxy]:
    """A proxy in front of a libvirtd with one guest and one storage pool."""
    libvirtd.define_pool("images", libvirtd.images)
    libvirtd.start_guest(guest_xml("guest", vcpus=3))
    with Proxy(urlsplit(libvirtd.uri_tcp).port or 0) as proxy:
        yield proxy


def test_a_connection_that_is_cut_is_replaced_at_once(proxy: Proxy) -> None:
    """Shows that a cut connection costs nothing when its other end is still there."""
    with _serve(proxy) as exporter:
        before = _scrape(exporter)
        for _ in range(3):
            proxy.cut()
            after = _scrape(exporter)
            assert (after.value("hypervisor_up"), after.value("hypervisor_vcpus_used")) == (1, 3)
        assert after.value("hypervisor_connects_total") == before.value("hypervisor_connects_total") + 3


def test_a_network_that_stalls_delays_no_scrape_and_is_left_behind(proxy: Proxy) -> None:
    """Shows that one stall costs one thread, and that the connections which it kept for ever are replaced."""
    with _serve(proxy) as exporter:
        assert _scrape(exporter).value("hypervisor_up") == 1
        proxy.stall()
        for _ in range(5):
            stalled = _scrape(exporter)
            assert stalled.value("hypervisor_up") == 0
            assert stalled.value("hypervisor_refreshes_in_flight") == 1
        assert stalled.value("hypervisor_hung_calls") == 1
        proxy.go_on()
        wait_until(lambda: _scrape(exporter).value("hypervisor_up") == 1, "a new connection", seconds=60)
        assert _scrape(exporter).value("hypervisor_vcpus_used") == 3


@pytest.mark.parametrize("answered_bytes", [10, 100, 1000])
def test_an_answer_that_is_cut_short_is_a_lost_connection(proxy: Proxy, answered_bytes: int) -> None:
    """Shows that half an answer is none, wherever it ends, and that the exporter recovers from it."""
    with _serve(proxy) as exporter:
        proxy.cut_after(answered_bytes)
        proxy.cut()
        broken = _scrape(exporter)
        assert broken.value("hypervisor_up") == 0
        assert _count_errors(broken) > 0
        proxy.go_on()
        wait_until(lambda: _scrape(exporter).value("hypervisor_up") == 1, "the exporter to recover")


def test_garbage_for_an_answer_is_a_lost_connection(proxy: Proxy) -> None:
    """Shows that what is not libvirt's protocol does no harm, neither at first nor later."""
    with _serve(proxy) as exporter:
        proxy.answer_garbage()
        for _ in range(3):
            broken = _scrape(exporter)
            assert broken.value("hypervisor_up") == 0
        assert _count_errors(broken) > 0
        proxy.go_on()
        wait_until(lambda: _scrape(exporter).value("hypervisor_up") == 1, "the exporter to recover")


def test_a_hypervisor_that_stalls_does_not_delay_the_others(proxy: Proxy, libvirtd: LibvirtDaemon) -> None:
    """Shows that a healthy hypervisor is read as ever beside one that stalls."""
    here = {"name": "here", "uri": libvirtd.uri_read_only, "instances_path": str(libvirtd.images)}
    with _serve(proxy, here) as exporter:
        proxy.stall()
        for number in range(3):
            libvirtd.define(guest_xml(f"more{number}"))
            scrape = _scrape(exporter)
            assert scrape.value("hypervisor_up", target="here") == 1
            assert scrape.value("hypervisor_domains", state="shutoff") == number + 1
        assert scrape.value("hypervisor_up", target="there") == 0


def test_scrapes_without_a_gap_over_a_slow_network_keep_nothing_from_being_read(
    proxy: Proxy, libvirtd: LibvirtDaemon
) -> None:
    """Shows that what is read between scrapes is read though a refresh is always under way."""
    with _serve(proxy, scrape_timeout="9s") as exporter:
        assert _scrape(exporter).value("hypervisor_up") == 1
        proxy.lag(0.1)
        with _scraping_all_the_time(exporter, clients=2):
            for number in range(3):
                disk = file_disk(make_qcow2(libvirtd.images / f"disk{number}", GIB))
                libvirtd.start_guest(guest_xml(f"late{number}", disks=[disk]))
                wait_until(
                    lambda number=number: _count_guests_with_sizes(exporter) == number + 1,
                    "the size of the new guest's disk",
                    seconds=10,
                )


@contextmanager
def _scraping_all_the_time(exporter: RunningExporter, *, clients: int) -> Iterator[None]:
    """Have clients ask again as soon as they are answered."""
    is_over = threading.Event()

    def scrape() -> None:
        while not is_over.is_set():
            _scrape(exporter)

    threads = [threading.Thread(target=scrape) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join(HANGS)


def _count_guests_with_sizes(exporter: RunningExporter) -> float:
    """Return how many guests' images are sized, or -1 while not all of them are."""
    scrape = _scrape(exporter)
    is_whole = scrape.value("hypervisor_unsized_disks") == 0
    return scrape.value("hypervisor_running_vms") - 1 if is_whole else -1


@contextmanager
def _serve(proxy: Proxy, *others: dict[str, str], scrape_timeout: str = "1s") -> Iterator[RunningExporter]:
    # Both reach one libvirtd: whichever comes first owns its host name.
    there = {"name": "there", "uri": f"qemu+tcp://127.0.0.1:{proxy.port}/system"}
    times = {"cache_ttl": "0s", "scrape_timeout": scrape_timeout}
    with serve({**times, "hypervisors": [*others, there]}) as exporter:
        yield exporter
        assert "Traceback" not in exporter.log


def _scrape(exporter: RunningExporter) -> Scrape:
    return exporter.scrape(seconds=HANGS)


def _count_errors(scrape: Scrape) -> float:
    errors = scrape.series("hypervisor_refresh_errors_total")
    return sum(value for labels, value in errors if labels["reason"] in ("connect", "connection_lost"))

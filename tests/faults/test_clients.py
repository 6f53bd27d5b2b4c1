"""Many clients, slow clients and idle clients; Prometheus gets its scrape all the same."""

from __future__ import annotations

import contextlib
import http.client
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.exporter_process import RunningExporter, Scrape, serve
from tests.support.guests import guest_xml
from tests.support.libvirtd import LibvirtDaemon

TEST_DRIVER = [{"name": "test", "uri": "test:///default"}]


def test_two_hundred_scrapes_at_once_cost_one_refresh(libvirtd: LibvirtDaemon) -> None:
    """Shows that all who come while a refresh is under way share it, however slow the hypervisor is."""
    libvirtd.start_guest(guest_xml("guest", vcpus=2))
    with serve({"cache_ttl": "0s", "hypervisors": [_hypervisor(libvirtd)]}) as exporter:
        before = exporter.scrape()
        libvirtd.freeze()
        try:
            with ThreadPoolExecutor(200) as clients:
                answers = [clients.submit(exporter.scrape, seconds=30) for _ in range(200)]
                _wait_for_requests(exporter, 200)
                libvirtd.thaw()
                scrapes = [answer.result() for answer in answers]
        finally:
            libvirtd.thaw()
    for scrape in scrapes:
        assert (scrape.value("hypervisor_up"), scrape.value("hypervisor_vcpus_used")) == (1, 2)
        assert _count_refreshes(scrape) == _count_refreshes(before) + 1


def test_ten_thousand_scrapes_leave_nothing_behind() -> None:
    """Shows that memory, threads and file descriptors stay what they are, with and without the cache."""
    settings = {"cache_ttl": "10ms", "hypervisors": TEST_DRIVER}
    with serve(settings) as exporter:
        _scrape_on_four_connections(exporter, 500)
        before = _Usage(exporter)
        _scrape_on_four_connections(exporter, 2375)
        after = _Usage(exporter)
        scrape = exporter.scrape()
    # How many of each depends on how fast the machine is.
    assert scrape.value("hypervisor_cache_hits_total") > 50
    assert _count_refreshes(scrape) > 50
    assert after.descriptors <= before.descriptors + 2
    assert after.threads <= before.threads + 2
    assert after.memory_kib <= before.memory_kib + 4096


@pytest.mark.parametrize("first_bytes", [b"", b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: "])
def test_idle_and_slow_clients_keep_prometheus_out_of_nothing(first_bytes: bytes) -> None:
    """Shows that 1,000 connections that owe the rest of a request make room for one that does not."""
    with serve({"hypervisors": TEST_DRIVER}) as exporter, contextlib.ExitStack() as stack:
        host, port = exporter.address.split(":")
        for _ in range(1000):
            client = stack.enter_context(socket.create_connection((host, int(port)), timeout=10))
            # One that was turned away already takes no more bytes.
            with contextlib.suppress(ConnectionError):
                client.sendall(first_bytes)
        for _ in range(20):
            assert exporter.scrape(seconds=10).value("hypervisor_up") == 1
        threads, descriptors = _Usage(exporter).threads, _Usage(exporter).descriptors
    assert threads < 30
    assert descriptors < 600


def test_a_low_limit_of_open_files_is_raised() -> None:
    """Shows that the soft limit, which is meant for other programs, does not keep clients out."""
    command = ["prlimit", "--nofile=64:4096", sys.executable, "-m", "exporter"]
    with serve({"hypervisors": TEST_DRIVER}, command=command) as exporter, contextlib.ExitStack() as stack:
        host, port = exporter.address.split(":")
        for _ in range(200):
            stack.enter_context(socket.create_connection((host, int(port)), timeout=10))
        assert exporter.scrape(seconds=10).value("hypervisor_up") == 1
        assert _Usage(exporter).descriptors > 200


def test_slow_readers_do_not_delay_others() -> None:
    """Shows that clients that ask and do not read the answer cost the others nothing."""
    with serve({"cache_ttl": "0s", "hypervisors": TEST_DRIVER}) as exporter, contextlib.ExitStack() as stack:
        host, port = exporter.address.split(":")
        for _ in range(100):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            client.connect((host, int(port)))
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
        for _ in range(20):
            assert exporter.scrape(seconds=10).value("hypervisor_up") == 1


def test_sigterm_finishes_the_scrape_that_is_under_way(libvirtd: LibvirtDaemon) -> None:
    """Shows that a scrape which waits for a hypervisor is answered when that answers, and then it ends."""
    with serve({"cache_ttl": "0s", "hypervisors": [_hypervisor(libvirtd)]}) as exporter:
        exporter.scrape()
        with _scrape_that_waits(exporter, libvirtd) as answer:
            exporter.process.send_signal(signal.SIGTERM)
            _wait_until_nobody_listens(exporter)
            libvirtd.thaw()
            assert answer.result(timeout=10).value("hypervisor_up") == 1
        assert exporter.process.wait(timeout=5) == 0


def test_sigterm_waits_for_no_hypervisor_that_hangs(libvirtd: LibvirtDaemon) -> None:
    """Shows that such a scrape is answered with what is known, and that the exporter ends in good order."""
    settings = {"cache_ttl": "0s", "scrape_timeout": "30s", "hypervisors": [_hypervisor(libvirtd)]}
    with serve(settings) as exporter:
        exporter.scrape()
        with _scrape_that_waits(exporter, libvirtd) as answer:
            started = time.monotonic()
            exporter.process.send_signal(signal.SIGTERM)
            scrape = answer.result(timeout=20)
            assert exporter.process.wait(timeout=20) == 0
            # The promise itself is a bound on time: its five seconds.
            assert time.monotonic() - started < 5
    assert scrape.value("hypervisor_up") == 0
    assert scrape.get("hypervisor_vcpus") is not None


@contextlib.contextmanager
def _scrape_that_waits(exporter: RunningExporter, libvirtd: LibvirtDaemon) -> Iterator[Any]:
    """Freeze libvirtd for the block, with a scrape under way."""
    libvirtd.freeze()
    try:
        with ThreadPoolExecutor(1) as client:
            answer = client.submit(exporter.scrape, seconds=30)
            _wait_for_requests(exporter, 1)
            yield answer
    finally:
        libvirtd.thaw()


def _hypervisor(libvirtd: LibvirtDaemon) -> dict[str, Any]:
    return {"name": "kvm", "uri": libvirtd.uri_read_only, "instances_path": str(libvirtd.images)}


def _scrape_on_four_connections(exporter: RunningExporter, times: int) -> None:
    clients = [threading.Thread(target=_scrape_often, args=(exporter, times)) for _ in range(4)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()


def _scrape_often(exporter: RunningExporter, times: int) -> None:
    """Scrape so many times on one connection, as Prometheus does."""
    connection = http.client.HTTPConnection(exporter.address, timeout=20)
    with contextlib.closing(connection):
        for _ in range(times):
            connection.request("GET", "/metrics")
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == 200
            assert b"hypervisor_up" in body


def _count_refreshes(scrape: Scrape) -> float:
    return scrape.value("hypervisor_exporter_refresh_duration_seconds_count")


def _wait_for_requests(exporter: RunningExporter, count: int) -> None:
    """Wait until so many clients' requests have arrived; nothing tells it but the kernel's connections."""
    port = int(exporter.address.rpartition(":")[2])
    deadline = time.monotonic() + 20
    while _count_connections(port) < count and time.monotonic() < deadline:
        time.sleep(0.05)
    # A request is one segment, sent right after the connection.
    time.sleep(0.2)


def _count_connections(port: int) -> int:
    """Count the established connections whose server is at this port."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(f":{port:04X}") and row[3] == "01" for row in rows)


def _wait_until_nobody_listens(exporter: RunningExporter) -> None:
    port = int(exporter.address.rpartition(":")[2])
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        if not any(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows):
            return
        time.sleep(0.02)


class _Usage:
    """What a process has in use."""

    def __init__(self, exporter: RunningExporter) -> None:
        process = Path(f"/proc/{exporter.process.pid}")
        status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        self.memory_kib = int(status["VmRSS"].split()[0])
        self.threads = int(status["Threads"])
        self.descriptors = len(list((process / "fd").iterdir()))

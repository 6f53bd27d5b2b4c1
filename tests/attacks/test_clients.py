"""Clients that send and do not read, and clients that idle, over TLS too: whoever comes next is served."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacks.clients import (
    GET,
    MAX_CONNECTIONS,
    TEST_DRIVER,
    connect_tls,
    count_descriptors,
    get_port,
    many_connections,
    pipelining,
    read_memory_kib,
    read_response,
)
from tests.support.exporter_process import serve
from tests.support.waiting import wait_until
from tests.web.authority import Authority
from tests.web.served import Served, serve_web

# What the process has open besides clients' connections.
OTHER_DESCRIPTORS = 40


def test_clients_that_ask_and_do_not_read_keep_nobody_out() -> None:
    """More than there may be, each with requests whose answers fill every buffer."""
    with serve({"hypervisors": TEST_DRIVER}) as exporter:
        port = get_port(exporter)
        with many_connections(port, MAX_CONNECTIONS + 100, GET * 400):
            for _ in range(20):
                assert exporter.scrape(seconds=10).value("hypervisor_up") == 1
            assert count_descriptors(exporter.process.pid) <= MAX_CONNECTIONS + OTHER_DESCRIPTORS


@pytest.mark.parametrize("packet", [20, 1])
@pytest.mark.parametrize(("count", "again"), [(MAX_CONNECTIONS - 7, False), (MAX_CONNECTIONS + 8, True)])
def test_clients_that_go_on_asking_and_do_not_read_keep_no_scrape_out(
    count: int, again: bool, packet: int
) -> None:
    """A little fewer than there may be, and more, of which the evicted ones connect again at once.

    Each sends many requests together, or each request alone.
    """
    with (
        serve({"hypervisors": TEST_DRIVER}) as exporter,
        pipelining(get_port(exporter), count, again=again, packet=packet),
    ):
        wait_until(
            lambda: count_descriptors(exporter.process.pid) >= min(count, MAX_CONNECTIONS), "the clients"
        )
        for _ in range(8):
            assert exporter.scrape(seconds=10).value("hypervisor_up") == 1
            time.sleep(0.1)
        assert count_descriptors(exporter.process.pid) <= MAX_CONNECTIONS + OTHER_DESCRIPTORS


def test_silent_clients_keep_nobody_out_of_a_process_with_few_descriptors() -> None:
    """Each of them has to be accepted and evicted before the scrape's connection is accepted."""
    exporter_with_few = ("sh", "-c", 'ulimit -n 64; exec "$@"', "sh", sys.executable, "-m", "exporter")
    with serve({"hypervisors": TEST_DRIVER}, command=exporter_with_few) as exporter:
        for _ in range(2):
            with many_connections(get_port(exporter), 400, b""):
                assert exporter.scrape(seconds=10).value("hypervisor_up") == 1


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    authority = Authority(tmp_path)
    authority.issue("server", "localhost")
    return authority


@pytest.fixture
def served(tmp_path: Path, authority: Authority) -> Iterator[Served]:
    """An exporter over TLS."""
    web = tmp_path / "web.yml"
    web.write_text('{"tls_server_config": {"cert_file": "server.crt", "key_file": "server.key"}}')
    with serve_web(web) as served:
        yield served


def test_a_tls_connection_is_ended_at_once_when_the_client_wants_so(
    served: Served, authority: Authority
) -> None:
    with connect_tls(served.port, authority) as client:
        client.sendall(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert read_response(client)
        started = time.monotonic()
        assert client.recv(1) == b""
        assert time.monotonic() - started < 2


def test_a_tls_connection_that_idles_ends_with_sigterm_at_once(served: Served, authority: Authority) -> None:
    with connect_tls(served.port, authority) as client:
        client.sendall(GET)
        assert read_response(client)
        started = time.monotonic()
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(timeout=20) == 0
        assert time.monotonic() - started < 2


def test_polite_tls_clients_that_idle_keep_the_next_one_in_and_memory_low(
    served: Served, authority: Authority
) -> None:
    """As many as there may be, each with its answer read; then one more."""
    before = read_memory_kib(served.process.pid)
    with contextlib.ExitStack() as stack:
        for _ in range(MAX_CONNECTIONS):
            client = stack.enter_context(connect_tls(served.port, authority))
            client.sendall(GET.replace(b"/metrics", b"/-/healthy"))
            assert read_response(client) == b"Healthy\n"
        cost = (read_memory_kib(served.process.pid) - before) / MAX_CONNECTIONS
        one_more = stack.enter_context(connect_tls(served.port, authority))
        one_more.sendall(GET)
        assert b"hypervisor_up" in read_response(one_more)
    assert cost < 128, "KiB for each connection"
    # What they held is given back.
    wait_until(
        lambda: count_descriptors(served.process.pid) <= OTHER_DESCRIPTORS, "the descriptors", seconds=10
    )


def test_handshakes_that_do_not_end_keep_nobody_out_and_memory_low(
    served: Served, authority: Authority
) -> None:
    """A record of 16,000 bytes that lacks the last ones; the most that a client can make the server hold."""
    unfinished = b"\x16\x03\x01\x3e\x80\x01\x00\x3e\x7c" + bytes(15_900)
    before = read_memory_kib(served.process.pid)
    with many_connections(served.port, MAX_CONNECTIONS, unfinished):
        wait_until(lambda: count_descriptors(served.process.pid) >= MAX_CONNECTIONS, "the clients")
        assert (read_memory_kib(served.process.pid) - before) / MAX_CONNECTIONS < 128, (
            "KiB for each connection"
        )
        with connect_tls(served.port, authority) as client:
            client.sendall(GET)
            assert b"hypervisor_up" in read_response(client)


def test_a_handshake_that_announces_much_is_ended_before_anything_is_kept_for_it(served: Served) -> None:
    """130,000 bytes, in a record of four: OpenSSL would take it, and set 170 KiB aside."""
    announced = b"\x16\x03\x01\x00\x04\x01" + (130_000).to_bytes(3, "big")
    with socket.create_connection(("127.0.0.1", served.port), timeout=5) as client:
        client.sendall(announced)
        assert client.recv(1) == b""


def test_a_new_handshake_on_an_old_connection_is_refused(served: Served, authority: Authority) -> None:
    """OpenSSL's client asks for one when it reads an R."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{served.port}", "-tls1_2"]
    result = subprocess.run(
        [*command, "-CAfile", authority.certificate],
        input="R\n",
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert "RENEGOTIATING" in result.stdout + result.stderr
    assert "no renegotiation" in result.stderr


def test_tls_connections_that_come_and_go_leave_no_memory_behind(
    served: Served, authority: Authority
) -> None:
    """What the first ones have left behind is used by the next ones."""
    sizes = []
    for _ in range(6):
        with contextlib.ExitStack() as stack:
            for _ in range(400):
                client = stack.enter_context(connect_tls(served.port, authority))
                client.sendall(GET)
                assert read_response(client)
        wait_until(lambda: count_descriptors(served.process.pid) <= OTHER_DESCRIPTORS, "the descriptors")
        sizes.append(read_memory_kib(served.process.pid))
    assert max(sizes[2:]) - sizes[1] < 400 * 5, "5 KiB for each connection; one takes 60"

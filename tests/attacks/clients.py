"""What the attacks share: clients that misbehave, and what the exporter holds."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

from tests.support.exporter_process import RunningExporter
from tests.web.authority import Authority
from tests.web.served import Served

GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
TEST_DRIVER = [{"name": "test", "uri": "test:///default"}]
MAX_CONNECTIONS = 512  # ServerLimits.connections


def count_descriptors(pid: int) -> int:
    """Return how many descriptors the process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def read_memory_kib(pid: int) -> int:
    """Return the process's resident memory."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["VmRSS"].split()[0])


def get_port(exporter: RunningExporter | Served) -> int:
    return exporter.port if isinstance(exporter, Served) else int(exporter.address.rpartition(":")[2])


@contextlib.contextmanager
def many_connections(port: int, count: int, first_bytes: bytes) -> Iterator[list[socket.socket]]:
    """Keep so many connections open, each of which sent these bytes and reads nothing."""
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(count):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            client.settimeout(10)
            # Whoever was turned away or evicted already takes no more bytes.
            with contextlib.suppress(ConnectionError):
                client.connect(("127.0.0.1", port))
                client.sendall(first_bytes)
            clients.append(client)
        yield clients


@contextlib.contextmanager
def pipelining(port: int, count: int, *, again: bool, packet: int = 20) -> Iterator[None]:
    """Have so many clients each send packets of requests five times a second and read no answer.

    :param again: whether a client whose connection is closed connects again
    :param packet: how many requests are sent together
    """
    clients = multiprocessing.get_context("spawn").Process(
        target=_pipeline_all, args=(port, count, again, packet)
    )
    clients.start()
    try:
        yield
    finally:
        clients.terminate()
        clients.join(10)


def _pipeline_all(port: int, count: int, again: bool, packet: int) -> None:
    async def run() -> None:
        await asyncio.gather(*(_pipeline(port, again=again, packet=packet) for _ in range(count)))

    asyncio.run(run())


async def _pipeline(port: int, *, again: bool, packet: int) -> None:
    while True:
        with contextlib.suppress(OSError):
            _reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            while not writer.is_closing():
                writer.write(GET * packet)
                await writer.drain()
                await asyncio.sleep(0.2)
        if not again:
            return
        await asyncio.sleep(0.05)


def connect_tls(port: int, authority: Authority) -> ssl.SSLSocket:
    """Return a connection over which nothing was sent yet."""
    context = ssl.create_default_context(cafile=str(authority.certificate))
    client = socket.create_connection(("127.0.0.1", port), timeout=10)
    return context.wrap_socket(client, server_hostname="localhost")


def read_response(client: socket.socket) -> bytes:
    """Return the body of the next response."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += _receive(client)
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length:"))
    while len(body) < length:
        body += _receive(client)
    return body


def _receive(client: socket.socket) -> bytes:
    received = client.recv(65536)
    if not received:
        raise ConnectionError("the exporter closed the connection")
    return received

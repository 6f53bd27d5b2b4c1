"""A connection goes from state to state as its module's table says, and each state has its time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from exporter.web.connection import Connection, RequestError, ServerLimits, State
from exporter.web.messages import Response
from exporter.web.streams import KERNEL_BUFFER_BYTES
from tests.web.authority import Authority

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LONG = ServerLimits(
    request_timeout=20, idle_timeout=20, write_timeout=20, discard_timeout=20, shutdown_timeout=20
)


def connect_tcp() -> tuple[socket.socket, socket.socket]:
    """Return both ends of a TCP connection; the kernel keeps little for the second one."""
    with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as stack:
        theirs = stack.enter_context(socket.socket())
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        theirs.connect(listener.getsockname())
        ours, _address = listener.accept()
        stack.pop_all()
    return ours, theirs


def run(
    serve: Callable[[Connection, socket.socket], Coroutine[Any, Any, None]],
    *,
    limits: ServerLimits = LONG,
    context: ssl.SSLContext | None = None,
    ends: tuple[socket.socket, socket.socket] | None = None,
) -> Connection:
    """Serve one end of a connection in a task, as a server does, and give the test the other end."""

    async def main() -> Connection:
        ours, theirs = ends or socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)

        connection = Connection(ours, context, limits=limits)
        task = asyncio.create_task(serve(connection, theirs))
        connection.serve_in(task)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait_for(task, 20)
        await asyncio.sleep(0)
        theirs.close()
        return connection

    return asyncio.run(main())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def test_it_goes_through_its_states_in_their_order() -> None:
    async def serve(connection: Connection, client: socket.socket) -> None:
        assert connection.state is State.HANDSHAKING
        await connection.open()
        assert connection.state is State.RECEIVING
        client.send(GET)
        await connection.receive()
        assert connection.state is State.ANSWERING
        assert await connection.send(Response(body=b"a"), is_head=False, close=False)
        assert connection.state is State.IDLE
        since = connection.since
        receiving = asyncio.create_task(connection.receive())
        await asyncio.sleep(0.01)
        client.send(GET[:5])
        await until(lambda: connection.state is State.RECEIVING)
        assert connection.since > since
        client.send(GET[5:])
        await receiving
        assert connection.state is State.ANSWERING
        assert not await connection.send(Response(body=b"b"), is_head=False, close=True)
        assert connection.state is State.SENDING
        finishing = asyncio.create_task(connection.finish())
        await until(lambda: connection.state is State.DISCARDING)
        assert client.recv(1000).endswith(b"\r\n\r\nb")
        client.close()
        await finishing

    assert run(serve).state is State.CLOSED


def test_the_kernel_holds_so_much_of_a_connection_and_no_more() -> None:
    """Linux doubles what it is given, for its own data; without a limit it would take megabytes."""

    async def serve(connection: Connection, client: socket.socket) -> None:
        await connection.open()
        client.send(GET)
        await connection.receive()
        sending = asyncio.create_task(
            connection.send(Response(body=bytes(10_000_000)), is_head=False, close=False)
        )
        await asyncio.sleep(0.1)
        assert not sending.done()
        held = 0
        with contextlib.suppress(BlockingIOError):
            while received := client.recv(65536):
                held += len(received)
        assert held <= 2 * KERNEL_BUFFER_BYTES + 65536  # of the last write it takes more
        sending.cancel()

    run(serve)


def test_whoever_reads_each_answer_asks_one_at_a_time() -> None:
    async def serve(connection: Connection, client: socket.socket) -> None:
        await connection.open()
        for _ in range(100):
            client.send(GET)
            await connection.receive()
            await connection.send(Response(body=bytes(20_000)), is_head=False, close=False)
            received = 0
            while received < 20_000:
                received += len(await asyncio.get_running_loop().sock_recv(client, 65536))
        assert connection.asks_one_at_a_time

    run(serve, ends=connect_tcp())
    run(serve)


def test_whoever_asks_again_while_the_last_answer_was_not_taken_pipelines() -> None:
    """The whole answer is in the kernel, and the client's kernel has no room for all of it."""

    async def serve(connection: Connection, client: socket.socket) -> None:
        await connection.open()
        client.send(GET)
        await connection.receive()
        await connection.send(Response(body=bytes(60_000)), is_head=False, close=False)
        assert connection.asks_one_at_a_time
        client.send(GET)
        await connection.receive()
        assert not connection.asks_one_at_a_time

    run(serve, ends=connect_tcp())
    run(serve)


def test_whoever_asks_again_while_an_answer_is_made_pipelines() -> None:
    async def serve(connection: Connection, client: socket.socket) -> None:
        await connection.open()
        client.send(GET)
        await connection.receive()
        assert connection.asks_one_at_a_time
        client.send(GET)
        await connection.send(Response(body=b"a"), is_head=False, close=False)
        assert not connection.asks_one_at_a_time

    run(serve, ends=connect_tcp())
    run(serve)


def test_no_request_leads_to_an_answer_and_no_next_request() -> None:
    async def serve(connection: Connection, client: socket.socket) -> None:
        await connection.open()
        client.send(b"nonsense\r\n\r\n")
        with pytest.raises(RequestError):
            await connection.receive()
        assert not await connection.send(Response(), is_head=False, close=True)
        assert client.recv(100).startswith(b"HTTP/1.1 200 ")

    run(serve)


async def _stay_receiving(connection: Connection, _client: socket.socket) -> None:
    await connection.open()
    await connection.receive()


async def _stay_idle(connection: Connection, client: socket.socket) -> None:
    await connection.open()
    client.send(GET)
    await connection.receive()
    await connection.send(Response(), is_head=False, close=False)
    await connection.receive()


async def _stay_sending(connection: Connection, client: socket.socket) -> None:
    await connection.open()
    client.send(GET)
    await connection.receive()
    await connection.send(Response(body=bytes(10_000_000)), is_head=False, close=False)


async def _stay_discarding(connection: Connection, client: socket.socket) -> None:
    """The client never stops sending."""

    async def send() -> None:
        with contextlib.suppress(OSError):
            while True:
                await asyncio.get_running_loop().sock_sendall(client, bytes(1000))

    await connection.open()
    client.send(GET)
    await connection.receive()
    await connection.send(Response(), is_head=False, close=True)
    sending = asyncio.create_task(send())
    try:
        await connection.finish()
    finally:
        sending.cancel()


@pytest.mark.parametrize(
    ("stay", "name"),
    [
        (_stay_receiving, "request_timeout"),
        (_stay_idle, "idle_timeout"),
        (_stay_sending, "write_timeout"),
        (_stay_discarding, "discard_timeout"),
    ],
)
def test_each_state_has_its_own_time_and_ends_with_it(
    stay: Callable[[Connection, socket.socket], Coroutine[Any, Any, None]], name: str
) -> None:
    """The others have 20 s, so that the test would take as long."""
    times = dict.fromkeys(("request_timeout", "idle_timeout", "write_timeout", "discard_timeout"), 20.0)
    started = time.monotonic()
    connection = run(stay, limits=ServerLimits(**{**times, name: 0.1}))
    assert time.monotonic() - started < 15
    assert connection.state is State.CLOSED


@pytest.fixture
def context(tmp_path: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*Authority(tmp_path).issue("server", "localhost"))
    return context


def test_a_handshake_has_its_time(context: ssl.SSLContext) -> None:
    async def stay(connection: Connection, _client: socket.socket) -> None:
        await connection.open()

    started = time.monotonic()
    run(stay, limits=ServerLimits(request_timeout=0.1), context=context)
    assert time.monotonic() - started < 5


def test_over_tls_a_response_is_sent_without_another_byte_of_the_client(
    context: ssl.SSLContext, tmp_path: Path
) -> None:
    """Else the time to be idle would be that to take a response, and a last response would not be the end."""

    async def serve(connection: Connection, client: socket.socket) -> None:
        trust = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        opening = asyncio.create_task(
            asyncio.open_connection(sock=client.dup(), ssl=trust, server_hostname="localhost")
        )
        await connection.open()
        reader, writer = await opening
        writer.write(GET)
        await connection.receive()
        assert await connection.send(Response(body=bytes(100_000)), is_head=False, close=False)
        assert connection.state is State.IDLE
        await reader.readuntil(b"\r\n\r\n")
        assert len(await reader.readexactly(100_000)) == 100_000
        writer.write(GET)
        await connection.receive()
        await connection.send(Response(), is_head=False, close=True)
        finishing = asyncio.create_task(connection.finish())
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.read() == b""
        writer.close()
        client.close()
        await finishing

    run(serve, context=context)


def test_over_tls_two_requests_in_two_records_are_noticed_together(
    context: ssl.SSLContext, tmp_path: Path
) -> None:
    """OpenSSL returns one record at a time, so the second request is not read with the first."""

    async def serve(connection: Connection, client: socket.socket) -> None:
        trust = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = trust.wrap_bio(incoming, outgoing, server_hostname="localhost")
        opening = asyncio.create_task(connection.open())
        while not opening.done():
            with contextlib.suppress(ssl.SSLWantReadError):
                tls.do_handshake()
            client.send(outgoing.read())
            await asyncio.sleep(0.01)
            with contextlib.suppress(BlockingIOError):
                incoming.write(client.recv(65536))
        await opening
        for _ in range(2):
            tls.write(GET)
        client.send(outgoing.read())
        await connection.receive()
        assert not connection.asks_one_at_a_time

    run(serve, context=context)

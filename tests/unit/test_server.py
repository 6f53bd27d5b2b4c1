"""HTTP as it comes over a socket: limits, slow and idle clients, pipelining, and what is no request."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import pytest

from exporter.web.connection import ServerLimits
from exporter.web.messages import Request, Response
from exporter.web.server import Server
from exporter.web.sockets import bind
from exporter.web.streams import PlainStream
from tests.support.descriptors import count_descriptors

PATIENCE_SECONDS = 20
LENGTH = 20_000_000  # of an answer that no kernel keeps for a client that does not read
GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
REFUSED = GET.replace(b"/a", b"/refused")
LONG = GET.replace(b"/a", b"/long")


class Client:
    """One connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.server = writer.get_extra_info("peername")

    async def send(self, content: bytes) -> None:
        self._writer.write(content)
        await self._writer.drain()

    async def receive(self, *, has_body: bool = True) -> tuple[int, dict[str, str], bytes]:
        """Return the next answer's status, headers and body."""
        head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
        first, *lines = head.decode().strip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        length = int(headers["content-length"]) if has_body else 0
        return int(first.split()[1]), headers, await self._reader.readexactly(length)

    async def is_closed(self) -> bool:
        """Whether the server closes the connection, without a word."""
        try:
            return await asyncio.wait_for(self._reader.read(), PATIENCE_SECONDS) == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        self._writer.close()


async def echo(request: Request) -> Response:
    return Response(body=f"{request.method} {request.target}".encode())


def hold_long(may_answer: asyncio.Event) -> Callable[[Request], Awaitable[Response]]:
    """Return a handler that answers LONG when it may, and refuses REFUSED."""

    async def answer(request: Request) -> Response:
        if request.path == "/refused":
            return Response(status=HTTPStatus.UNAUTHORIZED)
        if request.path == "/long":
            await may_answer.wait()
        return await echo(request)

    return answer


def serve(
    talk: Callable[[Callable[[], Awaitable[Client]], Server], Awaitable[None]],
    *,
    handler: Callable[[Request], Awaitable[Response]] = echo,
    **limits: float,
) -> None:
    """Serve, and have a test talk to it."""

    async def run() -> None:
        clients: list[Client] = []

        async def connect() -> Client:
            clients.append(Client(*await asyncio.open_connection("127.0.0.1", port)))
            return clients[-1]

        server = Server(
            handler,
            limits=ServerLimits(**limits),  # type: ignore[arg-type]
        )
        bound = bind("127.0.0.1:0")
        port = bound.getsockname()[1]
        server.listen([bound])
        await asyncio.wait_for(talk(connect, server), PATIENCE_SECONDS)
        await server.close(end_waits=lambda: None)
        for client in clients:
            client.close()
        await asyncio.sleep(0)

    asyncio.run(run())


def test_one_connection_serves_many_requests() -> None:
    async def talk(connect: Callable[[], Awaitable[Client]], _server: Server) -> None:
        client = await connect()
        for _ in range(3):
            await client.send(GET)
            status, headers, body = await client.receive()
            assert (status, body) == (200, b"GET /a")
            assert "connection" not in headers

    serve(talk)


def test_requests_that_are_sent_ahead_are_answered_in_their_order() -> None:
    async def talk(connect: Callable[[], Awaitable[Client]], _server: Server) -> None:
        client = await connect()
        await client.send(b"".join(GET.replace(b"/a", b"/%d" % number) for number in range(5)))
        assert [(await client.receive())[2] for _ in range(5)] == [b"GET /%d" % number for number in range(5)]

    serve(talk)


def test_a_request_may_come_byte_by_byte() -> None:
    async def talk(connect: Callable[[], Awaitable[Client]], _server: Server) -> None:
        client = await connect()
        for byte in GET:
            await client.send(bytes([byte]))
        assert (await client.receive())[0] == 200

    serve(talk)


def test_head_gets_the_headers_of_get_and_no_body() -> None:
    async def talk(connect: Callable[[], Awaitable[Client]], _server: Server) -> None:
        client = await connect()
        await client.send(GET.replace(b"GET", b"HEAD") + GET)
        status, headers, _ = await client.receive(has_body=False)
        assert (status, headers["content-length"]) == (200, str(len(b"HEAD /a")))
        assert (await client.receive())[2] == b"GET /a"

    serve(talk)


@pytest.mark.parametrize(
    "first", [b"GET /a HTTP/1.0\r\n\r\n", GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")]
)
def test_a_client_that_wants_no_more_gets_no_more(first: bytes) -> None:
    async def talk(connect: Callable[[], Awaitable[Client]], _server: Server) -> None:
        client = await connect()
        await client.send(first)
        assert (await client.receive())[2] == b"GET /a"
        assert await client.is_closed()

    serve(talk)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20 + b"\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\n\r\n", 400),  # without a Host
        (b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: two\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b"a" * 100_000, 413),
        (CHUNKED.replace(b"Host", b"Content-Length: 5\r\nHost"), 400),
        (CHUNKED + b"0\r\n\r\n", 411),
        # CVE-2025-43859: what h11 below 0.16 takes for the end of a chunk's line, and the request behind it.
        (CHUNKED + b"5\r\nAAAAAXX0\r\n\r\n" + GET, 411),
        (b"POST /a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n", 417),
    ],
)
def test_what_is_no_request_or_too_large_is_refused_and_the_connection_closed(
    sent: bytes, status: int
) -> None:
    """Shows that the client gets to read why, even if it sends more than is wanted."""

    async def talk(connect: Callable[[], Awaitable[Client]], _server: Server) -> None:
        client = await connect()
        await client.send(sent)
        answered, headers, body = await client.receive()
        assert (answered, headers["connection"]) == (status, "close")
        assert body == f"{status} {HTTPStatus(status).phrase}\n".encode()
        assert await client.is_closed()

    # What was sent whole is read whole already. Of the rest, a busy machine takes a while to read all.
    serve(talk, discard_timeout=1.0 if len(sent) > 10_000 else 0.1)


def test_a_body_is_read_and_thrown_away() -> None:
    async def talk(connect: Callable[[], Awaitable[Client]], _server: Server) -> None:
        client = await connect()
        await client.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello" + GET)
        assert [(await client.receive())[2] for _ in range(2)] == [b"POST /a", b"GET /a"]

    serve(talk)


@pytest.mark.parametrize("sent", [b"", GET[:-1]])
def test_a_request_that_does_not_come_in_time_ends_the_connection(sent: bytes) -> None:
    async def talk(connect: Callable[[], Awaitable[Client]], _server: Server) -> None:
        client = await connect()
        await client.send(sent)
        assert await client.is_closed()

    serve(talk, request_timeout=0.05)


def test_between_requests_a_client_may_be_idle_for_longer() -> None:
    """Shows that the time for a request begins with its first byte."""

    async def talk(connect: Callable[[], Awaitable[Client]], _server: Server) -> None:
        client = await connect()
        await client.send(GET)
        await client.receive()
        await asyncio.sleep(0.6)
        await client.send(GET)
        assert (await client.receive())[0] == 200

    serve(talk, request_timeout=0.5, idle_timeout=PATIENCE_SECONDS)


def test_the_handler_is_given_the_address_of_the_client() -> None:
    async def talk(connect: Callable[[], Awaitable[Client]], _server: Server) -> None:
        client = await connect()
        await client.send(GET)
        assert (await client.receive())[2] == b"127.0.0.1"

    async def answer(request: Request) -> Response:
        return Response(body=request.client.encode())

    serve(talk, handler=answer)


def test_a_client_that_is_idle_for_too_long_is_let_go() -> None:
    async def talk(connect: Callable[[], Awaitable[Client]], _server: Server) -> None:
        client = await connect()
        await client.send(GET)
        await client.receive()
        assert await client.is_closed()

    serve(talk, idle_timeout=0.05)


def test_the_connection_that_idles_for_the_longest_time_is_evicted() -> None:
    """One that was served and idles since counts as one that never sent anything: by how long it idles."""

    async def talk(connect: Callable[[], Awaitable[Client]], _server: Server) -> None:
        served = await connect()
        silent = [await connect() for _ in range(3)]
        await served.send(GET)
        await served.receive()
        for evicted in silent[:2]:
            newcomer = await connect()
            await newcomer.send(GET)
            assert (await newcomer.receive())[0] == 200
            assert await evicted.is_closed()
        for kept in (served, silent[2]):
            await kept.send(GET)
            assert (await kept.receive())[0] == 200

    serve(talk, connections=4)


def test_whoever_reads_no_answer_is_evicted_when_that_was_the_longest_ago() -> None:
    async def talk(connect: Callable[[], Awaitable[Client]], server: Server) -> None:
        unread = [await connect() for _ in range(2)]
        for number, client in enumerate(unread, 1):
            await client.send(LONG)
            await wait_until(lambda number=number: lengthy == number)
        newcomer = await connect()
        await newcomer.send(GET)
        assert (await newcomer.receive())[0] == 200
        assert await unread[0].is_closed()
        assert len((await unread[1].receive())[2]) == LENGTH

    lengthy = 0

    async def answer(request: Request) -> Response:
        nonlocal lengthy
        if request.path != "/long":
            return await echo(request)
        lengthy += 1
        return Response(body=bytes(LENGTH))

    serve(talk, handler=answer, connections=2)


def test_answers_that_nobody_takes_use_so_much_memory_and_no_more() -> None:
    """Those that were not taken for the longest time are given up for the next one."""

    async def talk(connect: Callable[[], Awaitable[Client]], _server: Server) -> None:
        clients = []
        for number in range(1, 4):
            clients.append(await connect())
            await clients[-1].send(LONG)
            await wait_until(lambda number=number: lengthy == number)
        assert await clients[0].is_closed()
        for kept in clients[1:]:
            assert len((await kept.receive())[2]) == LENGTH

    lengthy = 0

    async def answer(_request: Request) -> Response:
        nonlocal lengthy
        lengthy += 1
        return Response(body=bytes(LENGTH))

    serve(talk, handler=answer, unsent_bytes=2 * LENGTH + 1000)


def test_who_waits_for_an_answer_for_the_longest_time_is_evicted_too() -> None:
    """Shows that as many slow requests as there may be connections keep nobody out; their handlers end."""

    async def talk(connect: Callable[[], Awaitable[Client]], server: Server) -> None:
        waiting = [await connect() for _ in range(2)]
        for number, client in enumerate(waiting, 1):
            await client.send(LONG)
            await wait_until(lambda number=number: server.requests_in_flight == number)
        newcomer = await connect()
        await newcomer.send(GET)
        assert (await newcomer.receive())[0] == 200
        assert await waiting[0].is_closed()
        assert server.requests_in_flight == 1
        may_answer.set()
        assert (await waiting[1].receive())[0] == 200

    may_answer = asyncio.Event()
    serve(talk, handler=hold_long(may_answer), connections=2)


@pytest.mark.parametrize("requests", [1, 2], ids=["its first answer", "its second answer"])
def test_one_who_waits_for_an_answer_keeps_the_place_while_others_connect_without_end(requests: int) -> None:
    """Shows it while an answer takes long, when any newcomer has waited for less time."""

    async def talk(connect: Callable[[], Awaitable[Client]], server: Server) -> None:
        scraper = await connect()
        if requests == 2:
            await scraper.send(GET)
            await scraper.receive()
        await scraper.send(LONG)
        await wait_until(lambda: server.requests_in_flight == 1)
        refused = [await connect() for _ in range(20)]
        for client in refused[-3:]:
            await client.send(REFUSED)
            assert (await client.receive())[0] == 401
        silent = [await connect() for _ in range(20)]
        assert await refused[-1].is_closed()
        assert await silent[0].is_closed()
        may_answer.set()
        assert (await scraper.receive())[0] == 200

    may_answer = asyncio.Event()
    serve(talk, handler=hold_long(may_answer), connections=4)


def test_those_who_were_served_before_keep_no_newcomer_out() -> None:
    """Shows it with all places taken by them: of a newcomer and them, they are too many."""

    async def talk(connect: Callable[[], Awaitable[Client]], _server: Server) -> None:
        served = [await connect() for _ in range(4)]
        for client in served:
            await client.send(GET)
            await client.receive()
        newcomer, another = await connect(), await connect()
        await newcomer.send(GET)
        assert (await newcomer.receive())[0] == 200
        await another.send(GET)
        assert (await another.receive())[0] == 200
        for evicted in served[:2]:
            assert await evicted.is_closed()
        for kept in served[2:]:
            await kept.send(GET)
            assert (await kept.receive())[0] == 200

    serve(talk, connections=4)


def test_a_later_answer_under_way_keeps_its_place_while_others_ask_again_and_again() -> None:
    """Each of the others was served later than the one who waits, and idles for a moment only."""

    async def talk(connect: Callable[[], Awaitable[Client]], server: Server) -> None:
        scraper = await connect()
        await scraper.send(GET)
        await scraper.receive()
        await scraper.send(LONG)
        await wait_until(lambda: server.requests_in_flight == 1)
        others = [await connect() for _ in range(3)]
        for _ in range(10):
            others.append(await connect())
            for client in others[-3:]:
                await client.send(GET)
                assert (await client.receive())[0] == 200
        may_answer.set()
        assert (await scraper.receive())[0] == 200

    may_answer = asyncio.Event()
    serve(talk, handler=hold_long(may_answer), connections=4)


def test_whoever_pipelines_is_evicted_before_one_who_waits_for_longer() -> None:
    async def talk(connect: Callable[[], Awaitable[Client]], server: Server) -> None:
        waiting = await connect()
        await waiting.send(LONG)
        await wait_until(lambda: server.requests_in_flight == 1)
        idle = await connect()
        ahead = await connect()
        await ahead.send(GET + GET)
        for _ in range(2):
            assert (await ahead.receive())[0] == 200
        newcomer = await connect()
        await newcomer.send(GET)
        assert (await newcomer.receive())[0] == 200
        assert await ahead.is_closed()
        may_answer.set()
        assert (await waiting.receive())[0] == 200
        await idle.send(GET)
        assert (await idle.receive())[0] == 200

    may_answer = asyncio.Event()
    serve(talk, handler=hold_long(may_answer), connections=3)


def test_whoever_asks_again_during_an_answer_is_evicted_first_though_each_request_is_read_alone() -> None:
    """The second request comes some time after the first, as its own packet."""

    async def talk(connect: Callable[[], Awaitable[Client]], server: Server) -> None:
        waiting = await connect()
        await waiting.send(LONG)
        await wait_until(lambda: server.requests_in_flight == 1)
        ahead = await connect()
        await ahead.send(LONG)
        await wait_until(lambda: server.requests_in_flight == 2)
        await ahead.send(GET)
        may_answer.set()
        for client in (waiting, ahead, ahead):
            assert (await client.receive())[0] == 200
        idle = await connect()
        newcomer = await connect()
        await newcomer.send(GET)
        assert (await newcomer.receive())[0] == 200
        assert await ahead.is_closed()
        for kept in (waiting, idle):
            await kept.send(GET)
            assert (await kept.receive())[0] == 200

    may_answer = asyncio.Event()
    serve(talk, handler=hold_long(may_answer), connections=3)


def test_a_client_that_reads_nothing_is_given_up_and_its_descriptor_comes_back() -> None:
    """The client stays connected all the while; the kernel keeps nothing of the answer for it either."""

    async def talk(connect: Callable[[], Awaitable[Client]], _server: Server) -> None:
        before = count_descriptors()
        client = await connect()
        await client.send(GET)
        await wait_until(lambda: during)
        assert during == [before + 2]
        await wait_until(lambda: count_descriptors() == before + 1)
        assert await client.is_closed()

    async def answer(_request: Request) -> Response:
        during.append(count_descriptors())
        return Response(body=bytes(LENGTH))

    during: list[int] = []
    serve(talk, handler=answer, write_timeout=0.2)


def test_an_answer_counts_as_sent_when_the_kernel_has_all_of_it() -> None:
    """A little that is left over is enough for the time-out: there is no buffer in between."""

    async def run() -> None:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        stream = PlainStream(ours)
        ours.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while ours.send(bytes(4096)):
                pass  # until the kernel's buffers are full
        writing = asyncio.create_task(stream.write(b"x"))
        await asyncio.sleep(0.1)
        assert not writing.done()
        while not writing.done():
            await asyncio.get_running_loop().sock_recv(theirs, 65536)
        ours.close()
        theirs.close()

    asyncio.run(run())


async def wait_until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def test_at_the_end_a_request_under_way_is_answered_and_idle_clients_are_let_go() -> None:
    async def talk(connect: Callable[[], Awaitable[Client]], server: Server) -> None:
        busy, idle = await connect(), await connect()
        await busy.send(GET)
        while not server.requests_in_flight:
            await asyncio.sleep(0.01)
        closing = asyncio.create_task(server.close(end_waits=may_answer.set))
        assert await idle.is_closed()
        assert (await busy.receive())[2] == b"GET /a"
        await closing
        with pytest.raises(ConnectionRefusedError):
            await connect()

    may_answer = asyncio.Event()

    async def wait(request: Request) -> Response:
        await may_answer.wait()
        return await echo(request)

    serve(talk, handler=wait, shutdown_timeout=0.1, shutdown_send_timeout=PATIENCE_SECONDS)


def test_the_last_answer_before_the_end_says_that_the_connection_closes() -> None:
    """Shows `Connection: close`: a client that sends its next request on this connection would lose it."""

    async def talk(connect: Callable[[], Awaitable[Client]], server: Server) -> None:
        client = await connect()
        await client.send(GET)
        await wait_until(lambda: server.requests_in_flight == 1)
        closing = asyncio.create_task(server.close(end_waits=may_answer.set))
        _, headers, _ = await client.receive()
        assert headers["connection"] == "close"
        await closing

    may_answer = asyncio.Event()

    async def wait(request: Request) -> Response:
        await may_answer.wait()
        return await echo(request)

    serve(talk, handler=wait, shutdown_timeout=0.1, shutdown_send_timeout=PATIENCE_SECONDS)


def test_at_the_end_idle_clients_are_closed_before_the_requests_under_way_are_over() -> None:
    async def talk(connect: Callable[[], Awaitable[Client]], server: Server) -> None:
        busy, served, silent = [await connect() for _ in range(3)]
        await served.send(GET)
        assert (await served.receive())[0] == 200
        await busy.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        await wait_until(lambda: server.requests_in_flight == 1)
        closing = asyncio.create_task(server.close(end_waits=lambda: None))
        assert await served.is_closed()
        assert await silent.is_closed()
        assert server.requests_in_flight == 1
        may_answer.set()
        assert (await busy.receive())[2] == b"GET /slow"
        await closing

    may_answer = asyncio.Event()

    async def answer(request: Request) -> Response:
        if request.path == "/slow":
            await may_answer.wait()
        return await echo(request)

    serve(talk, handler=answer, shutdown_timeout=PATIENCE_SECONDS)


def test_where_no_descriptor_is_left_one_is_taken_back_and_the_next_client_is_served() -> None:
    """The process runs out of them for real; whoever idles then makes room, and accepting goes on."""

    async def talk(connect: Callable[[], Awaitable[Client]], _server: Server) -> None:
        idle = await connect()
        await idle.send(GET)
        await idle.receive()
        newcomer = socket.socket()
        newcomer.setblocking(False)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (newcomer.fileno() + 1, hard))
        try:
            loop = asyncio.get_running_loop()
            await loop.sock_connect(newcomer, idle.server)
            await loop.sock_sendall(newcomer, GET)
            answer = await asyncio.wait_for(loop.sock_recv(newcomer, 1000), PATIENCE_SECONDS)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            newcomer.close()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert await idle.is_closed()

    serve(talk)


def test_a_response_that_cannot_be_sent_ends_the_connection_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def talk(connect: Callable[[], Awaitable[Client]], _server: Server) -> None:
        client = await connect()
        await client.send(GET)
        assert await client.is_closed()

    async def answer(_request: Request) -> Response:
        return Response(headers={"x-odd": "one\nx-another: two"})

    serve(talk, handler=answer)
    assert [record.message for record in caplog.records] == ["a response could not be sent"]


def test_the_refusal_is_not_lost_to_what_the_client_still_sends() -> None:
    """Shows that a client which reads only after it has sent everything gets to read why it was refused."""

    async def run() -> None:
        server = Server(echo, limits=ServerLimits(discard_timeout=PATIENCE_SECONDS))
        bound = bind("127.0.0.1:0")
        port = bound.getsockname()[1]
        server.listen([bound])
        loop = asyncio.get_running_loop()
        with socket.socket() as client:
            client.setblocking(False)
            await loop.sock_connect(client, ("127.0.0.1", port))
            # More than the kernel's buffers hold, so that it is not sent before the server has refused it.
            await loop.sock_sendall(client, b"GET /" + b"a" * 16_000_000)
            answer = await asyncio.wait_for(loop.sock_recv(client, 1000), PATIENCE_SECONDS)
        assert answer.startswith(b"HTTP/1.1 431 ")
        await server.close(end_waits=lambda: None)

    asyncio.run(run())

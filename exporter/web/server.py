"""HTTP/1.1 over asyncio, plain or with TLS: connections, limits and time-outs. h11 is the protocol itself.

A connection costs no thread, so slow and idle clients keep nobody out. When there are too many, the one that
has owed us a request for the longest time makes room.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus

import h11

from exporter.attempt import Failure, attempt_awaiting
from exporter.web.access import Door

log = logging.getLogger(__name__)

_READ_BYTES = 16 * 1024
_SCHEME_AND_AUTHORITY = re.compile(r"^https?://[^/?#]*", re.IGNORECASE)
_BACKLOG = 1024
_ACCEPT_PAUSE_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A request without its body, which nothing here has a use for. Header names are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]

    @property
    def path(self) -> str:
        """The target's path, still percent-encoded."""
        return _split(self.target)[0]

    @property
    def query(self) -> str:
        """What follows the target's first question mark."""
        return _split(self.target)[1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Response:
    """A whole response."""

    status: HTTPStatus = HTTPStatus.OK
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)


def _split(target: str) -> tuple[str, str]:
    """Return path and query of a target in origin or absolute form (RFC 9112, 3.2); any text has some."""
    path, _, query = _SCHEME_AND_AUTHORITY.sub("", target, count=1).partition("?")
    return path or "/", query


Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerLimits:
    """Bounds of what clients may cost; times in seconds."""

    connections: int = 512
    requests: int = 256
    header_bytes: int = 16 * 1024
    body_bytes: int = 64 * 1024
    request_timeout: float = 10.0  # from a request's first byte, or the connection, to its end
    idle_timeout: float = 120.0  # between requests
    write_timeout: float = 30.0
    discard_timeout: float = 1.0  # of what a client sends that was refused already
    shutdown_timeout: float = 3.0  # for the requests under way; then as much again as it takes to send
    shutdown_send_timeout: float = 1.0


class _RequestError(Exception):
    """The client is answered with this status, and the connection closed."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


class Server:
    """Serves `handler` on any number of listening sockets.

    :param choose_door: returns who gets in, and over which TLS, at the moment; asked for each connection
    """

    def __init__(
        self, handler: Handler, *, limits: ServerLimits, choose_door: Callable[[], Door] = Door
    ) -> None:
        self._handler = handler
        self._limits = limits
        self._choose_door = choose_door
        self._listeners: dict[asyncio.Task[None], socket.socket] = {}
        self._connections: dict[_Connection, None] = {}  # in the order in which their last answer ended
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closing = False
        self.requests_in_flight = 0

    def listen(self, sockets: Iterable[socket.socket]) -> None:
        """Accept connections on these bound sockets from now on."""
        for bound in sockets:
            bound.listen(_BACKLOG)
            self._listeners[asyncio.get_running_loop().create_task(self._accept(bound))] = bound

    async def close(self, *, hurry: Callable[[], None]) -> None:
        """Stop accepting, let the requests under way end within their time, then close every connection.

        :param hurry: called if they take too long; has them answered with what is known at once
        """
        self._is_closing = True
        for accepting, bound in self._listeners.items():
            accepting.cancel()
            bound.close()
        for connection in list(self._connections):
            if connection.owes_request:
                connection.abort()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._limits.shutdown_timeout)
        if self._tasks:
            hurry()
            await asyncio.wait(self._tasks, timeout=self._limits.shutdown_send_timeout)
        for connection in list(self._connections):
            connection.abort()

    async def _accept(self, bound: socket.socket) -> None:
        """Accept for ever. Where the process has no file descriptor left, some will be closed soon."""
        loop = asyncio.get_running_loop()
        is_short = False
        while True:
            try:
                client, _address = await loop.sock_accept(bound)
            except OSError as error:
                if not is_short:
                    log.error("cannot accept connections for the moment: %s", error.strerror)
                is_short = True
                await asyncio.sleep(_ACCEPT_PAUSE_SECONDS)
                continue
            is_short = False
            task = loop.create_task(self._serve(client))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, client: socket.socket) -> None:
        if not self._make_room():
            client.close()
            return
        connection = _Connection(client, limits=self._limits, task=asyncio.current_task())
        self._connections[connection] = None
        try:
            door = self._choose_door()
            await connection.open(door.context)
            if door.allows(connection.certificate):
                await self._serve_requests(connection)
        except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError) as error:
            log.debug("connection given up", extra={"client": connection.client, "error": str(error)})
        finally:
            self._connections.pop(connection, None)
            connection.close()

    def _make_room(self) -> bool:
        """Whether one more connection may be served; one that still owes its request makes room for it."""
        if len(self._connections) < self._limits.connections:
            return True
        debtor = next((connection for connection in self._connections if connection.owes_request), None)
        if debtor is None:
            return False
        self._connections.pop(debtor)
        debtor.abort()
        return True

    async def _serve_requests(self, connection: _Connection) -> None:
        while True:
            try:
                request = await connection.receive()
            except _RequestError as error:
                await connection.send(_error(error.status), is_head=False, close=True)
                await connection.discard()
                return
            if request is None:
                return
            response = await self._answer(request)
            if self._is_closing:
                await connection.send(response, is_head=request.method == "HEAD", close=True)
                return
            await connection.send(response, is_head=request.method == "HEAD", close=False)
            if not connection.start_next():
                return
            self._connections[connection] = self._connections.pop(connection, None)

    async def _answer(self, request: Request) -> Response:
        if self.requests_in_flight >= self._limits.requests:
            return _error(HTTPStatus.SERVICE_UNAVAILABLE)
        self.requests_in_flight += 1
        outcome = await attempt_awaiting(self._handler(request))
        self.requests_in_flight -= 1
        if isinstance(outcome, Failure):
            log.error("a defect of this program", exc_info=outcome.error, extra={"path": request.path})
            return _error(HTTPStatus.INTERNAL_SERVER_ERROR)
        return outcome.value


class _Connection:
    """One client's connection: h11's state, the streams, and whether the client owes us a request."""

    _reader: asyncio.StreamReader
    _writer: asyncio.StreamWriter | None = None

    def __init__(
        self, client: socket.socket, *, limits: ServerLimits, task: asyncio.Task[None] | None
    ) -> None:
        self._socket = client
        self._limits = limits
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.header_bytes)
        self._is_first = True
        self._task = task
        self.owes_request = True
        self.client: object = None
        self.certificate: object = None  # the client's, where it was verified: as ssl's getpeercert has it

    async def open(self, context: ssl.SSLContext | None) -> None:
        """Make streams of the socket, shaking hands for TLS first if there is a context.

        :raises OSError: when the client speaks no TLS, or not ours, or takes too long
        """
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=_READ_BYTES, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol,
            self._socket,
            ssl=context,
            ssl_handshake_timeout=None if context is None else self._limits.request_timeout,
        )
        # Then drain() waits until the kernel has everything, and its time-out covers all of a response.
        transport.set_write_buffer_limits(high=0)
        self._reader = reader
        self._writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        self.client = transport.get_extra_info("peername")
        self.certificate = transport.get_extra_info("peercert")

    async def receive(self) -> Request | None:
        """Return the next request, its body thrown away; None when the client has closed the connection.

        :raises _RequestError: when it is none, or too large
        :raises asyncio.TimeoutError: when it does not come in time
        """
        try:
            if not self._is_first:
                await asyncio.wait_for(self._wait_for_bytes(), self._limits.idle_timeout)
            return await asyncio.wait_for(self._receive(), self._limits.request_timeout)
        except h11.RemoteProtocolError as error:
            raise _RequestError(HTTPStatus(error.error_status_hint)) from error
        finally:
            self.owes_request = False

    async def send(self, response: Response, *, is_head: bool, close: bool) -> None:
        """Send a whole response.

        :raises asyncio.TimeoutError: when the client does not take it in time
        """
        headers = {
            "date": formatdate(usegmt=True),
            "content-type": response.content_type,
            "content-length": str(len(response.body)),
            **response.headers,
        }
        if close:
            headers["connection"] = "close"
        head = h11.Response(
            status_code=response.status, headers=list(headers.items()), reason=response.status.phrase
        )
        payload = self._http.send(head) or b""
        if not is_head:
            payload += self._http.send(h11.Data(data=response.body)) or b""
        payload += self._http.send(h11.EndOfMessage()) or b""
        assert self._writer is not None  # open comes first
        self._writer.write(payload)
        await asyncio.wait_for(self._writer.drain(), self._limits.write_timeout)

    def start_next(self) -> bool:
        """Make ready for the next request; False where the protocol allows none on this connection."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        self._is_first = False
        self.owes_request = True
        return True

    async def discard(self) -> None:
        """Throw away what the client still sends, for a while.

        A connection that is closed over unread bytes is reset: a client that still sends learns no more than
        that, and some systems then throw away even an answer that has arrived.
        """
        with contextlib.suppress(asyncio.TimeoutError, OSError):
            await asyncio.wait_for(self._read_to_end(), self._limits.discard_timeout)

    async def _read_to_end(self) -> None:
        while await self._reader.read(_READ_BYTES):
            pass

    def close(self) -> None:
        """Close the connection; what was written still arrives."""
        if self._writer is None:
            self._socket.close()
        else:
            self._writer.close()

    def abort(self) -> None:
        """Close the connection at once, whatever the client was sent or has sent."""
        if self._writer is not None:
            self._writer.transport.abort()
        elif self._task is not None:
            self._task.cancel()

    async def _wait_for_bytes(self) -> None:
        """Wait for the first byte of a request, so that idleness and slowness have each their own limit."""
        if self._http.trailing_data[0]:
            return
        self._http.receive_data(await self._reader.read(_READ_BYTES))

    async def _receive(self) -> Request | None:
        request: Request | None = None
        body_bytes = 0
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                if self._http.they_are_waiting_for_100_continue:
                    raise _RequestError(HTTPStatus.EXPECTATION_FAILED)
                self._http.receive_data(await self._reader.read(_READ_BYTES))
            elif isinstance(event, h11.Request):
                request = _request(event)
            elif isinstance(event, h11.Data):
                body_bytes += len(event.data)
                if body_bytes > self._limits.body_bytes:
                    raise _RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            elif isinstance(event, h11.EndOfMessage):
                return request
            else:  # h11.ConnectionClosed, or h11.PAUSED after it
                return None


def _request(event: h11.Request) -> Request:
    """Return the request.

    :raises _RequestError: when it has two lengths, on which a proxy before us may not agree (RFC 9112, 6.1)
    """
    headers = {name.decode("ascii"): value.decode("latin-1") for name, value in event.headers}
    if "transfer-encoding" in headers and "content-length" in headers:
        raise _RequestError(HTTPStatus.BAD_REQUEST)
    return Request(method=event.method.decode("ascii"), target=event.target.decode("ascii"), headers=headers)


def _error(status: HTTPStatus) -> Response:
    return Response(status=status, body=f"{status.value} {status.phrase}\n".encode())

"""One client's connection: its states, how long each may last, and what h11 makes of its bytes.

Every connection is in one of these states. Its time runs from the moment it came into the state; when it is
over, the connection is aborted: closed at once, and what was not sent is thrown away.

| state | what is waited for | time (ServerLimits) | what follows | evicted |
|---|---|---|---|---|
| HANDSHAKING | the TLS handshake | request_timeout | RECEIVING | second |
| RECEIVING | the rest of a request; the first time, all of it | request_timeout | ANSWERING | second |
| ANSWERING | the handler | the handler's own | SENDING | never |
| SENDING | the client, to take the response | write_timeout | IDLE, DISCARDING | third |
| IDLE | the first byte of the next request | idle_timeout | RECEIVING | second |
| DISCARDING | the client, to stop sending after its last response | discard_timeout | CLOSED | first |
| CLOSED | nothing | | | |

A client that closes the connection, or loses it, or is no client of ours leads from every state to CLOSED.
Which connection is evicted where there are too many is `Server`'s to choose: of those that are named alike in
the last column, it is the one that came into its state first.
"""

from __future__ import annotations

import asyncio
import enum
import socket
import ssl
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus

import h11

from exporter.web.messages import Request, Response
from exporter.web.streams import PlainStream, TlsStream

_NO_LINGER = struct.pack("ii", 1, 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerLimits:
    """Bounds of what clients may cost; times in seconds.

    There are fewer requests than connections, so that one connection at least is not ANSWERING.
    """

    connections: int = 512
    requests: int = 256
    header_bytes: int = 16 * 1024
    body_bytes: int = 64 * 1024
    request_timeout: float = 10.0  # from a request's first byte, or the connection, to its end
    idle_timeout: float = 120.0  # between requests
    write_timeout: float = 30.0
    discard_timeout: float = 1.0  # of what a client sends after its last response
    shutdown_timeout: float = 3.0  # for the requests under way; then as much again as it takes to send
    shutdown_send_timeout: float = 1.0


class State(enum.Enum):
    """What a connection waits for; see the module's table."""

    HANDSHAKING = enum.auto()
    RECEIVING = enum.auto()
    ANSWERING = enum.auto()
    SENDING = enum.auto()
    IDLE = enum.auto()
    DISCARDING = enum.auto()
    CLOSED = enum.auto()


class RequestError(Exception):
    """The client is answered with this status, and the connection closed."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


class Connection:
    """A client's connection. All methods belong to the event loop, and those that wait to one task.

    :param context: the TLS to speak; None for none
    :param task: serves this connection; an abort cancels it
    :ivar since: when it came into its state, on the event loop's clock
    :ivar certificate: the client's, where it was verified, as ssl's getpeercert has it
    """

    def __init__(
        self,
        client: socket.socket,
        context: ssl.SSLContext | None,
        *,
        limits: ServerLimits,
        task: asyncio.Task[None],
    ) -> None:
        self.context = context
        self.client = _address(client)
        self._socket = client
        self._stream = PlainStream(client) if context is None else TlsStream(client, context)
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.header_bytes)
        self._body_bytes = limits.body_bytes
        self._timeouts = _timeouts(limits)
        self._task = task
        self._timer: asyncio.TimerHandle | None = None
        self._enter(State.HANDSHAKING)

    @property
    def certificate(self) -> object:
        """The client's certificate, once it was verified."""
        return self._stream.certificate

    def _enter(self, state: State) -> None:
        """Begin a state, and the time that it may last."""
        loop = asyncio.get_running_loop()
        self.state, self.since = state, loop.time()
        if self._timer is not None:
            self._timer.cancel()
        timeout = self._timeouts.get(state)
        self._timer = None if timeout is None else loop.call_later(timeout, self.abort)

    async def open(self) -> None:
        """Shake hands, if there is TLS.

        :raises OSError: when the client speaks no TLS, or not ours
        """
        await self._stream.open()
        self._enter(State.RECEIVING)

    async def receive(self) -> Request | None:
        """Return the next request, its body thrown away; None when the client has closed the connection.

        :raises RequestError: when it is none, or too large
        :raises OSError: when the connection is lost
        """
        await asyncio.sleep(0)  # a client that sends many requests at once must leave others their turn
        try:
            if self.state is State.IDLE:
                await self._wait_for_bytes()
                self._enter(State.RECEIVING)
            request = await self._receive()
        except h11.RemoteProtocolError as error:
            raise RequestError(HTTPStatus(error.error_status_hint)) from error
        if request is not None:
            self._enter(State.ANSWERING)
        return request

    async def send(self, response: Response, *, is_head: bool, close: bool) -> bool:
        """Send a whole response; return whether another request may follow on this connection.

        :raises OSError: when the connection is lost
        :raises h11.LocalProtocolError: when the response has a header that HTTP cannot carry
        """
        self._enter(State.SENDING)
        await self._stream.write(self._encode(response, is_head=is_head, close=close))
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        self._enter(State.IDLE)
        return True

    async def finish(self) -> None:
        """Say that there are no more responses, and throw away what the client still sends.

        A connection that is closed over unread bytes is reset: a client that still sends learns no more than
        that, and some systems then throw away even an answer that has arrived.
        """
        self._enter(State.DISCARDING)
        self._stream.end()
        while await self._stream.read_raw():
            pass

    def abort(self) -> None:
        """Close the connection at once, whatever it waits for."""
        if self.state is State.SENDING:
            # Without this the kernel would keep what was not sent for as long as the client likes.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._task.cancel()

    def close(self) -> None:
        """Give the descriptor back. What was sent still arrives, unless there was an abort."""
        if self.state in (State.RECEIVING, State.IDLE):
            self._stream.end()
        self._enter(State.CLOSED)
        self._socket.close()

    def _encode(self, response: Response, *, is_head: bool, close: bool) -> bytes:
        headers = {
            "date": formatdate(usegmt=True),
            "content-type": response.content_type,
            "content-length": str(len(response.body)),
            **response.headers,
        }
        if close:
            headers["connection"] = "close"
        head = h11.Response(
            status_code=response.status,
            headers=[(name.encode(), value.encode()) for name, value in headers.items()],
            reason=response.status.phrase,
        )
        payload = self._http.send(head) or b""
        if not is_head:
            payload += self._http.send(h11.Data(data=response.body)) or b""
        return payload + (self._http.send(h11.EndOfMessage()) or b"")

    async def _wait_for_bytes(self) -> None:
        """Wait for the first byte of a request, so that idleness and slowness have each their own limit."""
        if not self._http.trailing_data[0]:
            self._http.receive_data(await self._stream.read())

    async def _receive(self) -> Request | None:
        request: Request | None = None
        body_bytes = 0
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                if self._http.they_are_waiting_for_100_continue:
                    raise RequestError(HTTPStatus.EXPECTATION_FAILED)
                self._http.receive_data(await self._stream.read())
            elif isinstance(event, h11.Request):
                request = _request(event, self.client)
            elif isinstance(event, h11.Data):
                body_bytes += len(event.data)
                if body_bytes > self._body_bytes:
                    raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            elif isinstance(event, h11.EndOfMessage):
                return request
            else:  # h11.ConnectionClosed, or h11.PAUSED after it
                return None


def _timeouts(limits: ServerLimits) -> Mapping[State, float]:
    """Return how long each state may last; those that are not there have no limit of their own."""
    return {
        State.HANDSHAKING: limits.request_timeout,
        State.RECEIVING: limits.request_timeout,
        State.SENDING: limits.write_timeout,
        State.IDLE: limits.idle_timeout,
        State.DISCARDING: limits.discard_timeout,
    }


def _address(client: socket.socket) -> str:
    """Return the client's address without its port; nothing over a Unix socket, or if it has left already."""
    try:
        peer = client.getpeername()
    except OSError:
        return ""
    return str(peer[0]) if isinstance(peer, tuple) else ""


def _request(event: h11.Request, client: str) -> Request:
    """Return the request.

    :raises RequestError: when a proxy before us may not agree where it ends. That is so of one with two
        lengths (RFC 9112, 6.1), and of one with a body in chunks: in it, h11 below 0.16 takes lines that end
        in anything (CVE-2025-43859). Nothing here has a use for a body, so chunks are refused.
    """
    headers = {name.decode("ascii"): value.decode("latin-1") for name, value in event.headers}
    if "transfer-encoding" in headers:
        has_length = "content-length" in headers
        raise RequestError(HTTPStatus.BAD_REQUEST if has_length else HTTPStatus.LENGTH_REQUIRED)
    method, target = event.method.decode("ascii"), event.target.decode("ascii")
    return Request(method=method, target=target, headers=headers, client=client)

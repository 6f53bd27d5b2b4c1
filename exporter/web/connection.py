"""One client's connection: its states, their timeouts, and the requests that h11 parses.

Every connection is in one of these states. The timeout starts when it enters the state. After the timeout the
connection is aborted: closed at once, and unsent data is discarded.

| state | what is waited for | time (ServerLimits) | what follows |
|---|---|---|---|
| HANDSHAKING | the TLS handshake | request_timeout | RECEIVING |
| RECEIVING | the rest of a request; the first time, all of it | request_timeout | ANSWERING |
| ANSWERING | the handler | the handler's own | SENDING |
| SENDING | the client, to take the response | write_timeout | IDLE, DISCARDING |
| IDLE | the first byte of the next request | idle_timeout | RECEIVING |
| DISCARDING | the client, to stop sending after its last response | discard_timeout | CLOSED |
| CLOSED | nothing | | |

If the client closes or loses the connection, or is not allowed, every state leads to CLOSED. So does
eviction: if there are too many connections, `Server` aborts one. First are those that pipeline: that have
sent a request before the one before it was answered, or before their kernel had taken its answer. No scraper
and no browser does that. A client that pipelines and does not read changes its state all the time, so it
would never be the oldest. (A client whose kernel takes the answers looks like one that reads them.) If none
does, the one is aborted that entered its state first among those of the most frequent `Stage`. So clients
that connect without end replace each other. They do not replace a scraper that keeps its connection, or one
that waits for its answer. Clients that ask for what is quick, again and again, do not replace one whose
answer takes long.

If one state were evicted before another, attackers that stay in the other would keep out all new clients,
which have to pass the first. A stage cannot be used for that: with too many in it, it is the most frequent.
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

LONG_BYTES = 16 * 1024
_NO_LINGER = struct.pack("ii", 1, 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerLimits:
    """Limits for clients; times in seconds."""

    connections: int = 512
    unsent_bytes: int = 128 * 1024 * 1024  # of all long responses that clients have not taken yet
    header_bytes: int = 16 * 1024
    body_bytes: int = 64 * 1024
    request_timeout: float = 10.0  # from a request's first byte, or the connection, to its end
    idle_timeout: float = 120.0  # between requests
    write_timeout: float = 30.0
    discard_timeout: float = 1.0  # for data that a client sends after its last response
    shutdown_timeout: float = 3.0  # for the requests under way; then the time to send the responses
    shutdown_send_timeout: float = 1.0


class State(enum.Enum):
    """What a connection waits for; see the table in the module's docstring."""

    HANDSHAKING = enum.auto()
    RECEIVING = enum.auto()
    ANSWERING = enum.auto()
    SENDING = enum.auto()
    IDLE = enum.auto()
    DISCARDING = enum.auto()
    CLOSED = enum.auto()


class Stage(enum.Enum):
    """How far a connection has come. Where users are configured, SERVED needs a right password."""

    NEW = enum.auto()  # has not been served, and no answer is under way
    ASKING = enum.auto()  # its first answer is under way, or one after errors only
    SERVED = enum.auto()  # has had an answer without an error, and no other is under way
    ASKING_AGAIN = enum.auto()  # the same, and another answer is under way
    PIPELINING = enum.auto()  # sent a request before the one before it was answered


class RequestError(Exception):
    """The client gets this status, and the connection is closed."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


class Connection:
    """A client's connection. All methods run in the event loop, and those that wait in one task.

    :param context: the TLS context; None for no TLS
    :ivar since: when it entered its state, on the event loop's clock
    :ivar asks_one_at_a_time: whether the client has always waited for the answer before its next request
    :ivar unsent_bytes: of the response, until the client has taken all of it
    :ivar certificate: the client's, if it was verified, in the form of ssl's getpeercert
    """

    def __init__(
        self,
        client: socket.socket,
        context: ssl.SSLContext | None,
        *,
        limits: ServerLimits,
    ) -> None:
        self.context = context
        self.client = _address(client)
        self._socket = client
        self._stream = PlainStream(client) if context is None else TlsStream(client, context)
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.header_bytes)
        self._body_bytes = limits.body_bytes
        self._timeouts = _timeouts(limits)
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.asks_one_at_a_time = True
        self._has_been_served = False
        self._enter(State.HANDSHAKING)

    def serve_in(self, task: asyncio.Task[None]) -> None:
        """Let this task serve the connection. An abort cancels it, and its end closes the connection."""
        self._task = task
        task.add_done_callback(self._close)

    @property
    def stage(self) -> Stage:
        """How far it has come."""
        if not self.asks_one_at_a_time:
            return Stage.PIPELINING
        is_asking = self.state in (State.ANSWERING, State.SENDING)
        if self._has_been_served:
            return Stage.ASKING_AGAIN if is_asking else Stage.SERVED
        return Stage.ASKING if is_asking else Stage.NEW

    @property
    def certificate(self) -> object:
        """The client's certificate, after it was verified."""
        return self._stream.certificate

    def _enter(self, state: State) -> None:
        """Enter a state and start its timeout."""
        loop = asyncio.get_running_loop()
        self.state, self.since, self.unsent_bytes = state, loop.time(), 0
        if self._timer is not None:
            self._timer.cancel()
        timeout = self._timeouts.get(state)
        self._timer = None if timeout is None else loop.call_later(timeout, self.abort)

    async def open(self) -> None:
        """Do the handshake, if there is TLS.

        :raises OSError: if the client does not speak TLS, or has no common version
        """
        await self._stream.open()
        self._enter(State.RECEIVING)

    async def receive(self) -> Request | None:
        """Return the next request without its body; None if the client has closed the connection.

        :raises RequestError: if it is not a request, or too large
        :raises OSError: if the connection is lost
        """
        await asyncio.sleep(0)  # let other connections run, even if this client sends many requests at once
        try:
            if self.state is State.IDLE:
                await self._wait_for_bytes()
                self._enter(State.RECEIVING)
            request = await self._receive()
        except h11.RemoteProtocolError as error:
            raise RequestError(HTTPStatus(error.error_status_hint)) from error
        if request is not None:
            self._note_early_bytes()
            self._enter(State.ANSWERING)
        return request

    async def send(self, response: Response, *, is_head: bool, close: bool) -> bool:
        """Send a whole response. Return whether another request may follow on this connection.

        :raises OSError: if the connection is lost
        :raises h11.LocalProtocolError: if the response has a header that HTTP does not allow
        """
        self._enter(State.SENDING)
        self.unsent_bytes = len(response.body)
        for part in self._encode(response, is_head=is_head, close=close):
            self._note_early_bytes()  # before the client can have the end of the response
            await self._stream.write(part)
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        self._has_been_served = self._has_been_served or response.status < HTTPStatus.BAD_REQUEST
        self._enter(State.IDLE)
        return True

    async def finish(self) -> None:
        """End the responses, and discard what the client still sends.

        If a connection is closed with unread bytes, it is reset. A client that still sends then sees only the
        reset, and some systems even discard an answer that has arrived.
        """
        self._enter(State.DISCARDING)
        self._stream.end()
        while await self._stream.read_raw():
            pass

    def abort(self) -> None:
        """Close the connection at once, in any state."""
        if self.state is State.SENDING:
            # Without this the kernel would keep unsent data as long as the client wants.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        if self._task is not None:
            self._task.cancel()

    async def wait_until_closed(self, timeout: float) -> None:
        """Wait, after an abort, until the descriptor is released."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=timeout)

    def _close(self, _task: asyncio.Task[None]) -> None:
        """Release the descriptor. Data that was sent still arrives, unless there was an abort."""
        if self.state in (State.RECEIVING, State.IDLE):
            self._stream.end()
        self._enter(State.CLOSED)
        self._socket.close()

    def _encode(self, response: Response, *, is_head: bool, close: bool) -> list[bytes]:
        """Return the response's bytes. A long body is not copied: other clients may be sent the same one."""
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
        parts = [self._http.send(head) or b""]
        if not is_head and response.body:
            parts.append(self._http.send(h11.Data(data=response.body)) or b"")
        parts.append(self._http.send(h11.EndOfMessage()) or b"")  # empty, but for h11's state
        return parts[:2] if len(response.body) > LONG_BYTES else [b"".join(parts)]

    async def _wait_for_bytes(self) -> None:
        """Wait for the first byte of a request, so that idle and slow clients have different timeouts."""
        if not self._http.trailing_data[0]:
            self._http.receive_data(await self._stream.read())
            if self._stream.has_untaken_bytes():
                self.asks_one_at_a_time = False

    def _note_early_bytes(self) -> None:
        """Note it if the client has sent something after a request that is not answered yet."""
        if self._http.trailing_data[0] or self._stream.has_unread_bytes():
            self.asks_one_at_a_time = False

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
    """Return the timeout of each state. States without an entry have none."""
    return {
        State.HANDSHAKING: limits.request_timeout,
        State.RECEIVING: limits.request_timeout,
        State.SENDING: limits.write_timeout,
        State.IDLE: limits.idle_timeout,
        State.DISCARDING: limits.discard_timeout,
    }


def _address(client: socket.socket) -> str:
    """Return the client's address without its port; empty for a Unix socket, or if the client has gone."""
    try:
        peer = client.getpeername()
    except OSError:
        return ""
    return str(peer[0]) if isinstance(peer, tuple) else ""


def _request(event: h11.Request, client: str) -> Request:
    """Return the request.

    :raises RequestError: if a proxy before us may see another end of the request. That is possible with two
        lengths (RFC 9112, 6.1). It is also possible with a body in chunks: h11 before 0.16 accepts wrong line
        ends in it (CVE-2025-43859). No request here needs a body, so chunks are refused.
    """
    headers = {name.decode("ascii"): value.decode("latin-1") for name, value in event.headers}
    if "transfer-encoding" in headers:
        has_length = "content-length" in headers
        raise RequestError(HTTPStatus.BAD_REQUEST if has_length else HTTPStatus.LENGTH_REQUIRED)
    method, target = event.method.decode("ascii"), event.target.decode("ascii")
    return Request(method=method, target=target, headers=headers, client=client)

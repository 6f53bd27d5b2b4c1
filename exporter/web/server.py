"""HTTP/1.1 over asyncio, plain or with TLS: which connections there are, and how many may be.

A connection needs no thread, so slow and idle clients do not block others. When there are too many, one is
evicted for the new one.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import select
import socket
from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from operator import attrgetter

from exporter.attempt import Failure, attempt_awaiting
from exporter.web.access import AccessSettings
from exporter.web.connection import LONG_BYTES, Connection, RequestError, ServerLimits, Stage, State
from exporter.web.messages import Handler, Request, Response

log = logging.getLogger(__name__)

_BACKLOG = 1024
_ACCEPTED_AT_ONCE = 32
_ACCEPT_PAUSE_SECONDS = 0.2
_SHORTAGE_SAID_SECONDS = 60.0
_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


class Server:
    """Serves `handler` on any number of listening sockets.

    :param get_access: returns the current access control and TLS; called for each connection
    """

    def __init__(
        self,
        handler: Handler,
        *,
        limits: ServerLimits,
        get_access: Callable[[], AccessSettings] = AccessSettings,
    ) -> None:
        self._handler = handler
        self._limits = limits
        self._get_access = get_access
        self._listeners: dict[asyncio.Task[None], socket.socket] = {}
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closing = False
        self.requests_in_flight = 0

    def listen(self, sockets: Iterable[socket.socket]) -> None:
        """Accept connections on these bound sockets from now on."""
        for bound in sockets:
            bound.listen(_BACKLOG)
            self._listeners[asyncio.get_running_loop().create_task(self._accept(bound))] = bound

    async def close(self, *, end_waits: Callable[[], None]) -> None:
        """Stop accepting, let the requests under way end within their timeout, then close every connection.

        :param end_waits: called if they take too long; lets them answer at once with what is known
        """
        self._is_closing = True
        for accepting, bound in self._listeners.items():
            accepting.cancel()
            bound.close()
        for connection in self._connections:
            if connection.state not in (State.ANSWERING, State.SENDING):
                connection.abort()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._limits.shutdown_timeout)
        if self._tasks:
            end_waits()
            await asyncio.wait(self._tasks, timeout=self._limits.shutdown_send_timeout)
        for connection in self._connections:
            connection.abort()

    async def _accept(self, bound: socket.socket) -> None:
        """Accept for ever. Without a free descriptor, evict one connection."""
        loop = asyncio.get_running_loop()
        said_at = -_SHORTAGE_SAID_SECONDS
        accepted = 0
        while True:
            try:
                client, _address = await loop.sock_accept(bound)
            except OSError as error:
                if _is_waited_for(bound):
                    if loop.time() - said_at >= _SHORTAGE_SAID_SECONDS:
                        log.error("cannot accept connections for the moment: %s", error.strerror)
                        said_at = loop.time()
                    evicted = self._evict() if error.errno in _NO_DESCRIPTORS else None
                    if evicted is not None:
                        await evicted.wait_until_closed(_ACCEPT_PAUSE_SECONDS)
                        continue
                await asyncio.sleep(_ACCEPT_PAUSE_SECONDS)
                continue
            self._start(client)
            accepted += 1
            if accepted % _ACCEPTED_AT_ONCE == 0:
                # Let other tasks run, and evicted connections release their descriptors.
                await asyncio.sleep(0)

    def _start(self, client: socket.socket) -> None:
        """Serve a new connection. If there are too many, evict another one."""
        if len(self._connections) >= self._limits.connections:
            self._evict()
        access = self._get_access()
        connection = Connection(client, access.context, limits=self._limits)
        self._connections.add(connection)
        task = asyncio.get_running_loop().create_task(self._serve(connection, access))
        connection.serve_in(task)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _task: self._connections.discard(connection))

    def _evict(self) -> Connection | None:
        """Abort one connection. Return it; None if there is none."""
        if not self._connections:
            return None
        evicted = min(_get_candidates(self._connections), key=attrgetter("since"))
        self._abort(evicted)
        return evicted

    def _abort(self, connection: Connection) -> None:
        self._connections.remove(connection)
        connection.abort()

    def _make_room_to_send(self, length: int) -> None:
        """Abort the slowest readers, if the responses that clients have not taken use too much memory."""
        if length <= LONG_BYTES:
            return
        unsent = sum(each.unsent_bytes for each in self._connections)
        slow = sorted(
            (each for each in self._connections if each.unsent_bytes),
            key=attrgetter("asks_one_at_a_time", "since"),
        )
        while slow and unsent + length > self._limits.unsent_bytes:
            slowest = slow.pop(0)
            unsent -= slowest.unsent_bytes
            self._abort(slowest)

    async def _serve(self, connection: Connection, access: AccessSettings) -> None:
        outcome = await attempt_awaiting(self._serve_requests(connection, access))
        if isinstance(outcome, Failure):
            _log_end(connection, outcome.error)

    async def _serve_requests(self, connection: Connection, access: AccessSettings) -> None:
        """Answer one request after the other, until the client or the protocol ends the connection."""
        await connection.open()
        if not access.allows(connection.certificate):
            return
        while True:
            try:
                request = await connection.receive()
            except RequestError as error:
                await connection.send(_error(error.status), is_head=False, close=True)
                break
            if request is None or not self._get_access().keeps_connections_of(access):
                return
            response = await self._answer(request)
            self._make_room_to_send(len(response.body))
            is_head = request.method == "HEAD"
            may_follow = await connection.send(response, is_head=is_head, close=self._is_closing)
            if not may_follow or self._is_closing:
                break
        await connection.finish()

    async def _answer(self, request: Request) -> Response:
        self.requests_in_flight += 1
        try:
            outcome = await attempt_awaiting(self._handler(request))
        finally:
            self.requests_in_flight -= 1
        if isinstance(outcome, Failure):
            log.error("a defect of this program", exc_info=outcome.error, extra={"path": request.path})
            return _error(HTTPStatus.INTERNAL_SERVER_ERROR)
        return outcome.value


def _get_candidates(connections: Iterable[Connection]) -> Sequence[Connection]:
    """Return those of which the oldest is evicted; see the docstring of `exporter.web.connection`."""
    stages: dict[Stage, list[Connection]] = {stage: [] for stage in Stage}
    for each in connections:
        stages[each.stage].append(each)
    return stages[Stage.PIPELINING] or max(stages.values(), key=len)


def _is_waited_for(bound: socket.socket) -> bool:
    """Whether a client waits to be accepted.

    Without a free descriptor, accept(2) fails even if there is none.
    """
    poll = select.poll()
    poll.register(bound, select.POLLIN)
    return bool(poll.poll(0))


def _log_end(connection: Connection, error: Exception) -> None:
    """Log why a connection ended early. Errors that are not the client's are logged at a higher level."""
    if isinstance(error, OSError):
        log.debug("connection ended early", extra={"client": connection.client, "error": str(error)})
    else:
        log.error("a response could not be sent", exc_info=error)


def _error(status: HTTPStatus) -> Response:
    return Response(status=status, body=f"{status.value} {status.phrase}\n".encode())

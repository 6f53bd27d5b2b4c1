"""Connections for calls that may not be answered. Each such call has its own connection.

libvirt answers some calls only when a guest, another daemon or a file system answers. A refresh never makes
such a call on its own connection. It borrows a connection here. A call that is not answered keeps its
connection, and the next call gets another one. So no call waits behind another, and the number of connections
is limited.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

from exporter.attempt import Attempt
from exporter.errors import ConnectionLostError, DaemonError, NoAnswerError
from exporter.virt.calls import LentHypervisor

T = TypeVar("T")

# libvirtd serves 20 calls of all its clients at once. The exporter uses at most half of them: 5 that wait
# for guests, whatever they are asked for, 2 for the host, 2 for storage and 1 for node devices. For the
# host, a refresh has four calls: the list of domains, the capabilities, the online CPUs and the CPU times.
# It makes one after the other; if one is slow, the others at once. If five guests hang at the same time, a
# call that finds no connection then fails in that refresh (NoAnswerError).
MAX_CONNECTIONS = 7
MAX_STORAGE_CONNECTIONS = 2
# A call whose connection is lost sooner is repeated at once on a new one. If it is lost later, the host has
# hung, and its new connection may hang, too.
RETRY_SECONDS = 1.0
_MAX_IDLE = 2  # storage connections are not closed while another one waits: see daemons.py


H = TypeVar("H", bound=LentHypervisor)


class Connections(Generic[H]):
    """Lends connections to one hypervisor, each to one call at a time. For any thread.

    :param make: makes one more, not yet open
    :param clock: monotonic seconds
    :param maximum: how many may be lent at once
    """

    def __init__(
        self,
        make: Callable[[], H],
        *,
        clock: Callable[[], float],
        maximum: int = MAX_CONNECTIONS,
    ) -> None:
        self._make = make
        self._clock = clock
        self._maximum = maximum
        self._lock = threading.Lock()
        self._idle: list[H] = []
        self._lent: list[H] = []
        self._past_calls = 0
        self._is_closed = False

    @property
    def calls(self) -> int:
        """How many calls were made to libvirt."""
        with self._lock:
            return self._past_calls + sum(each.calls for each in (*self._idle, *self._lent))

    @property
    def hung_openings(self) -> int:
        """How many connections are being opened, including those that may never be answered."""
        with self._lock:
            return sum(each.hung_openings for each in (*self._idle, *self._lent))

    def start(self, call: Callable[[H], T], *, name: str) -> Attempt[T]:
        """Start a call in its own thread.

        :param name: the thread's
        """
        return Attempt(partial(self.run, call), name=name, clock=self._clock)

    def run(self, call: Callable[[H], T]) -> T:
        """Make a call in this thread, after connecting if necessary.

        If an old connection is lost at once, or the daemon behind it, the call is repeated once on a new
        connection.

        :raises NoAnswerError: if the maximum number of calls is waiting for an answer
        :raises ConnectionLostError: when it was closed
        :raises HypervisorError: if it cannot connect; and whatever the call raises
        """
        connection = self._borrow()
        try:
            is_new = connection.connect()
            started = self._clock()
            try:
                return call(connection)
            except (ConnectionLostError, DaemonError):
                if is_new or self._clock() - started > RETRY_SECONDS:
                    raise
                connection.disconnect()
                connection.connect()
                return call(connection)
        finally:
            self._give_back(connection)

    def open(self) -> None:
        """Open one connection, so that the next call need not wait for that. May block for ever.

        :raises ConnectError: when libvirt refuses or cannot be reached
        """
        self.run(lambda _: None)

    def forbid_connecting(self) -> None:
        """Lend and open no connection any more. This does not wait for anything."""
        with self._lock:
            self._is_closed = True
            for connection in (*self._idle, *self._lent):
                connection.forbid_connecting()

    def close(self) -> None:
        """Release the connections for good. A connection in a call is released when the call returns."""
        self.forbid_connecting()
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            self._retire(connection)

    def _borrow(self) -> H:
        with self._lock:
            if self._is_closed:
                raise ConnectionLostError("closed")
            if len(self._lent) >= self._maximum:
                raise NoAnswerError(f"{len(self._lent)} calls to libvirt are already waiting for an answer")
            connection = self._idle.pop() if self._idle else self._make()
            self._lent.append(connection)
            return connection

    def _give_back(self, connection: H) -> None:
        with self._lock:
            self._lent.remove(connection)
            is_kept = not self._is_closed and len(self._idle) < _MAX_IDLE
            if is_kept:
                self._idle.append(connection)
        if not is_kept:
            self._retire(connection)

    def _retire(self, connection: H) -> None:
        with self._lock:
            self._past_calls += connection.calls
        connection.close()

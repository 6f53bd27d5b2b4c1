"""Connections for calls that may not be answered: each such call has one to itself.

libvirt answers some calls only when a guest, another daemon or a file system answers. A refresh never makes
such a call on its own connection. It borrows one here; a call that is not answered keeps what it borrowed,
and the next call gets another. So no call waits behind another one, and the number of them is bounded.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Generic, Literal, Protocol, TypeVar

from exporter.attempt import Attempt
from exporter.errors import ConnectionLostError, DaemonError, NoAnswerError
from exporter.model import DomainInfo, DomainRecord, ImageSize, StoragePool

# libvirtd serves 20 calls of all its clients at once. Of these one hypervisor's exporter takes half at most:
# 5 that wait for guests, 2 for the host and the list of domains, 2 for storage and 1 for node devices.
MAX_CONNECTIONS = 7
MAX_STORAGE_CONNECTIONS = 2
_MAX_IDLE = 2  # no storage connection is closed while another one waits: see daemons.py


class LentHypervisor(Protocol):
    """What is done with any connection that is lent."""

    calls: int

    @property
    def hung_openings(self) -> int: ...  # noqa: D102

    def connect(self) -> bool: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102


class WaitingHypervisor(LentHypervisor, Protocol):
    """Every call that may wait for a guest, or for one of libvirtd's workers.

    `exporter.virt.hypervisor.LibvirtHypervisor` says how each is meant. The connection that refreshes use has
    none of them (`exporter.virt.driver.NodeHypervisor`): so the type checker keeps a refresh from waiting.
    """

    def get_capabilities_xml(self) -> str: ...  # noqa: D102
    def expand_cpu_features(self, cpu_xml: str) -> str: ...  # noqa: D102
    def get_online_cpus(self) -> frozenset[int]: ...  # noqa: D102
    def list_domains(self) -> tuple[DomainRecord, ...]: ...  # noqa: D102
    def get_domain_xml(self, uuid: str) -> str: ...  # noqa: D102
    def get_domain_info(self, uuid: str) -> DomainInfo: ...  # noqa: D102
    def is_guest_busy(self, uuid: str) -> bool: ...  # noqa: D102
    def get_block_size(self, uuid: str, target: str) -> ImageSize: ...  # noqa: D102


class StorageHypervisor(LentHypervisor, Protocol):
    """Every call that may wait for a storage pool, or for virtstoraged.

    They have connections of their own, so that they take none from guests when they hang.
    """

    def get_volume_size(self, path: str) -> ImageSize: ...  # noqa: D102
    def list_active_pools(self) -> tuple[StoragePool, ...]: ...  # noqa: D102
    def list_active_pools_of(self, kind: Literal["logical", "rbd"]) -> tuple[StoragePool, ...]: ...  # noqa: D102


class BorrowedHypervisor(WaitingHypervisor, StorageHypervisor, Protocol):
    """Any connection that may be lent."""


T = TypeVar("T")
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
        """How many connections are being opened, among them those that nobody may ever answer."""
        with self._lock:
            return sum(each.hung_openings for each in (*self._idle, *self._lent))

    def start(self, call: Callable[[H], T], *, name: str) -> Attempt[T]:
        """Begin a call in a thread of its own.

        :param name: the thread's
        """
        return Attempt(partial(self.run, call), name=name, clock=self._clock)

    def run(self, call: Callable[[H], T]) -> T:
        """Make a call in this thread, connecting first if need be.

        When an old connection turns out to be lost, or another daemon's behind it, the call is made once more
        on a new one.

        :raises NoAnswerError: when as many calls as may be are waiting for an answer
        :raises ConnectionLostError: when it was closed
        :raises HypervisorError: when it cannot connect; and what the call raises
        """
        connection = self._borrow()
        try:
            is_new = connection.connect()
            try:
                return call(connection)
            except (ConnectionLostError, DaemonError):
                if is_new:
                    raise
                connection.close()
                connection.connect()
                return call(connection)
        finally:
            self._give_back(connection)

    def open(self) -> None:
        """Have one connection open, so that the next call has not to wait for that. May block for ever.

        :raises ConnectError: when libvirt refuses or cannot be reached
        """
        self.run(lambda _: None)

    def close(self) -> None:
        """Let go of the connections; one that is in a call follows when that call returns."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            self._retire(connection)

    def _borrow(self) -> H:
        with self._lock:
            if self._is_closed:
                raise ConnectionLostError("closed")
            if len(self._lent) >= self._maximum:
                raise NoAnswerError(f"{len(self._lent)} calls to libvirt are waiting for an answer already")
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

"""The service's life, in Nova's order: init_host, pre_start_hook (the first audit), listen, serve, stop."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Sequence

from exporter.server import Server, bind
from exporter.tracker import ResourceTracker

log = logging.getLogger(__name__)


class Service:
    """Runs one tracker behind one server until it is told to stop.

    :param listen_addresses: `host:port`, `[v6]:port` or `:port`
    :param first_audit_timeout: seconds that the first audit may delay the opening of the port
    """

    def __init__(
        self,
        tracker: ResourceTracker,
        server: Server,
        *,
        listen_addresses: Sequence[str],
        first_audit_timeout: float,
        clock: Callable[[], float],
    ) -> None:
        self._tracker = tracker
        self._server = server
        self._listen_addresses = listen_addresses
        self._first_audit_timeout = first_audit_timeout
        self._clock = clock

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        :raises OSError: when an address cannot be listened on
        """
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        sockets = self.init_host()
        await self.pre_start_hook()
        await self._server.listen(sockets)
        log.info("listening", extra={"addresses": ",".join(_name(bound) for bound in sockets)})
        await stop.wait()
        log.info("stopping")
        await self._server.close()
        self._tracker.close()

    def init_host(self) -> list[socket.socket]:
        """Take the addresses, so that one that is taken already is told at once; nobody is let in yet."""
        return [bind(address) for address in self._listen_addresses]

    async def pre_start_hook(self) -> None:
        """Make the first audit; hypervisors that do not answer in time are left to later scrapes."""
        deadline = self._clock() + self._first_audit_timeout
        await self._tracker.update_available_resource(deadline=deadline)


def _name(bound: socket.socket) -> str:
    host, port, *_ = bound.getsockname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

"""The service's life, in Nova's order: init_host, pre_start_hook (the first audit), listen, serve, stop."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Sequence

from exporter.attempt import Failure, attempt_in_thread
from exporter.compute.tracker import ResourceTracker
from exporter.config.settings import Config
from exporter.errors import ConfigError
from exporter.own import OwnMetrics
from exporter.web.probe import ProbeTargets
from exporter.web.server import Server, bind

log = logging.getLogger(__name__)

TEND_INTERVAL_SECONDS = 1.0


class Service:
    """Runs a tracker behind a server until it is told to stop.

    :param clock: the tracker's monotonic clock
    :param wall_clock: seconds since the epoch
    """

    def __init__(
        self,
        tracker: ResourceTracker,
        probe_targets: ProbeTargets,
        server: Server,
        own: OwnMetrics,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._tracker = tracker
        self._probe_targets = probe_targets
        self._server = server
        self._own = own
        self._clock = clock
        self._wall_clock = wall_clock
        self._stop = asyncio.Event()

    async def run(self, *, listen_addresses: Sequence[str], first_audit_timeout: float) -> None:
        """Serve until SIGTERM or SIGINT.

        :param listen_addresses: `host:port`, `[v6]:port` or `:port`
        :param first_audit_timeout: seconds that the first audit may delay the opening of the port
        :raises OSError: when an address cannot be listened on
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)
        sockets = self.init_host(listen_addresses)
        serving = asyncio.get_running_loop().create_task(self._serve(sockets, first_audit_timeout))
        stopping = asyncio.get_running_loop().create_task(self._stop.wait())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        log.info("stopping")
        serving.cancel()
        await self._server.close()
        self._tracker.close()
        self._probe_targets.close()

    def init_host(self, listen_addresses: Sequence[str]) -> list[socket.socket]:
        """Take the addresses, so that one that is taken already is told at once; nobody is let in yet."""
        return [bind(address) for address in listen_addresses]

    async def pre_start_hook(self, timeout: float) -> None:
        """Make the first audit; hypervisors that do not answer in time are left to later scrapes."""
        await self._tracker.update_available_resource(deadline=self._clock() + timeout)
        self._own.note_loaded(now=self._wall_clock())

    async def _serve(self, sockets: list[socket.socket], first_audit_timeout: float) -> None:
        await self.pre_start_hook(first_audit_timeout)
        await self._server.listen(sockets)
        log.info("listening", extra={"addresses": ",".join(_name(bound) for bound in sockets)})
        while True:
            await asyncio.sleep(TEND_INTERVAL_SECONDS)
            self._tracker.tend()
            self._probe_targets.tend()


class Reloader:
    """Swaps the configuration for a newly read one, or keeps the old one if that has a mistake.

    :param load: reads the configuration; raises ConfigError
    :param apply: puts one in force
    """

    def __init__(
        self,
        load: Callable[[], Config],
        apply: Callable[[Config], None],
        own: OwnMetrics,
        *,
        wall_clock: Callable[[], float],
    ) -> None:
        self._load = load
        self._apply = apply
        self._own = own
        self._wall_clock = wall_clock
        self._reload: asyncio.Task[list[str]] | None = None

    def start(self) -> None:
        """Reload without anybody waiting for it: what SIGHUP does."""
        self._reload = asyncio.get_running_loop().create_task(self.reload())

    async def reload(self) -> list[str]:
        """Read the configuration anew and put it in force; return its mistakes, if it has any."""
        outcome = await attempt_in_thread(self._load, name="reload")
        if isinstance(outcome, Failure):
            error = outcome.error
            mistakes = error.mistakes if isinstance(error, ConfigError) else [f"unexpected: {error!r}"]
            self._own.note_refused()
            for mistake in mistakes:
                log.error("configuration refused, the old one stays in force", extra={"mistake": mistake})
            return mistakes
        self._apply(outcome.value)
        self._own.note_loaded(now=self._wall_clock())
        log.info("configuration reloaded")
        return []


def _name(bound: socket.socket) -> str:
    host, port, *_ = bound.getsockname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

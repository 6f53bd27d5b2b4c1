"""The life of the service, in Nova's order: bind, pre_start_hook (the first audit), listen, serve, stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from exporter.attempt import Failure, attempt_in_thread
from exporter.compute.tracker import ResourceTracker
from exporter.own import OwnMetrics
from exporter.systemd import Notifier
from exporter.web.access import Access
from exporter.web.probe import ProbeTargets
from exporter.web.server import Server
from exporter.web.sockets import describe

log = logging.getLogger(__name__)

MAINTENANCE_INTERVAL_SECONDS = 1.0
FIRST_AUDIT_SECONDS = 2.0

T = TypeVar("T")


async def end_by_signals(work: Coroutine[Any, Any, T]) -> T:
    """Do the work. Before a signal ends the process, cancel the work, so that it leaves nothing behind.

    A signal that whoever started the process has it ignore (`nohup`) stays ignored.
    """
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)
    received: list[signal.Signals] = []

    def end(number: signal.Signals) -> None:
        received.append(number)
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, end, number)
    await asyncio.wait({task})
    for number in received[:1]:
        # As without a handler, so that a shell sees what ended the process, and a script ends with it.
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    return task.result()


class Service:
    """Runs a tracker behind a server until a signal to stop.

    :param access: the access control
    :param notifier: reports to the service manager
    :param clock: the tracker's monotonic clock
    :param wall_clock: seconds since the epoch
    """

    def __init__(
        self,
        tracker: ResourceTracker,
        probe_targets: ProbeTargets,
        server: Server,
        access: Access,
        own: OwnMetrics,
        *,
        notifier: Notifier,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._tracker = tracker
        self._probe_targets = probe_targets
        self._server = server
        self._access = access
        self._own = own
        self._notifier = notifier
        self._clock = clock
        self._wall_clock = wall_clock
        self._stop = asyncio.Event()
        self._audit: asyncio.Future[None] | None = None

    async def run(
        self, *, open_sockets: Callable[[], list[socket.socket]], first_audit_timeout: float
    ) -> None:
        """Serve until SIGTERM or SIGINT.

        :param open_sockets: returns the bound sockets to listen on
        :param first_audit_timeout: seconds that each hypervisor has to answer the first audit
        :raises OSError: when an address cannot be listened on
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)
        serving = asyncio.get_running_loop().create_task(self._serve(open_sockets, first_audit_timeout))
        stopping = asyncio.get_running_loop().create_task(self._stop.wait())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            self._let_go()
            serving.result()  # raises the error that ended the server
        log.info("stopping")
        self._notifier.stopping()
        serving.cancel()
        await self._server.close(end_waits=self._let_go)
        self._let_go()

    def _let_go(self) -> None:
        """Close the hypervisors' connections. Requests that wait for a refresh continue at once."""
        self._tracker.close()
        self._probe_targets.close()

    async def pre_start_hook(self, timeout: float) -> None:
        """Make the first audit, and read what scrapes do not wait for, so that the first scrape is complete.

        This takes FIRST_AUDIT_SECONDS at most. After that it continues in the background: a scrape that comes
        meanwhile shares its refreshes.

        :param timeout: seconds that a hypervisor has to answer, as in a scrape
        """
        deadline = self._clock() + timeout
        self._audit = asyncio.ensure_future(self._audit_first(deadline))
        await asyncio.wait({self._audit}, timeout=FIRST_AUDIT_SECONDS)
        self._own.record_load(now=self._wall_clock())

    async def _audit_first(self, deadline: float) -> None:
        await self._tracker.update_available_resource(deadline=deadline)
        await self._tracker.finish_maintenance(timeout=max(0.0, deadline - self._clock()))
        await self._tracker.update_available_resource(deadline=deadline)

    async def _serve(
        self, open_sockets: Callable[[], list[socket.socket]], first_audit_timeout: float
    ) -> None:
        # Bind first, so that an address in use is reported at once. No client can connect yet. In a thread: a
        # name server, or the file system of a path, may not answer.
        opened = await attempt_in_thread(open_sockets, name="listen")
        if isinstance(opened, Failure):
            raise opened.error
        sockets = opened.value
        await self.pre_start_hook(first_audit_timeout)
        self._server.listen(sockets)
        log.info("listening", extra={"addresses": ",".join(map(describe, sockets))})
        self._notifier.ready()
        while True:
            self._notifier.alive()
            await asyncio.sleep(MAINTENANCE_INTERVAL_SECONDS)
            self._access.maintain()
            self._tracker.maintain()
            self._probe_targets.maintain()

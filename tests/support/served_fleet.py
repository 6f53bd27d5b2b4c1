"""A fleet of simulated hypervisors behind the exporter's real tracker, routes and server, over real HTTP.

Only what libvirt would answer is made up, so a fleet may be of any size, in any state, and have any names.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

from exporter.collectors import COLLECTORS
from exporter.compute.backoff import Backoff
from exporter.compute.host_state import HostState
from exporter.compute.tracker import ResourceTracker
from exporter.config.settings import Config, HypervisorConfig
from exporter.errors import HypervisorError
from exporter.model import Resources
from exporter.own import OwnMetrics
from exporter.reload import Reloader
from exporter.web.access import Access, AccessSettings
from exporter.web.connection import ServerLimits
from exporter.web.probe import ProbeTargets
from exporter.web.routes import Web
from exporter.web.server import Server
from exporter.web.sockets import bind
from tests.support.hosts import Driver, make_places


class ServedFleet:
    """The running exporter.

    :ivar url: where it is
    :ivar drivers: by target
    """

    def __init__(self, drivers: Mapping[str, Driver], settings: Mapping[str, Any]) -> None:
        self.drivers = drivers
        self._shift = 0.0
        hypervisors = tuple(HypervisorConfig(uri="test:///default", name=target) for target in drivers)
        self._config = Config(hypervisors=hypervisors, **settings)
        self._listening = bind("127.0.0.1:0")
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self.url = f"http://{self.address}/"
        self._started = threading.Event()
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def start(self) -> None:
        """Serve; returns once requests are answered."""
        self._thread.start()
        assert self._started.wait(timeout=30)

    def close(self) -> None:
        """Stop serving, if that has not been done."""
        if not self._thread.is_alive():
            return
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=30)

    def pass_time(self, seconds: float) -> None:
        """Let so much time go by on the exporter's clock."""
        self._shift += seconds

    def get(
        self, path: str = "", *, headers: Mapping[str, str] | None = None
    ) -> tuple[bytes, Mapping[str, str]]:
        """Return a response's body and headers, the names of these in lower case."""
        request = urllib.request.Request(self.url + path, headers=dict(headers or {}))
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.read(), {name.lower(): value for name, value in response.headers.items()}

    def _clock(self) -> float:
        return time.monotonic() + self._shift

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        own = OwnMetrics()
        places = make_places()

        def make_host(hypervisor: HypervisorConfig, config: Config) -> HostState:
            return HostState(
                target=hypervisor.target,
                driver=self.drivers[hypervisor.target],
                config=config,
                places=places,
                backoff=Backoff(first=0, maximum=0),
                observe_duration=own.observe_refresh,
                clock=self._clock,
                wall_clock=time.time,
            )

        tracker = ResourceTracker(self._config, make_host)
        web = Web(
            self._config,
            tracker=tracker,
            probe_targets=ProbeTargets(self._config, make_host, clock=self._clock),
            collectors=COLLECTORS,
            own=own,
            reload=Reloader(lambda: self._config, lambda _: None, own, wall_clock=time.time).reload,
            access=Access(None, AccessSettings(), clock=self._clock),
            clock=self._clock,
        )
        server = Server(web.handle, limits=ServerLimits(shutdown_timeout=0.5))
        server.listen([self._listening])
        self._started.set()
        await self._stop.wait()
        await server.close(end_waits=tracker.close)
        tracker.close()


@contextlib.contextmanager
def serve_fleet(answers: Mapping[str, Resources | HypervisorError], **settings: Any) -> Iterator[ServedFleet]:
    """Serve these hypervisors, each by what it answers, until the block ends.

    :param settings: of exporter.config.settings.Config
    """
    drivers = {target: Driver() for target in answers}
    for target, answer in answers.items():
        if isinstance(answer, Resources):
            drivers[target].resources = answer
        else:
            drivers[target].error = answer
    fleet = ServedFleet(drivers, settings)
    fleet.start()
    try:
        yield fleet
    finally:
        fleet.close()

"""A HostState on a driver that answers what a test says, at times that a test says."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from exporter.compute.backoff import Backoff
from exporter.compute.host_state import HostState
from exporter.config.settings import Config, HypervisorConfig
from exporter.model import DriverStats, Resources
from tests.support.holding import Hold
from tests.support.records import make_resources


@dataclass
class Clock:
    """A clock that stands until it is moved."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


class Driver:
    """Answers with `resources`, or raises `error`; while it is held, it answers nothing.

    :ivar reads: how often it was asked
    :ivar settings: what it was reconfigured to
    :ivar due: what is due between scrapes, by its name
    """

    def __init__(self, resources: Resources | None = None) -> None:
        self.resources = resources or make_resources()
        self.error: Exception | None = None
        self.reads = 0
        self.is_lost = False
        self.due: Mapping[str, Callable[[], None]] = {}
        self.settings: HypervisorConfig | None = None
        self.is_closed = threading.Event()
        self._hold: Hold | None = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Answer nothing before the block ends; with it every read ends that was held up."""
        self._hold = hold = Hold()
        try:
            yield
        finally:
            self._hold = None
            hold.let_go()
            hold.join()

    def get_available_resource(self) -> Resources:
        hold = self._hold
        if hold is not None:
            hold.enter()
        self.reads += 1
        if hold is not None:
            hold.wait()
        if self.error is not None:
            raise self.error
        return self.resources

    def get_stats(self) -> DriverStats:
        return DriverStats(libvirt_calls=0, guests_read=0, events=0, connects=0)

    def has_lost_connection(self) -> bool:
        return self.is_lost

    def configure(self, *, resync_interval: float, stale_grace: float) -> None:
        pass

    def reconfigure(self, config: HypervisorConfig) -> None:
        self.settings = config

    def close(self) -> None:
        self.is_closed.set()

    def list_due(self) -> Mapping[str, Callable[[], None]]:
        return self.due


@dataclass
class Host:
    """A HostState, and what it stands on."""

    driver: Driver = field(default_factory=Driver)
    clock: Clock = field(default_factory=Clock)
    config: Config = field(default_factory=Config)
    target: str = "kvm01"
    retry_after: float = 0.0
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(8))

    def __post_init__(self) -> None:
        self.state = HostState(
            target=self.target,
            driver=self.driver,
            config=self.config,
            slots=self.slots,
            backoff=Backoff(first=self.retry_after, maximum=self.retry_after, draw=lambda: 1.0),
            observe_duration=lambda _seconds: None,
            clock=self.clock,
            wall_clock=lambda: 1.75e9,
        )

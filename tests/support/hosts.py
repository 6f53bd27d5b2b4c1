"""A HostState with a driver whose answers and times a test controls."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from exporter.compute.backoff import Backoff
from exporter.compute.host_state import HostState
from exporter.compute.places import RefreshPlaces
from exporter.compute.source import Job, Settings, Source
from exporter.config.settings import Config, HypervisorConfig
from exporter.model import DriverStats, HostView, Resources
from tests.support.holding import Hold
from tests.support.records import make_resources

WALL_CLOCK_SECONDS = 1.75e9


@dataclass
class Clock:
    """A clock that moves only when a test moves it."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


def make_settings(*, resync_interval: float = 60, stale_grace: float = 120, **options: Any) -> Settings:
    """Return what sources go by, with these options of the hypervisor's configuration."""
    config = HypervisorConfig(**{"uri": "qemu:///system", **options})
    return Settings(hypervisor=config, resync_interval=resync_interval, stale_grace=stale_grace)


def make_places(*, refreshes: int = 8, openings: int = 8) -> RefreshPlaces:
    """Return so many places, of which openings never make room."""
    return RefreshPlaces(
        make_room=lambda _count, _seconds: None, max_files=1024, refreshes=refreshes, openings=openings
    )


class DueSource(Source):
    """A source with one job, which is always due."""

    def __init__(self, name: str, run: Callable[[], None], *, follows_refreshes: bool = False) -> None:
        self.name = name
        self.follows_refreshes = follows_refreshes
        self._run = run

    def list_jobs(self) -> Sequence[Job]:
        return [Job(key="all", run=self._run)]


class Driver:
    """Answers with `resources`, or raises `error`. While it is held, it does not answer.

    :ivar reads: how often it was asked; each time it makes 7 calls and reads 3 guests
    :ivar on_read: called by each read
    :ivar hung: how many of its calls do not return
    :ivar has_to_connect: whether its next read opens a connection
    :ivar settings: what it was reconfigured to
    :ivar times: what it was last told of how long things take and last
    :ivar due: what is due between scrapes, by its name
    :ivar following: what of that follows each refresh
    """

    def __init__(self, resources: Resources | None = None) -> None:
        self.resources = resources or make_resources()
        self.error: Exception | None = None
        self.reads = 0
        self.on_read: Callable[[], None] = lambda: None
        self.hung = 0
        self.is_lost = False
        self.has_to_connect = False
        self.due: Mapping[str, Callable[[], None]] = {}
        self.following: Collection[str] = ()
        self.settings: HypervisorConfig | None = None
        self.times: dict[str, float] = {}
        self.is_closed = threading.Event()
        self._hold: Hold | None = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Do not answer until the block ends. Then all blocked reads end."""
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
        self.on_read()
        if hold is not None:
            hold.wait()
        if self.error is not None:
            raise self.error
        return self.resources

    async def wait_until_asked(self, times: int) -> None:
        """Wait until it was asked so often: the read is then under way."""
        while self.reads < times:
            await asyncio.sleep(0.001)

    def get_stats(self) -> DriverStats:
        return DriverStats(
            libvirt_calls=7 * self.reads, guests_read=3 * self.reads, events=0, connects=0, hung=self.hung
        )

    def has_lost_connection(self) -> bool:
        return self.is_lost

    def configure(self, *, resync_interval: float, stale_grace: float) -> None:
        self.times = {"resync_interval": resync_interval, "stale_grace": stale_grace}

    def reconfigure(self, config: HypervisorConfig) -> None:
        self.settings = config

    def stop_commands(self) -> None:
        """It runs none."""

    def close(self) -> None:
        self.is_closed.set()

    @property
    def sources(self) -> Sequence[Source]:
        return [
            DueSource(name, job, follows_refreshes=name in self.following) for name, job in self.due.items()
        ]


@dataclass
class Host:
    """A HostState, and what it stands on.

    :ivar retry_after: how many seconds after a failed connection it is tried again, each time
    :ivar backoff: if that is another one
    :ivar durations: how long each refresh took
    """

    driver: Driver = field(default_factory=Driver)
    clock: Clock = field(default_factory=Clock)
    config: Config = field(default_factory=Config)
    target: str = "kvm01"
    retry_after: float = 0.0
    backoff: Backoff | None = None
    settings: HypervisorConfig = field(
        default_factory=lambda: HypervisorConfig(uri="qemu:///system", name="kvm01")
    )
    labels: tuple[tuple[str, str], ...] = ()
    durations: list[float] = field(default_factory=list)
    places: RefreshPlaces = field(default_factory=make_places)
    needs: frozenset[str] | None = None

    def __post_init__(self) -> None:
        self.state = HostState(
            target=self.target,
            labels=self.labels,
            driver=self.driver,
            config=self.config,
            places=self.places,
            backoff=self.backoff
            or Backoff(first=self.retry_after, maximum=self.retry_after, draw=lambda: 1.0),
            observe_duration=self.durations.append,
            clock=self.clock,
            wall_clock=lambda: WALL_CLOCK_SECONDS,
            needs=self.needs,
        )

    async def ask(self, *, refresh: bool = False, seconds: float = 20) -> HostView:
        """Ask as a scrape does that can wait so many seconds, and return what it is shown."""
        await self.state.get_host_stats(refresh=refresh, deadline=self.clock() + seconds)
        return self.state.get_view()

    def maintain(self) -> None:
        """Have it do what is due between scrapes."""
        self.state.maintain()

    async def waits_for(self, event: threading.Event) -> bool:
        """Whether this happens in the next tenth of a second, or has."""
        return await asyncio.to_thread(event.wait, 0.1)

    async def settle(self) -> HostView:
        """Wait until nothing is being read of it any more, and return what is known then."""
        while self.state.get_view().is_refreshing:
            await asyncio.sleep(0.001)
        return self.state.get_view()

"""The table of states at the head of exporter/compute/host_state.py, row by row; and some ways through it."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from itertools import takewhile

import pytest

from exporter.compute import host_state
from exporter.compute.backoff import Backoff
from exporter.compute.host_state import LATE_MARGIN_SECONDS
from exporter.config.settings import Config
from exporter.errors import ConnectError, HypervisorError
from exporter.model import Problem, Severity
from tests.support.hosts import Host
from tests.support.records import make_resources

CONFIG = Config(cache_ttl=10, scrape_timeout=10, stale_grace=120)
RETRY_AFTER = 15

Bring = Callable[[Host], AbstractAsyncContextManager[None]]


# How a host comes into each state.


@asynccontextmanager
async def new(host: Host) -> AsyncIterator[None]:
    yield


@asynccontextmanager
async def up(host: Host) -> AsyncIterator[None]:
    await host.ask()
    yield


@asynccontextmanager
async def up_for_longer_than_the_cache(host: Host) -> AsyncIterator[None]:
    await host.ask()
    host.clock.now += CONFIG.cache_ttl
    yield


@asynccontextmanager
async def incomplete(host: Host) -> AsyncIterator[None]:
    host.driver.resources = make_resources(memory_mb=None)
    await host.ask()
    yield


@asynccontextmanager
async def failed(host: Host) -> AsyncIterator[None]:
    await host.ask()
    host.driver.error = HypervisorError("no")
    await host.ask(refresh=True)
    yield


@asynccontextmanager
async def unreachable(host: Host) -> AsyncIterator[None]:
    await host.ask()
    host.driver.error = ConnectError("nobody listens")
    await host.ask(refresh=True)
    yield


@asynccontextmanager
async def unreachable_until_its_wait_is_over(host: Host) -> AsyncIterator[None]:
    async with unreachable(host):
        host.clock.now += RETRY_AFTER
        yield


@asynccontextmanager
async def unreachable_for_longer_than_the_grace(host: Host) -> AsyncIterator[None]:
    async with unreachable(host):
        host.clock.now += CONFIG.stale_grace + 0.1
        yield


@asynccontextmanager
async def lost(host: Host) -> AsyncIterator[None]:
    await host.ask()
    host.driver.is_lost = True
    yield


@asynccontextmanager
async def being_read(host: Host) -> AsyncIterator[None]:
    await host.ask()
    with host.driver.held():
        host.driver.is_lost = True
        host.maintain()
        await host.driver.wait_until_asked(2)
        yield


@asynccontextmanager
async def late(host: Host) -> AsyncIterator[None]:
    await host.ask()
    host.clock.now += CONFIG.cache_ttl
    with host.driver.held():
        await host.ask(seconds=0)
        await host.driver.wait_until_asked(2)
        host.clock.now += CONFIG.scrape_timeout
        yield


@asynccontextmanager
async def reconfigured(host: Host) -> AsyncIterator[None]:
    await host.ask()
    host.state.reconfigure(host.settings, CONFIG)
    yield


@asynccontextmanager
async def closed(host: Host) -> AsyncIterator[None]:
    await host.ask()
    host.state.close()
    yield


# What the table says of each.

BRING: dict[str, Bring] = {
    "new": new,
    "up": up,
    "up, for longer than cache_ttl": up_for_longer_than_the_cache,
    "incomplete": incomplete,
    "failed": failed,
    "unreachable": unreachable,
    "unreachable, its wait is over": unreachable_until_its_wait_is_over,
    "unreachable, for longer than the grace": unreachable_for_longer_than_the_grace,
    "lost": lost,
    "being read": being_read,
    "late": late,
    "reconfigured": reconfigured,
    "closed": closed,
}


@dataclass(frozen=True)
class Row:
    """A state: what is shown in it, what a scrape does that finds it, and what maintenance does."""

    state: str
    up: str
    numbers: str
    scrape: str
    maintenance: str

    def bring(self, host: Host) -> AbstractAsyncContextManager[None]:
        return BRING[self.state](host)


def read_table() -> list[Row]:
    """Return the rows of the table that stands at the module's head."""
    lines = iter((host_state.__doc__ or "").splitlines())
    next(line for line in lines if line.split() == ["state", "up", "numbers", "a", "scrape", "maintenance"])
    return [Row(*re.split(r"  +", line.strip())) for line in takewhile(str.strip, lines)]


TABLE = read_table()
each_row = pytest.mark.parametrize("row", TABLE, ids=lambda row: row.state)


def test_every_state_has_a_row() -> None:
    assert [row.state for row in TABLE] == list(BRING)


def make_host() -> Host:
    return Host(config=CONFIG, retry_after=RETRY_AFTER)


@each_row
async def test_what_is_shown(row: Row) -> None:
    host = make_host()
    async with row.bring(host):
        view = host.state.get_view()
        assert (view.is_up, view.snapshot is not None) == (row.up == "yes", row.numbers != "no")


@each_row
async def test_what_a_scrape_does(row: Row) -> None:
    host = make_host()
    async with row.bring(host):
        before = host.driver.reads
        started = time.monotonic()
        view = await host.ask(seconds=0.3 if row.scrape == "waits" else 20)
        assert host.driver.reads - before == (row.scrape == "reads it")
        if row.scrape == "waits":
            assert time.monotonic() - started >= 0.3
            assert view.is_up, "that it could not wait longer says nothing of the hypervisor"


@each_row
async def test_what_maintenance_does(row: Row) -> None:
    host, done = make_host(), threading.Event()
    async with row.bring(host):
        host.driver.due = {"image sizes": done.set}
        before = host.driver.reads
        host.maintain()
        if not row.maintenance.endswith("later"):
            await host.settle()
        assert host.driver.reads - before == (row.maintenance == "reads it")
        assert await host.waits_for(done) == (row.maintenance == "reads what is due")
    await host.settle()
    assert await host.waits_for(done) == row.maintenance.startswith("reads what is due")


# How one follows another.


async def test_one_that_cannot_be_reached_is_tried_again_after_waits_that_double_and_then_left_alone() -> (
    None
):
    """Maintenance runs each second, and nobody scrapes. The 30th second brings the host back."""
    host = Host(config=CONFIG, backoff=Backoff(first=0.5, maximum=15, draw=lambda: 1.0))
    host.driver.error = ConnectError("nobody listens")
    await host.ask()
    tried_at = []
    for second in range(1, 121):
        host.clock.now += 1
        if second == 30:
            host.driver.error = None
        before = host.driver.reads
        host.maintain()
        await host.settle()
        tried_at += [second] * (host.driver.reads - before)
    assert tried_at == [1, 2, 4, 8, 16, 31]
    assert host.state.get_view().is_up


async def test_the_first_wait_after_a_good_read_is_short_again() -> None:
    host = Host(config=CONFIG, backoff=Backoff(first=1, maximum=15, draw=lambda: 1.0))
    for error in (
        ConnectError("nobody listens"),
        ConnectError("nobody listens"),
        None,
        ConnectError("again"),
    ):
        host.driver.error = error
        host.clock.now += 15
        await host.ask(refresh=True)
    host.clock.now += 1
    host.maintain()
    await host.settle()
    assert host.driver.reads == 5


async def test_an_error_of_a_hypervisor_that_can_be_reached_is_not_waited_out() -> None:
    """Only connections that fail are: whoever answers is asked by each scrape."""
    host = make_host()
    host.driver.error = HypervisorError("no")
    for _ in range(3):
        await host.ask()
    assert host.driver.reads == 3


async def test_a_failed_read_is_no_answer_to_serve_again() -> None:
    """Not even while the last good one would still be young enough."""
    host = make_host()
    await host.ask()
    host.driver.error = HypervisorError("no")
    await host.ask(refresh=True)
    host.driver.error = None
    assert (await host.ask()).is_up


async def test_a_read_that_hangs_is_waited_for_once_and_shown_when_it_ends() -> None:
    host = make_host()
    async with late(host):
        for _ in range(3):
            assert not (await asyncio.wait_for(host.ask(seconds=600), 5)).is_up
        assert host.state.get_view().hung_calls == 1
    view = await host.settle()
    assert (view.is_up, view.hung_calls, view.errors["timeout"], host.driver.reads) == (True, 0, 1, 2)


async def test_no_client_makes_a_hypervisor_late_by_its_own_deadline(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It gets the last numbers. Nobody else sees, counts or logs that it could not wait."""
    host = make_host()
    await host.ask()
    host.clock.now += CONFIG.cache_ttl
    with host.driver.held():
        for _ in range(5):
            view = await host.ask(seconds=0.001)
            assert (view.is_up, view.snapshot is not None, view.is_refreshing) == (True, True, True)
        host.clock.now += CONFIG.scrape_timeout - LATE_MARGIN_SECONDS - 0.001
        view = await host.ask(seconds=0.001)
        assert (view.is_up, view.hung_calls, view.errors["timeout"], view.problems) == (True, 0, 0, ())
        assert not caplog.records
        host.clock.now += 0.001
        view = await host.ask(seconds=0.001)
        assert (view.is_up, view.hung_calls, view.errors["timeout"]) == (False, 1, 1)
    assert (await host.settle()).errors["timeout"] == 1


async def test_a_client_in_a_hurry_is_told_honestly_that_nothing_is_known_yet() -> None:
    host = make_host()
    with host.driver.held():
        view = await host.ask(seconds=0.001)
        assert (view.is_up, view.snapshot, view.is_refreshing, view.problems) == (False, None, True, ())
    assert (await host.settle()).is_up


async def test_a_hypervisor_that_hangs_is_late_by_time_though_no_scrape_waits_so_long(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Shows it for a Prometheus with a short timeout: maintenance notices it, once."""
    host = make_host()
    await host.ask()
    host.clock.now += CONFIG.cache_ttl
    with host.driver.held():
        assert (await host.ask(seconds=0.01)).is_up
        for _ in range(12):
            host.clock.now += 1
            host.maintain()
        assert [record.reason for record in caplog.records] == ["timeout"]  # type: ignore[attr-defined]
        view = await host.ask(seconds=0.01)
        assert (view.is_up, view.snapshot is not None, view.errors["timeout"]) == (False, True, 1)


async def test_the_scrape_that_began_a_refresh_which_hangs_shows_that() -> None:
    """By its own deadline, though the refresh began a little later. The next one does not wait."""
    config = replace(CONFIG, scrape_timeout=0.4, cache_ttl=0)
    host = Host(config=config, retry_after=RETRY_AFTER, clock=time.monotonic)  # type: ignore[arg-type]
    await host.ask()
    with host.driver.held():
        assert not (await host.ask(seconds=config.scrape_timeout - 0.02)).is_up
        started = time.monotonic()
        assert not (await host.ask(seconds=20)).is_up
        assert time.monotonic() - started < 10


async def test_calls_that_hang_in_the_driver_are_counted_with_the_read_that_does() -> None:
    """Two guests are frozen, say; the host is up all the same."""
    host = make_host()
    host.driver.hung = 2
    view = await host.ask()
    assert (view.is_up, view.hung_calls) == (True, 2)
    async with late(host):
        assert host.state.get_view().hung_calls == 3


async def test_what_went_wrong_several_times_in_one_read_is_counted_once() -> None:
    host = make_host()
    host.driver.resources = make_resources(
        problems=tuple(
            Problem(severity=Severity.ERROR, reason="guest_xml", subject=guest, message="odd")
            for guest in ("a", "b", "c")
        )
    )
    assert (await host.ask()).errors["guest_xml"] == 1
    assert (await host.ask(refresh=True)).errors["guest_xml"] == 2


async def test_a_reload_tells_the_driver_how_long_things_last() -> None:
    host = make_host()
    host.state.configure(Config(resync_interval=77, stale_grace=88))
    assert host.driver.times == {"resync_interval": 77, "stale_grace": 88}
    host.state.reconfigure(host.settings, Config(resync_interval=7, stale_grace=8))
    assert host.driver.times == {"resync_interval": 7, "stale_grace": 8}
    assert host.driver.settings == host.settings

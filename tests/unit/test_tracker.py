"""All hypervisors: the audit over them, duplicate host names, and what a changed configuration leaves."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import pytest

from exporter.compute.host_state import HostState
from exporter.compute.tracker import ResourceTracker
from exporter.config.settings import Config, HypervisorConfig
from exporter.errors import ConnectError
from exporter.model import HostView
from tests.support.hosts import Clock, Driver, Host
from tests.support.records import make_resources

TIMEOUT_SECONDS = 20


@dataclass
class Fleet:
    """A tracker over hypervisors with these host names, by their targets."""

    hostnames: Mapping[str, str]
    clock: Clock = field(default_factory=Clock)
    drivers: dict[str, Driver] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tracker = ResourceTracker(self.configuration(*self.hostnames), self._make_host)

    def configuration(self, *targets: str) -> Config:
        """Return the configuration of these targets, without a cache."""
        hypervisors = tuple(
            HypervisorConfig(uri=f"qemu+tcp://{target}/system", name=target) for target in targets
        )
        return Config(hypervisors=hypervisors, cache_ttl=0, stale_grace=120)

    async def audit(self, *, timeout: float = TIMEOUT_SECONDS) -> dict[str, HostView]:
        """Return every target's view after an audit."""
        views = await self.tracker.update_available_resource(deadline=self.clock() + timeout)
        return {view.target: view for view in views}

    def _make_host(self, hypervisor: HypervisorConfig, config: Config) -> HostState:
        target = hypervisor.target
        driver = Driver(make_resources(hypervisor_hostname=self.hostnames[target]))
        self.drivers[target] = driver
        return Host(driver=driver, clock=self.clock, config=config, target=target).state


def shown(views: Mapping[str, HostView]) -> dict[str, str]:
    """Return the host names that are shown, by target."""
    return {
        target: view.snapshot.resources.hypervisor_hostname
        for target, view in views.items()
        if view.snapshot is not None
    }


async def test_an_audit_brings_every_hypervisor_up_to_date() -> None:
    views = await Fleet({"a": "kvm01", "b": "kvm02"}).audit()
    assert shown(views) == {"a": "kvm01", "b": "kvm02"}
    assert all(view.is_up for view in views.values())


async def test_one_that_does_not_answer_costs_the_others_nothing() -> None:
    """The audit ends by its deadline with the numbers of all who answered."""
    fleet = Fleet({"slow": "kvm01", "well": "kvm02"})
    await fleet.audit()
    with fleet.drivers["slow"].held():
        await fleet.audit(timeout=2)
        fleet.clock.now += Config().scrape_timeout
        views = await fleet.audit(timeout=2)
    assert {target: view.is_up for target, view in views.items()} == {"slow": False, "well": True}


async def test_of_two_with_one_host_name_only_the_first_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    """Two series of one name would make Prometheus refuse the whole scrape."""
    fleet = Fleet({"first": "kvm01", "second": "kvm01"})
    await fleet.audit()
    views = await fleet.audit()
    assert shown(views) == {"first": "kvm01"}
    assert {target: view.is_up for target, view in views.items()} == {"first": True, "second": False}
    assert views["first"].errors["duplicate"] == 0
    assert views["second"].errors["duplicate"] == 2
    errors = [(record.levelno, record.getMessage()) for record in caplog.records]
    assert errors == [
        (
            logging.ERROR,
            "host name kvm01 belongs to target first, which had it first; this target is not shown",
        ),
    ]


async def test_the_second_takes_over_once_the_first_is_shown_no_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And keeps the name when the first one is back."""
    caplog.set_level(logging.INFO)
    first, second = {"first": "kvm01"}, {"second": "kvm01"}
    fleet = Fleet({"first": "kvm01", "second": "kvm01"})
    seen = [shown(await fleet.audit())]
    fleet.drivers["first"].error = ConnectError("nobody listens")
    seen.append(shown(await fleet.audit()))  # by its last numbers
    fleet.clock.now += 121
    seen.append(shown(await fleet.audit()))
    fleet.drivers["first"].error = None
    seen.append(shown(await fleet.audit()))
    assert seen == [first, first, second, second]


@pytest.mark.parametrize("targets", [("kvm01", "kvm02"), ("kvm02", "kvm01")])
async def test_a_host_name_is_that_of_the_target_configured_by_it(targets: tuple[str, str]) -> None:
    """Whoever answers with another's name does not hide it, in whatever order, after a start or an outage."""
    right, wrong = {"kvm02": "KVM02.example"}, {"kvm01": "KVM02.example"}
    fleet = Fleet(dict.fromkeys(targets, "KVM02.example"))
    seen = [shown(await fleet.audit())]
    fleet.drivers["kvm02"].error = ConnectError("nobody listens")
    fleet.clock.now += 121
    seen.append(shown(await fleet.audit()))
    fleet.drivers["kvm02"].error = None
    views = await fleet.audit()
    seen.append(shown(views))
    (problem,) = views["kvm01"].problems
    assert "belongs to target kvm02, which is configured by that name" in problem.message
    assert seen == [right, wrong, right]


async def test_the_host_in_the_uri_is_such_a_name_too() -> None:
    fleet = Fleet({"a": "kvm02", "b": "kvm02"})
    first, second = fleet.configuration("a", "b").hypervisors
    second = replace(second, uri="qemu+tls://kvm02.example/system")
    fleet.tracker.configure(Config(hypervisors=(first, second)))
    assert shown(await fleet.audit()) == {"b": "kvm02"}


async def test_a_hypervisor_that_is_taken_out_leaves_nothing_and_the_others_are_kept() -> None:
    fleet = Fleet({"a": "kvm01", "b": "kvm02", "c": "kvm03"})
    await fleet.audit()
    fleet.tracker.configure(fleet.configuration("c", "b"))
    views = await fleet.audit()
    assert await asyncio.to_thread(fleet.drivers["a"].is_closed.wait, TIMEOUT_SECONDS)
    assert list(shown(views).items()) == [("c", "kvm03"), ("b", "kvm02")]
    assert {target: driver.reads for target, driver in fleet.drivers.items()} == {"a": 1, "b": 2, "c": 2}


async def test_a_hypervisor_whose_settings_change_keeps_its_connections_and_begins_anew() -> None:
    """Shows that what hangs at libvirt stays one driver's, which bounds it, however often that happens."""
    fleet = Fleet({"a": "kvm01", "b": "kvm02"})
    await fleet.audit()
    before = dict(fleet.drivers)
    config = fleet.configuration("a", "b")
    changed = replace(config.hypervisors[0], name="renamed", cpu_allocation_ratio=9.0)
    for _ in range(3):
        fleet.tracker.configure(replace(config, hypervisors=(changed, config.hypervisors[1])))
        assert fleet.drivers["a"].settings == changed
        shown_now = {view.target: view.snapshot is not None for view in fleet.tracker.get_views()}
        assert shown_now == {"renamed": False, "b": True}
        assert shown(await fleet.audit()) == {"renamed": "kvm01", "b": "kvm02"}
        fleet.tracker.configure(config)
        assert shown(await fleet.audit()) == {"a": "kvm01", "b": "kvm02"}
    assert fleet.drivers == before
    assert fleet.drivers["b"].settings is None
    assert not any(driver.is_closed.is_set() for driver in fleet.drivers.values())


async def test_of_two_hypervisors_with_one_uri_each_is_kept_or_closed() -> None:
    """Shows that none is left open when there are fewer of them, and none shared when there are more."""
    fleet = Fleet({"a": "kvm01", "b": "kvm01", "c": "kvm01"})
    one, two, three = (
        replace(each, uri="qemu:///system") for each in fleet.configuration("a", "b", "c").hypervisors
    )
    fleet.tracker.configure(Config(hypervisors=(one, two)))
    first = fleet.tracker.hosts
    changed = replace(one, cpu_allocation_ratio=9.0)
    fleet.tracker.configure(Config(hypervisors=(changed, three, two)))
    second = fleet.tracker.hosts
    assert (second[0], second[2]) == first
    assert second[1] not in first
    fleet.tracker.configure(Config(hypervisors=(replace(three, cpu_allocation_ratio=9.0),)))
    (last,) = fleet.tracker.hosts
    assert last in second
    await asyncio.sleep(0.1)
    assert sum(fleet.drivers[name].is_closed.is_set() for name in ("a", "b", "c")) == 2


async def test_the_page_asks_nobody_and_shows_a_host_name_once_too() -> None:
    """Before the first audit it shows nothing; in its midst, when both have answered, one."""
    fleet = Fleet({"first": "kvm01", "second": "kvm01"})
    assert [(view.is_up, view.snapshot) for view in fleet.tracker.get_views()] == [(False, None)] * 2
    for host in fleet.tracker.hosts:
        await host.get_host_stats(refresh=True, deadline=fleet.clock() + TIMEOUT_SECONDS)
    views = {view.target: view for view in fleet.tracker.get_views()}
    assert shown(views) == {"first": "kvm01"}
    assert {target: view.is_up for target, view in views.items()} == {"first": True, "second": False}
    assert {driver.reads for driver in fleet.drivers.values()} == {1}


async def test_one_alone_can_be_asked_for() -> None:
    """The others are not read for it; that one of them has the same name is still known."""
    fleet = Fleet({"first": "kvm01", "second": "kvm01"})
    await fleet.audit()
    views = await fleet.tracker.update_available_resource(
        deadline=fleet.clock() + TIMEOUT_SECONDS, target="second"
    )
    assert [(view.target, view.is_up, view.snapshot) for view in views] == [("second", False, None)]
    assert fleet.drivers["first"].reads == 1


async def test_maintenance_and_closing_reach_every_hypervisor() -> None:
    fleet = Fleet({"a": "kvm01", "b": "kvm02"})
    await fleet.audit()
    done = {target: threading.Event() for target in fleet.drivers}
    for target, driver in fleet.drivers.items():
        driver.due = {"image sizes": done[target].set}
    fleet.tracker.maintain()
    for event in done.values():
        assert await asyncio.to_thread(event.wait, TIMEOUT_SECONDS)
    fleet.tracker.close()
    for driver in fleet.drivers.values():
        assert await asyncio.to_thread(driver.is_closed.wait, TIMEOUT_SECONDS)


async def test_what_is_due_is_waited_for_as_long_as_is_said_and_of_all_at_once() -> None:
    fleet = Fleet({"slow": "kvm01", "well": "kvm02"})
    await fleet.audit()
    thawed, done = threading.Event(), threading.Event()
    fleet.drivers["slow"].due = {"image sizes": lambda: thawed.wait(TIMEOUT_SECONDS)}
    fleet.drivers["well"].due = {"image sizes": done.set}
    await asyncio.wait_for(fleet.tracker.finish_maintenance(timeout=0.2), 10)
    assert done.is_set()
    thawed.set()
    await fleet.tracker.finish_maintenance(timeout=TIMEOUT_SECONDS)


async def test_all_are_read_anew_where_that_is_wanted() -> None:
    fleet = Fleet({"a": "kvm01", "b": "kvm02"})
    fleet.tracker.configure(replace(fleet.configuration("a", "b"), cache_ttl=60))
    for wanted, reads in (({}, 1), ({"refresh": False}, 1), ({"refresh": True}, 2), ({}, 2)):
        deadline = fleet.clock() + TIMEOUT_SECONDS
        await fleet.tracker.update_available_resource(deadline=deadline, **wanted)
        assert {driver.reads for driver in fleet.drivers.values()} == {reads}


async def test_a_reload_reaches_every_hypervisor() -> None:
    fleet = Fleet({"a": "kvm01", "b": "kvm02"})
    fleet.tracker.configure(replace(fleet.configuration("a", "b"), resync_interval=7, stale_grace=8))
    for driver in fleet.drivers.values():
        assert driver.times == {"resync_interval": 7, "stale_grace": 8}


async def test_each_of_several_host_names_is_shown_once() -> None:
    fleet = Fleet({"a": "kvm01", "b": "kvm02", "c": "kvm01", "d": "kvm02"})
    assert shown(await fleet.audit()) == {"a": "kvm01", "b": "kvm02"}


async def audit_during(fleet: Fleet, reload: Callable[[], None], *held: str) -> dict[str, HostView]:
    """Return the views of an audit in which a reload comes while these targets are being read."""
    before = {target: driver.reads for target, driver in fleet.drivers.items()}
    with contextlib.ExitStack() as stack:
        for target in held:
            stack.enter_context(fleet.drivers[target].held())
        audit = asyncio.create_task(fleet.audit())
        for target in held:
            await fleet.drivers[target].wait_until_asked(before[target] + 1)
        reload()
        await asyncio.sleep(0.05)
    return await asyncio.wait_for(audit, TIMEOUT_SECONDS)


async def test_an_audit_shows_what_a_reload_brings_meanwhile_and_no_more_what_it_takes_out() -> None:
    """The others, which are still being read when it comes, are shown as ever."""
    fleet = Fleet({"gone": "kvm01", "stays": "kvm02", "new": "kvm03"})
    fleet.tracker.configure(fleet.configuration("gone", "stays"))
    await fleet.audit()
    reload = partial(fleet.tracker.configure, fleet.configuration("stays", "new"))
    views = await audit_during(fleet, reload, "gone", "stays")
    assert shown(views) == {"stays": "kvm02", "new": "kvm03"}
    assert all(view.is_up for view in views.values())
    assert all(view.errors["timeout"] == 0 for view in views.values())


async def test_an_audit_shows_a_hypervisor_whose_uri_or_settings_a_reload_changes_meanwhile() -> None:
    """Shows it for all at once: one audit in which no series vanishes."""
    fleet = Fleet({"moved": "kvm01", "changed": "kvm02", "slow": "kvm03"})
    await fleet.audit()
    moved, changed, slow = fleet.configuration("moved", "changed", "slow").hypervisors
    hypervisors = (
        replace(moved, uri="qemu+tcp://elsewhere/system"),
        replace(changed, cpu_allocation_ratio=9.0),
        slow,
    )
    reload = partial(fleet.tracker.configure, replace(fleet.configuration(), hypervisors=hypervisors))
    before = fleet.drivers["moved"]
    for held in (("slow",), ("moved", "changed"), ("changed",)):
        fleet.tracker.configure(fleet.configuration("moved", "changed", "slow"))
        views = await audit_during(fleet, reload, *held)
        assert shown(views) == {"moved": "kvm01", "changed": "kvm02", "slow": "kvm03"}
        assert all(view.is_up for view in views.values())
    assert before.is_closed.is_set()
    assert fleet.drivers["changed"].settings == hypervisors[1]


async def test_one_alone_that_a_reload_takes_out_meanwhile_is_shown_a_last_time() -> None:
    fleet = Fleet({"a": "kvm01", "b": "kvm02"})
    await fleet.audit()
    with fleet.drivers["a"].held():
        audit = asyncio.create_task(
            fleet.tracker.update_available_resource(deadline=fleet.clock() + TIMEOUT_SECONDS, target="a")
        )
        await fleet.drivers["a"].wait_until_asked(2)
        fleet.tracker.configure(fleet.configuration("b"))
        views = {view.target: view for view in await asyncio.wait_for(audit, TIMEOUT_SECONDS)}
    assert shown(views) == {"a": "kvm01"}
    assert (views["a"].is_up, views["a"].errors["timeout"]) == (True, 0)


async def test_a_hypervisor_that_was_taken_out_is_read_no_more() -> None:
    """Shows it for a scrape that had not begun to, and for maintenance."""
    fleet = Fleet({"a": "kvm01"})
    await fleet.audit()
    (host,) = fleet.tracker.hosts
    fleet.tracker.configure(Config(hypervisors=()))
    await host.get_host_stats(refresh=True, deadline=fleet.clock() + TIMEOUT_SECONDS)
    host.maintain()
    await host.finish_maintenance()
    assert fleet.drivers["a"].reads == 1
    assert not host.get_view().is_refreshing


def test_an_audit_that_ends_with_the_process_leaves_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async def end_during_an_audit() -> None:
        fleet = Fleet({"a": "kvm01"})
        with fleet.drivers["a"].held():
            asyncio.create_task(fleet.audit())  # noqa: RUF006
            await fleet.drivers["a"].wait_until_asked(1)

    asyncio.run(end_during_an_audit())
    gc.collect()
    assert not caplog.records

"""One hypervisor's state: its brief cache, its one refresh, its deadline, and what it says in the log."""

from __future__ import annotations

import asyncio
import logging
import threading
import time

import pytest

from exporter.compute.host_state import FAILED_WAIT_SECONDS, FOLLOW_SECONDS
from exporter.compute.maintenance import MAX_RETRY_SECONDS
from exporter.compute.resource_view import verify_resources
from exporter.config.settings import Config, HypervisorConfig
from exporter.errors import ConnectError, ConnectionLostError, DeniedError, HypervisorError, UnsupportedError
from exporter.model import HostView, Ignored, Problem, RefreshCost, Severity
from tests.support.hosts import WALL_CLOCK_SECONDS, Driver, Host, make_places
from tests.support.records import make_resources

# How long a test waits for an answer that is sure to come.
TIMEOUT_SECONDS = 20


def messages(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    """Return what was logged at exactly this level."""
    return [record.getMessage() for record in caplog.records if record.levelno == level]


async def test_a_snapshot_that_is_young_enough_is_served_again() -> None:
    host = Host(config=Config(cache_ttl=5))
    await host.ask()
    host.clock.now += 4.9
    assert (await host.ask()).cache_hits == 1
    assert (await host.ask()).cache_hits == 2
    assert host.driver.reads == 1
    host.clock.now += 0.1
    assert (await host.ask()).cache_hits == 2
    assert host.driver.reads == 2


async def test_a_snapshot_from_before_something_was_read_is_not_served_again() -> None:
    """Shows that an image's size, once read between scrapes, shows in the next one."""
    host = Host(config=Config(cache_ttl=3600))
    await host.ask()
    host.driver.due = {"image sizes": lambda: None}
    await host.state.finish_maintenance()
    await host.ask()
    assert host.driver.reads == 2
    await host.ask()
    assert host.driver.reads == 2


async def test_what_was_read_during_a_refresh_is_in_the_next_scrape() -> None:
    """Shows it for a job that began before the refresh: the refresh has not seen what it read."""
    host, may_end = Host(config=Config(cache_ttl=3600)), threading.Event()
    await host.ask()
    host.driver.due = {"image sizes": lambda: may_end.wait(TIMEOUT_SECONDS)}
    host.maintain()
    with host.driver.held():
        scrape = asyncio.create_task(host.ask(refresh=True))
        await host.driver.wait_until_asked(2)
        host.driver.due = {}
        may_end.set()
        await host.state.finish_maintenance()
    await scrape
    await host.ask()
    assert host.driver.reads == 3


def deny() -> None:
    raise DeniedError("polkit")


async def test_a_job_that_fails_is_logged_when_it_begins_and_ends_and_counted_by_each_refresh(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Shows that it is an error of the hypervisor, which is up all the same, and that the cache stays."""
    caplog.set_level(logging.INFO)
    host = Host(config=Config(cache_ttl=5))
    await host.ask()
    host.driver.due = {"networks": deny}
    await host.state.finish_maintenance()
    assert (await host.ask()).cache_hits == 1
    for count in (1, 2):
        view = await host.ask(refresh=True)
        assert (view.is_up, view.errors["denied"]) == (True, count)
        assert [(each.reason, each.subject) for each in view.problems] == [("denied", "networks")]
    assert messages(caplog, logging.ERROR) == ["networks cannot be read: polkit"]
    host.driver.due = {"networks": lambda: None}
    host.clock.now += MAX_RETRY_SECONDS
    await host.state.finish_maintenance()
    assert (await host.ask()).problems == ()
    assert "no longer a problem" in messages(caplog, logging.INFO)


async def test_what_a_source_reports_itself_is_not_reported_twice() -> None:
    own = Problem(severity=Severity.NOTE, reason="denied", subject="networks", message="by itself")
    host = Host(config=Config(cache_ttl=0), driver=Driver(make_resources(problems=(own,))))
    await host.ask()
    host.driver.due = {"networks": deny}
    await host.state.finish_maintenance()
    view = await host.ask()
    assert (view.problems, view.errors["denied"]) == ((own,), 0)


@pytest.mark.parametrize("error", [ConnectError("no answer"), HypervisorError("no")])
async def test_a_hypervisor_that_failed_is_waited_for_a_second_until_it_answers(error: Exception) -> None:
    """Shows that one that hangs does not make each scrape of all as long as a scrape may take."""
    host = Host(config=Config(cache_ttl=0, scrape_timeout=15))
    host.driver.error = error
    await host.ask()
    started = time.monotonic()
    with host.driver.held():
        assert not (await host.ask()).is_up
        waited = time.monotonic() - started
        forced = asyncio.create_task(host.ask(refresh=True))
        await asyncio.sleep(FAILED_WAIT_SECONDS + 0.2)
        assert not forced.done(), "who asks for a refresh waits for it"
        host.driver.error = None
    assert FAILED_WAIT_SECONDS - 0.1 < waited < 15
    assert (await forced).is_up
    assert (await host.ask()).is_up


async def test_a_lost_connection_is_replaced_between_scrapes() -> None:
    host = Host(config=Config(cache_ttl=0))
    await host.ask()
    host.driver.error = ConnectionLostError("keep-alive")
    await host.ask()
    host.driver.error = None
    host.maintain()
    assert (await host.settle()).is_up


async def test_a_duplicate_is_counted_once_for_each_refresh() -> None:
    """Shows that clients who scrape often raise no counter of errors."""
    host = Host()
    for refreshes in (1, 2):
        await host.ask(refresh=True)
        for _ in range(3):
            host.state.note_duplicate("first")
        assert host.state.get_view().errors["duplicate"] == refreshes


async def test_whoever_asks_for_a_refresh_gets_one() -> None:
    host = Host()
    await host.ask()
    await host.ask(refresh=True)
    assert host.driver.reads == 2


async def test_without_a_cache_every_scrape_reads() -> None:
    host = Host(config=Config(cache_ttl=0))
    await host.ask()
    await host.ask()
    assert host.driver.reads == 2


async def test_a_cache_does_not_outlive_its_connection() -> None:
    host = Host()
    await host.ask()
    host.driver.is_lost = True
    await host.ask()
    assert host.driver.reads == 2


async def test_many_scrapes_at_once_share_one_refresh() -> None:
    host = Host()
    with host.driver.held():
        scrapes = [asyncio.ensure_future(host.ask()) for _ in range(50)]
        await asyncio.sleep(0)
    views = await asyncio.gather(*scrapes)
    assert host.driver.reads == 1
    assert {view.is_up for view in views} == {True}


async def test_a_scrape_whose_time_is_up_gets_the_last_numbers_and_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The refresh goes on by itself; what it brings is there for the next one."""
    host = Host(config=Config(cache_ttl=0))
    first = await host.ask()
    with host.driver.held():
        assert (await host.ask(seconds=0)).is_up
        host.clock.now += host.config.scrape_timeout
        for _ in range(3):
            late = await host.ask()
            assert not late.is_up
            assert late.is_refreshing
            assert late.snapshot == first.snapshot
    recovered = await host.settle()
    assert recovered.is_up
    assert recovered.errors["timeout"] == 1
    assert host.driver.reads == 2
    assert len(messages(caplog, logging.ERROR)) == 1


async def test_a_hypervisor_that_failed_is_shown_by_its_last_numbers_and_then_no_more() -> None:
    host = Host(config=Config(cache_ttl=0, stale_grace=120))
    before = await host.ask()
    host.driver.error = ConnectError("nobody listens")
    host.clock.now += 120
    within = await host.ask()
    assert not within.is_up
    assert within.snapshot == before.snapshot
    host.clock.now += 0.1
    assert (await host.ask()).snapshot is None


async def test_a_failed_connection_is_tried_again_when_its_wait_is_over() -> None:
    host = Host(retry_after=15)
    host.driver.error = ConnectError("nobody listens")
    await host.ask()
    host.clock.now += 14.9
    await host.ask()
    assert host.driver.reads == 1
    host.clock.now += 0.1
    await host.ask()
    assert host.driver.reads == 2


async def test_whoever_forces_a_refresh_waits_for_no_backoff() -> None:
    host = Host(retry_after=15)
    host.driver.error = ConnectError("nobody listens")
    await host.ask()
    await host.ask()
    await host.ask(refresh=True)
    assert host.driver.reads == 2


async def test_each_refresh_is_one_line_at_debug_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    host = Host(config=Config(cache_ttl=0))
    await host.ask()
    host.driver.error = ConnectError("nobody listens")
    await host.ask()
    lines = [vars(record) for record in caplog.records if record.getMessage() == "refreshed"]
    assert [(each["target"], each["libvirt_calls"], each["guests_read"]) for each in lines] == [
        ("kvm01", 7, 3),
        ("kvm01", 7, 3),
    ]
    assert [each["problems"] for each in lines] == ["none", "connect"]
    assert all(each["seconds"] >= 0 for each in lines)


async def test_what_goes_wrong_is_said_once_and_counted_each_time(caplog: pytest.LogCaptureFixture) -> None:
    """And its end is said, too."""
    caplog.set_level(logging.INFO)
    host = Host(config=Config(cache_ttl=0))
    host.driver.error = ConnectError("nobody listens")
    for _ in range(3):
        view = await host.ask()
    assert view.errors["connect"] == 3
    host.driver.error = None
    await host.ask()
    assert messages(caplog, logging.ERROR) == ["nobody listens"]
    assert messages(caplog, logging.INFO)[0] == "no longer a problem"


async def test_the_end_of_a_problem_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    host = Host(config=Config(cache_ttl=0))
    host.driver.error = ConnectError("refused")
    await host.ask()
    host.driver.error = None
    for _ in range(3):
        await host.ask()
    assert messages(caplog, logging.INFO).count("no longer a problem") == 1


async def test_a_problem_that_returns_is_logged_again(caplog: pytest.LogCaptureFixture) -> None:
    host = Host(config=Config(cache_ttl=0))
    for error in (ConnectError("refused"), None, ConnectError("refused")):
        host.driver.error = error
        await host.ask()
    assert messages(caplog, logging.ERROR) == ["refused", "refused"]


async def test_a_failed_refresh_ends_no_problem(caplog: pytest.LogCaptureFixture) -> None:
    """Shows it for a guest's problem and for a lost connection, when the host then cannot be reached."""

    def read_log() -> list[tuple[str, str]]:
        records = [record for record in caplog.records if hasattr(record, "reason")]
        caplog.clear()
        return [(record.levelname, record.reason) for record in records]

    caplog.set_level(logging.INFO)
    host = Host(config=Config(cache_ttl=0))
    guest = Problem(severity=Severity.ERROR, reason="guest_xml", subject="a", message="odd")
    host.driver.resources = make_resources(problems=(guest,))
    await host.ask()
    assert read_log() == [("ERROR", "guest_xml")]
    for error in (ConnectionLostError("gone"), ConnectError("refused"), ConnectError("refused")):
        host.driver.error = error
        await host.ask()
        host.state.note_duplicate(None)
    assert read_log() == [("ERROR", "connection_lost"), ("ERROR", "connect")]
    host.driver.error = None
    await host.ask()
    assert read_log() == [("INFO", "connection_lost"), ("INFO", "connect")]
    host.driver.resources = make_resources()
    await host.ask()
    assert read_log() == [("INFO", "guest_xml")]


async def test_what_only_concerns_a_part_leaves_the_rest_up(caplog: pytest.LogCaptureFixture) -> None:
    """A note is not even counted: it is a property of the host, or has a metric of its own."""
    problems = tuple(
        Problem(severity=severity, reason=reason, subject="", message=reason)
        for severity, reason in ((Severity.NOTE, "unsupported"), (Severity.ERROR, "guest_xml"))
    )
    host = Host()
    host.driver.resources = make_resources(problems=problems)
    view = await host.ask()
    assert view.is_up
    assert (view.errors["unsupported"], view.errors["guest_xml"]) == (0, 1)
    assert messages(caplog, logging.WARNING) == ["unsupported"]
    assert messages(caplog, logging.ERROR) == ["guest_xml"]


NOVA_REQUIRES = (
    "vcpus",
    "memory_mb",
    "local_gb",
    "cpu_info",
    "vcpus_used",
    "memory_mb_used",
    "local_gb_used",
)


@pytest.mark.parametrize("field", NOVA_REQUIRES)
def test_a_field_that_nova_requires_and_is_missing_is_named(field: str) -> None:
    assert verify_resources(make_resources(**{field: None})) == (field,)


def test_zeros_are_not_missing() -> None:
    assert verify_resources(make_resources(**dict.fromkeys(NOVA_REQUIRES, 0))) == ()


def test_fields_that_nova_can_do_without_may_be_missing() -> None:
    optional = dict.fromkeys(("disk_available_least", "numa_topology", "host_ip", "uuid"))
    assert verify_resources(make_resources(**optional)) == ()


@pytest.mark.parametrize("missing", [("vcpus",), ("memory_mb", "memory_mb_used"), ("local_gb",)])
async def test_an_incomplete_hypervisor_is_not_up_and_its_missing_fields_are_named(
    missing: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """Nova's _verify_resources. What could be told is shown all the same."""
    host = Host()
    host.driver.resources = make_resources(**dict.fromkeys(missing))
    view = await host.ask()
    assert not view.is_up
    assert view.errors["incomplete"] == 1
    assert view.snapshot is not None
    assert messages(caplog, logging.ERROR) == [f"missing fields of Nova's dictionary: {', '.join(missing)}"]


async def test_what_no_metric_needs_takes_no_hypervisor_down() -> None:
    """The page shows it, and says that it is missing. Nobody is woken for it."""
    host = Host(needs=frozenset({"guests"}))
    host.driver.resources = make_resources(local_gb=None, local_gb_used=None, cpu_info=None)
    assert (await host.ask()).is_up
    host.driver.resources = make_resources(vcpus_used=None)
    assert not (await host.ask(refresh=True)).is_up


async def test_a_defect_of_this_program_is_told_with_its_traceback_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    host = Host(config=Config(cache_ttl=0))
    host.driver.error = ZeroDivisionError("division by zero")
    await host.ask()
    view = await host.ask()
    assert not view.is_up
    assert view.errors["internal"] == 2
    assert [record.exc_info is not None for record in caplog.records] == [True, False]
    assert caplog.records[1].getMessage() == "unexpected ZeroDivisionError: division by zero"


async def test_a_call_that_libvirt_does_not_support_is_counted_as_such() -> None:
    host = Host()
    host.driver.error = UnsupportedError("virConnectGetCapabilities")
    assert (await host.ask()).errors["unsupported"] == 1


async def test_the_first_host_name_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    """A new one is an error in the log and no new series."""
    host = Host(config=Config(cache_ttl=0))
    host.driver.resources = make_resources(hypervisor_hostname="kvm01")
    await host.ask()
    host.driver.resources = make_resources(hypervisor_hostname="localhost")
    view = await host.ask()
    assert view.snapshot is not None
    assert view.snapshot.resources.hypervisor_hostname == "kvm01"
    assert view.errors["hostname"] == 1
    assert messages(caplog, logging.ERROR) == [
        "host name changed from kvm01 to localhost: keeping kvm01 until this exporter is restarted"
    ]


async def test_the_resource_view_is_told_at_info_once_and_at_debug_after(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As Nova's _report_hypervisor_resource_view: free memory, disk and vCPUs, which may be negative."""
    caplog.set_level(logging.DEBUG)
    host = Host(config=Config(cache_ttl=0))
    host.driver.resources = make_resources(
        memory_mb=100, memory_mb_used=30, local_gb=50, local_gb_used=8, vcpus=4, vcpus_used=5
    )
    for _ in range(3):
        await host.ask()
    views = [record for record in caplog.records if record.getMessage() == "hypervisor resource view"]
    assert [view.levelno for view in views] == [logging.INFO, logging.DEBUG, logging.DEBUG]
    assert {getattr(view, "target") for view in views} == {"kvm01"}  # noqa: B009
    free = {key: getattr(views[0], key) for key in ("free_ram_mb", "free_disk_gb", "free_vcpus")}
    assert free == {"free_ram_mb": 70, "free_disk_gb": 42, "free_vcpus": -1}


async def test_what_is_free_of_what_could_not_be_told_is_unknown(caplog: pytest.LogCaptureFixture) -> None:
    """Without vCPUs, too, as Nova has it for a hypervisor that cannot tell them."""
    caplog.set_level(logging.INFO)
    host = Host()
    host.driver.resources = make_resources(vcpus=0, local_gb=None)
    await host.ask()
    (view,) = [each for each in caplog.records if each.getMessage() == "hypervisor resource view"]
    assert (getattr(view, "free_vcpus"), getattr(view, "free_disk_gb")) == ("unknown", "unknown")  # noqa: B009


async def test_closing_waits_for_nobody() -> None:
    host = Host()
    with host.driver.held():
        scrape = asyncio.ensure_future(host.ask())
        await asyncio.sleep(0)
        host.state.close()
        assert not (await scrape).is_up
    assert await asyncio.to_thread(host.driver.is_closed.wait, TIMEOUT_SECONDS)


async def test_what_was_being_read_by_old_settings_is_not_shown_by_new_ones() -> None:
    """Shows that a scrape which waits for it waits for the reading by the new ones."""
    host = Host(config=Config(cache_ttl=60))
    await host.ask()
    ignored = Ignored(option="[libvirt] virt_type", file="/nova.conf", line=1, message="x")
    settings = HypervisorConfig(
        uri="qemu:///system", name="renamed", labels=(("zone", "a"),), ignored=(ignored,)
    )
    with host.driver.held():
        scrape = asyncio.create_task(host.ask(refresh=True))
        while host.driver.reads < 2:
            await asyncio.sleep(0.01)
        host.state.reconfigure(settings, host.config)
        view = host.state.get_view()
        assert (view.target, view.snapshot, view.is_up) == ("renamed", None, False)
        assert view.ignored == (ignored,)
        assert host.driver.reads == 2, "one at a time"
    view = await scrape
    assert view.snapshot is not None
    assert (view.snapshot.target, view.snapshot.labels) == ("renamed", (("zone", "a"),))
    assert (view.is_up, host.driver.reads, host.driver.settings) == (True, 3, settings)
    assert (await host.ask()).cache_hits == 1


async def test_scrapes_back_to_back_do_not_keep_what_is_due_between_them_from_being_done() -> None:
    """Shows that it is begun between two refreshes, though none ever ends before it is asked for."""

    async def scrape_again(host: Host, *, after: asyncio.Task[HostView]) -> None:
        await after
        await host.ask()

    host, done = Host(config=Config(cache_ttl=0)), threading.Event()
    await host.ask()
    host.driver.due = {"image sizes": done.set}
    with host.driver.held():
        scrape = asyncio.create_task(host.ask())
        await asyncio.sleep(0)
        host.maintain()
        await asyncio.sleep(0.1)
        assert not done.is_set(), "nothing is asked beside a refresh that may hang"
    next_scrape = asyncio.create_task(scrape_again(host, after=scrape))
    assert await asyncio.to_thread(done.wait, TIMEOUT_SECONDS)
    await next_scrape


async def test_what_follows_a_refresh_begins_right_after_it_and_nothing_else_does() -> None:
    """Shows that its distance from the scrape does not depend on when the next second begins."""
    host, followed, other = Host(config=Config(cache_ttl=0)), threading.Event(), threading.Event()
    host.driver.due = {"statistics": followed.set, "image sizes": other.set}
    host.driver.following = {"statistics"}
    await host.ask()
    assert not followed.is_set(), "the scrape is written first"
    assert await asyncio.to_thread(followed.wait, TIMEOUT_SECONDS)
    assert not other.is_set()


async def test_nothing_follows_a_refresh_that_failed_or_whose_host_was_taken_out() -> None:
    failed, closed, done = Host(), Host(), threading.Event()
    failed.driver.error = HypervisorError("no")
    for host in (failed, closed):
        host.driver.due = {"statistics": done.set}
        host.driver.following = {"statistics"}
        await host.ask()
    closed.state.close()
    await asyncio.sleep(2 * FOLLOW_SECONDS)
    assert not done.is_set()


async def test_after_a_refresh_that_failed_nothing_is_read_between_scrapes() -> None:
    host, done = Host(config=Config(cache_ttl=0)), threading.Event()
    host.driver.due = {"image sizes": done.set}
    host.driver.error = HypervisorError("no")
    with host.driver.held():
        scrape = asyncio.create_task(host.ask())
        await asyncio.sleep(0)
        host.maintain()
    await scrape
    await asyncio.sleep(0.1)
    assert not done.is_set()


async def test_not_more_are_read_at_once_than_there_are_places_and_one_that_hangs_gives_its_place_back() -> (
    None
):
    """Shows that not each of a large fleet costs a thread, and that one that hangs does not delay another."""
    places = make_places(refreshes=2)
    hung, also_hung, well = (Host(places=places) for _ in range(3))
    with hung.driver.held(), also_hung.driver.held():
        scrapes = [asyncio.create_task(host.ask()) for host in (hung, also_hung, well)]
        while not (hung.driver.reads and also_hung.driver.reads):
            await asyncio.sleep(0.01)
        assert well.driver.reads == 0
        assert (await asyncio.wait_for(scrapes[2], TIMEOUT_SECONDS)).is_up
        assert not scrapes[0].done()
    assert (await scrapes[0]).is_up


async def test_a_view_says_what_its_last_refresh_cost() -> None:
    host = Host(config=Config(cache_ttl=0))
    assert host.state.get_view().refresh is None
    host.driver.on_read = lambda: host.clock.advance(2.5)
    for _ in range(2):
        view = await host.ask()
        assert view.refresh == RefreshCost(duration_seconds=2.5, libvirt_calls=7, guests_read=3)
    host.driver.error = HypervisorError("no")
    assert (await host.ask()).refresh == RefreshCost(duration_seconds=2.5, libvirt_calls=7, guests_read=3)
    assert host.durations == [2.5] * 3


async def test_a_view_says_how_old_its_numbers_are_and_since_when_all_was_well() -> None:
    host = Host(config=Config(cache_ttl=0, stale_grace=100))
    view = host.state.get_view()
    assert (view.age_seconds, view.seconds_since_success) == (None, None)
    await host.ask()
    host.driver.resources = make_resources(memory_mb=None)
    host.clock.advance(10)
    await host.ask()
    host.clock.advance(5)
    view = host.state.get_view()
    assert (view.age_seconds, view.seconds_since_success) == (5, 15)
    host.clock.advance(100)
    view = host.state.get_view()
    assert (view.age_seconds, view.seconds_since_success) == (None, 115)


async def test_a_snapshot_bears_its_targets_labels_and_the_time_on_the_wall() -> None:
    host = Host(target="kvm07", labels=(("zone", "a"),))
    view = await host.ask()
    assert view.snapshot is not None
    assert (view.target, view.snapshot.target, view.snapshot.labels) == ("kvm07", "kvm07", (("zone", "a"),))
    assert view.snapshot.timestamp_seconds == WALL_CLOCK_SECONDS


async def test_the_log_says_what_to_do_and_whom_it_concerns(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    host = Host(target="kvm07", config=Config(cache_ttl=0))
    host.driver.error = ConnectError("nobody listens", advice="Start libvirtd")
    await host.ask()
    host.driver.error = None
    await host.ask()
    begun, over = (record for record in caplog.records if hasattr(record, "reason"))
    assert begun.getMessage() == "nobody listens. Start libvirtd"
    assert (begun.target, begun.reason) == ("kvm07", "connect")  # type: ignore[attr-defined]
    assert (over.target, over.reason, over.was) == ("kvm07", "connect", "nobody listens")  # type: ignore[attr-defined]


async def test_problems_are_shown_with_their_reason_and_what_to_do() -> None:
    host = Host(config=Config(cache_ttl=0))
    host.driver.error = ConnectError("nobody listens", advice="Start libvirtd")
    (problem,) = (await host.ask()).problems
    assert (problem.severity, problem.reason, problem.subject) == (Severity.FATAL, "connect", "")
    assert (problem.message, problem.advice) == ("nobody listens", "Start libvirtd")
    host.driver.error = None
    assert (await host.ask()).problems == ()
    with host.driver.held():
        await host.ask(seconds=0)
        host.clock.now += host.config.scrape_timeout
        (problem,) = host.state.get_view().problems
        assert (problem.severity, problem.reason, problem.subject) == (Severity.FATAL, "timeout", "")


async def test_every_reason_has_a_counter_before_anything_goes_wrong() -> None:
    errors = Host().state.get_view().errors
    assert set(errors.values()) == {0}
    assert {"connect", "timeout", "guest_xml", "internal"} <= set(errors)


async def test_what_is_being_read_between_scrapes_is_given_up_when_it_is_closed() -> None:
    host, thawed = Host(), threading.Event()
    await host.ask()
    host.driver.due = {"image sizes": lambda: thawed.wait(TIMEOUT_SECONDS)}
    waiting = asyncio.create_task(host.state.finish_maintenance())
    await asyncio.sleep(0.05)
    host.state.close()
    await asyncio.wait_for(waiting, 5)
    thawed.set()


async def test_nothing_is_read_between_scrapes_of_one_that_never_answered() -> None:
    host, done = Host(), threading.Event()
    host.driver.due = {"image sizes": done.set}
    await host.state.finish_maintenance()
    assert not await host.waits_for(done)


async def test_after_other_settings_the_resource_view_is_told_at_info_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    host = Host(config=Config(cache_ttl=0))
    await host.ask()
    host.state.reconfigure(host.settings, host.config)
    await host.ask()
    views = [record for record in caplog.records if record.getMessage() == "hypervisor resource view"]
    assert [view.levelno for view in views] == [logging.INFO, logging.INFO]


async def test_a_problem_of_the_whole_host_has_no_subject() -> None:
    host = Host(config=Config(cache_ttl=0))
    await host.ask()
    host.driver.resources = make_resources(hypervisor_hostname="other", memory_mb=None)
    problems = (await host.ask()).problems
    assert [(problem.reason, problem.subject) for problem in problems] == [
        ("hostname", ""),
        ("incomplete", ""),
    ]

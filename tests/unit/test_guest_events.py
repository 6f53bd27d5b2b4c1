"""Events of guests, played as libvirt sends them: what is counted, and that each migration counts once."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from exporter.collectors import domains
from exporter.virt.guests.events import IO_ERROR_REASON, LIFECYCLE, WATCHDOG, GuestEvents
from tests.support.driver_bench import Bench
from tests.support.records import make_snapshot

ALL = (LIFECYCLE, WATCHDOG, IO_ERROR_REASON)
NOTHING = {"io_error": 0, "watchdog": 0, "panic": 0, "migrated_in": 0, "migrated_out": 0}

# Lifecycle events as (type, detail), recorded of libvirt 9.0 with QEMU, each at one of the two hypervisors.
STARTED = [(4, 0), (2, 0)]
ARRIVED = [(2, 1), (0, 0), (4, 1)]
ARRIVED_PAUSED = [(2, 1), (0, 0), (3, 0)]
LEFT = [(3, 1), (5, 3)]
CANCELLED_THERE = [(2, 1), (5, 5)]
# RESUMED_POSTCOPY when it goes on here, and RESUMED_MIGRATED when all its memory has come.
ARRIVED_BY_POSTCOPY = [(2, 1), (0, 0), (4, 3), (4, 1)]


def play(*lives: Iterable[tuple[int, int]], events: GuestEvents | None = None) -> dict[str, int]:
    """Return what is counted of guests of which each has these lifecycle events."""
    events = events or GuestEvents()
    events.note_watched(ALL)
    for number, life in enumerate(lives):
        for change in life:
            events.note(f"guest{number}", LIFECYCLE, change)
    return {name: count for name, count in events.get_counts().items() if count}


@pytest.mark.parametrize(
    ("life", "counted"),
    [
        (STARTED, {}),
        (ARRIVED, {"migrated_in": 1}),
        (ARRIVED_PAUSED, {"migrated_in": 1}),
        (ARRIVED_BY_POSTCOPY, {"migrated_in": 1}),
        (LEFT, {"migrated_out": 1}),
        (CANCELLED_THERE, {}),
        ([*STARTED, (3, 1), (4, 1)], {}),  # it goes on at the source after a migration that failed
        ([*ARRIVED, (3, 0), (4, 0)], {"migrated_in": 1}),  # paused and resumed by an admin later
        ([*CANCELLED_THERE, *STARTED, (3, 0)], {}),
        ([*ARRIVED, *LEFT, *ARRIVED], {"migrated_in": 2, "migrated_out": 1}),
        ([(8, 0), (5, 2)], {"panic": 1}),
        ([(8, 1)], {"panic": 1}),
        ([(5, 0)], {}),
        ([(5, 1)], {}),
    ],
    ids=[
        "started",
        "arrived",
        "arrived-paused",
        "arrived-by-postcopy",
        "left",
        "cancelled-there",
        "failed-at-the-source",
        "arrived-then-paused",
        "cancelled-then-started",
        "there-and-back",
        "panicked",
        "crash-kernel",
        "shut-down",
        "destroyed",
    ],
)
def test_a_life_is_counted(life: list[tuple[int, int]], counted: dict[str, int]) -> None:
    assert play(life) == counted


def test_guests_that_arrive_at_once_are_told_apart() -> None:
    """One is cancelled, one arrives, and one that an admin pauses did not migrate."""
    events = GuestEvents()
    events.note_watched(ALL)
    for uuid, change in [
        ("a", (2, 1)),
        ("b", (2, 1)),
        ("a", (5, 5)),
        ("c", (3, 0)),
        ("b", (4, 1)),
        ("a", (4, 1)),
    ]:
        events.note(uuid, LIFECYCLE, change)
    assert events.get_counts() == {**NOTHING, "migrated_in": 1}


def test_a_guest_whose_arrival_began_before_the_connection_was_lost_is_forgotten() -> None:
    """It may have been cancelled meanwhile, and started here since."""
    events = GuestEvents()
    play([(2, 1)], events=events)
    events.note_reconnected()
    assert play([(3, 0)], events=events) == {}


def test_errors_of_disks_and_watchdogs_are_counted_whatever_is_done_about_them() -> None:
    events = GuestEvents()
    events.note_watched(ALL)
    events.note("a", IO_ERROR_REASON, ("/images/a", "virtio-disk0", 1, "enospc"))
    events.note("a", IO_ERROR_REASON, ("/images/a", "virtio-disk0", 2, ""))
    events.note("b", WATCHDOG, (0,))
    assert events.get_counts() == {**NOTHING, "io_error": 2, "watchdog": 1}


def test_what_libvirt_does_not_tell_is_left_out() -> None:
    events = GuestEvents()
    events.note_watched({LIFECYCLE})
    assert set(events.get_counts()) == {"panic", "migrated_in", "migrated_out"}


def test_the_whole_way_from_an_event_to_its_series() -> None:
    """All are there from the start. Their numbers outlive the connection."""
    bench = Bench(needs={"guests"})

    def read() -> dict[str, float]:
        snapshot = make_snapshot(parts=bench.read().parts)
        return {
            sample.labels["event"]: sample.value
            for sample in domains.COLLECTOR.collect(snapshot)
            if sample.metric is domains.GUEST_EVENTS_TOTAL
        }

    assert read() == NOTHING
    bench.hypervisor.tell_event("uuid", WATCHDOG, (1,))
    assert read() == {**NOTHING, "watchdog": 1}
    bench.hypervisor.disconnect()
    assert read() == {**NOTHING, "watchdog": 1}
    assert bench.hypervisor.asked["watch"] == 2
    bench.hypervisor.tell_event("uuid", WATCHDOG, (1,))
    assert read() == {**NOTHING, "watchdog": 2}

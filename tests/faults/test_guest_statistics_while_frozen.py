"""Guests freeze, one after the other and many at once, and are killed: what the collector `guests` shows.

tests/faults/test_guest_statistics.py has what a single one costs libvirt.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tests.support.exporter_process import Scrape
from tests.support.frozen_guests import being_destroyed, frozen, is_job_held
from tests.support.libvirtd import LibvirtDaemon
from tests.support.waiting import wait_until
from tests.support.watching import Timed, check_whole, slow, watch
from tests.support.working_guests import (
    get_written,
    serve_guests,
    start_writers,
    wait_for_answers,
    watch_until,
)

_NAMES = ("writer0", "writer1", "writer2")
# So many calls about guests may wait for an answer at a time, where their processes are not seen.
_MAX_WAITING = 5


def test_each_guest_that_freezes_in_turn_costs_the_others_nothing(libvirtd: LibvirtDaemon) -> None:
    """All samples, no slow scrape, the others fresh. Its own stand still, it is told, and then it is well."""
    start_writers(libvirtd, *_NAMES)
    with serve_guests(libvirtd) as exporter:
        before = wait_for_answers(exporter, *_NAMES)
        for name in _NAMES:
            with frozen(libvirtd, name):
                fault = _Frozen([name], [each for each in _NAMES if each != name], time.time())
                taken = watch_until(exporter, libvirtd, fault.shows)
            fault.check(taken, before)
        wait_for_answers(exporter, *_NAMES)


def test_more_guests_freeze_at_once_than_calls_may_wait_and_the_others_are_read_on(
    libvirtd: LibvirtDaemon,
) -> None:
    """Shows that none costs libvirt a worker, and that nothing is suspended: they are seen to be stopped."""
    *stopped, well = (f"writer{number}" for number in range(_MAX_WAITING + 2))
    start_writers(libvirtd, *stopped, well)
    with serve_guests(libvirtd) as exporter:
        before = wait_for_answers(exporter, *stopped, well)
        with frozen(libvirtd, *stopped):
            fault = _Frozen(stopped, [well], time.time())
            taken = watch_until(exporter, libvirtd, fault.shows)
            assert not [name for name in stopped if is_job_held(libvirtd, name)]
        fault.check(taken, before)
        wait_for_answers(exporter, *stopped, well)


def test_a_frozen_guests_numbers_end_with_the_grace(libvirtd: LibvirtDaemon) -> None:
    """They are the last ones until `stale_grace` is over; the others go on. It comes back when it answers."""
    start_writers(libvirtd, "frozen", "well")
    with serve_guests(libvirtd, stale_grace="15s") as exporter:
        wait_for_answers(exporter, "frozen", "well")
        with frozen(libvirtd, "frozen"):
            last = exporter.scrape()
            wait_until(lambda: get_written(exporter.scrape(), "frozen") is None, "the grace to be over")
            scrape = exporter.scrape()
            assert scrape.get("hypervisor_guest_disk_size_bytes", domain="frozen", device="vda") is None
            assert scrape.value("hypervisor_guest_responsive", domain="frozen") == 0
            assert scrape.value("hypervisor_guest_info", domain="frozen") == 1
            assert (get_written(scrape, "well") or 0) > (get_written(last, "well") or 0)
        wait_for_answers(exporter, "frozen", "well")
        assert (get_written(exporter.scrape(), "frozen") or 0) > 0


def test_a_frozen_guest_that_is_destroyed_ends_and_the_others_are_whole(libvirtd: LibvirtDaemon) -> None:
    """libvirtd holds the lock of its domain for 10 s. One scrape may wait for that, for a second."""
    start_writers(libvirtd, "frozen", "well")
    with serve_guests(libvirtd, sees_processes=False) as exporter:
        before = wait_for_answers(exporter, "frozen", "well")
        with being_destroyed(libvirtd, "frozen") as destroyer:
            taken = watch(exporter, libvirtd, 30, goes_on=destroyer.is_alive)
        check_whole(taken[:-1], before)
        assert len(slow(taken)) <= 1
        wait_until(lambda: get_written(exporter.scrape(), "frozen") is None, "its series to end", seconds=5)
        ended = exporter.scrape()
        assert ended.value("hypervisor_guest_state_info", domain="frozen", state="shutoff") == 1
        assert get_written(ended, "well") is not None


@dataclass(frozen=True)
class _Frozen:
    """Guests that froze at a time, in seconds since the epoch, beside others that are well."""

    names: Collection[str]
    well: Collection[str]
    since: float

    def shows(self, scrape: Scrape) -> bool:
        """Whether a scrape shows that they do not answer, and that all others have answered since."""
        answers = [scrape.get("hypervisor_guest_responsive", domain=name) for name in self.names]
        return answers == [0] * len(self.names) and all(
            _told_at(scrape, name) > self.since for name in self.well
        )

    def check(self, taken: Sequence[Timed], before: Scrape) -> None:
        """Check that scrapes are whole and quick, and that those that are well, and only they, go on.

        :param taken: of which the last one shows it
        :param before: a scrape from before they froze
        """
        check_whole(taken, before)
        assert slow(taken) == []
        last = taken[-1].scrape
        for name in self.names:
            assert _told_at(last, name) < self.since + 1, name
            values = [get_written(each.scrape, name) or 0 for each in taken]
            assert values == sorted(values), "none of them is 0"
        for name in self.well:
            assert last.value("hypervisor_guest_responsive", domain=name) == 1, name
            assert (get_written(last, name) or 0) > (get_written(before, name) or 0), name
        assert last.value("hypervisor_guests_unresponsive") == len(self.names)
        assert last.value("hypervisor_guest_stats_suspended") == 0
        # Their processes are seen to be stopped: no call is lost to them.
        assert {each.scrape.value("hypervisor_hung_calls") for each in taken} == {0}


def _told_at(scrape: Scrape, name: str) -> float:
    return scrape.value("hypervisor_guest_stats_timestamp_seconds", domain=name)

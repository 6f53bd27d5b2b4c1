"""Guests' statistics: who is asked and when, what is kept, and that no guest costs another anything."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config.settings import GuestsConfig
from exporter.errors import ConnectionLostError, DeniedError, GoneError, HypervisorError, UnsupportedError
from exporter.guest_records import (
    AllGuestStatistics,
    ChosenGuest,
    ChosenGuests,
    DiskCounters,
    InterfaceCounters,
)
from exporter.model import DomainInfo, DomainState, Interface, Severity
from exporter.virt.guests.calls import MAX_WAITING, GuestCalls, GuestJob
from exporter.virt.guests.processes import GuestProcesses
from exporter.virt.sources.guest_statistics import (
    ANSWER_SECONDS,
    MIN_INTERVAL_SECONDS,
    ROUND_SECONDS,
    SILENT_SECONDS,
    GuestStatisticsRounds,
)
from tests.support.driver_bench import Bench as DriverBench
from tests.support.hosts import Clock, make_settings
from tests.support.records import make_domain, make_guest, make_uuid
from tests.support.waiting_libvirt import STATISTICS, STATISTICS_WITHOUT_MONITOR, WaitingLibvirt

WALL_CLOCK_OFFSET = 1.75e9
GRACE = 120.0
REMOTE = "qemu+tls://kvm02/system"
INTERFACE = {
    "net.count": 1,
    "net.0.name": "tap1",
    "net.0.rx.bytes": 1,
    "net.0.rx.pkts": 2,
    "net.0.rx.errs": 3,
    "net.0.rx.drop": 4,
    "net.0.tx.bytes": 5,
    "net.0.tx.pkts": 6,
    "net.0.tx.errs": 7,
    "net.0.tx.drop": 8,
}
INFO = DomainInfo(vcpus=1, memory_kib=1, maximum_memory_kib=1, cpu_time_ns=77)
# virDomainPausedReason
USER, MIGRATION, IOERROR, STARTING_UP = 1, 2, 5, 11


class Bench:
    """Rounds, with libvirt, /proc and the clock at hand."""

    def __init__(self, folder: Path = Path("/nonexistent"), **options: Any) -> None:
        self.libvirt, self.clock, self.folder = WaitingLibvirt(), Clock(), folder
        self.calls = GuestCalls(self.libvirt.make_connections(self.clock), clock=self.clock)
        self.rounds = GuestStatisticsRounds(
            self.calls,
            make_settings(stale_grace=GRACE, **options),
            clock=self.clock,
            wall_clock=lambda: WALL_CLOCK_OFFSET + self.clock.now,
            processes=GuestProcesses(pids=folder / "pids", proc=folder / "proc"),
        )

    def want(self, *guests: ChosenGuest | int) -> None:
        chosen = tuple(choose(each) if isinstance(each, int) else each for each in guests)
        self.rounds.want(ChosenGuests(guests=chosen, omitted=0))

    def do_what_is_due(self) -> int:
        """Return how many rounds that were."""
        jobs = self.rounds.list_jobs()
        for job in jobs:
            job.run()
        return len(jobs)

    def scrape(self, *guests: ChosenGuest | int, after: float = 30.0) -> list[int]:
        """Let a refresh come, and what follows it; return the guests that were asked.

        :param after: how many seconds pass before
        """
        self.clock.now += after
        self.libvirt.take_asked()
        self.want(*guests)
        self.do_what_is_due()
        self.asked = self.libvirt.take_asked()
        return [int(uuid[-12:], 16) for call, uuid in self.asked if call == "statistics"]

    def show(self, *guests: ChosenGuest | int) -> AllGuestStatistics:
        """Return what a refresh would show now, without what would follow it."""
        self.want(*guests)
        return self.rounds.get_part()

    def list_problems(self) -> list[tuple[Severity, str, str]]:
        return [(each.severity, each.reason, each.message) for each in self.rounds.get_problems()]

    def put_process(self, number: int, state: str) -> None:
        """Let a guest's process be in this state."""
        (self.folder / "pids").mkdir(exist_ok=True)
        (self.folder / f"pids/guest{number}.pid").write_text(f"{number}\n")
        (self.folder / f"proc/{number}").mkdir(parents=True, exist_ok=True)
        (self.folder / f"proc/{number}/stat").write_text(f"{number} (qemu) (x) {state} 1 2")


def choose(number: int, *, interfaces: tuple[Interface, ...] = (), **changes: Any) -> ChosenGuest:
    return ChosenGuest(record=make_domain(number, **changes), guest=make_guest(number, interfaces=interfaces))


def responsive(part: AllGuestStatistics) -> dict[int, bool]:
    return {int(uuid[-12:], 16): answers for uuid, answers in part.is_responsive.items()}


def told(part: AllGuestStatistics) -> set[int]:
    """Return the guests whose disks are known."""
    return {int(uuid[-12:], 16) for uuid, each in part.statistics.items() if each.disks}


def test_what_a_guest_tells_is_shown_with_the_time_when_it_told_it() -> None:
    bench = Bench()
    assert bench.show(1).statistics == {}
    bench.scrape(1)
    bench.clock.now += 5
    statistics = bench.show(1).statistics[make_uuid(1)]
    assert statistics.read_at == WALL_CLOCK_OFFSET + bench.clock.now - 5
    assert statistics.disks == {
        "vda": DiskCounters(
            read_bytes=40960,
            read_requests=10,
            read_ns=500_000_000,
            written_bytes=81920,
            write_requests=20,
            write_ns=1_500_000_000,
            flush_requests=3,
            flush_ns=250_000_000,
            size_bytes=2**30,
            allocated_bytes=200704,
        )
    }
    memory = statistics.memory
    assert memory is not None
    assert (memory.balloon_kib, memory.available_kib, memory.usable_kib) == (524288, 500000, 300000)
    assert (memory.swap_in_kib, memory.swap_out_kib, memory.major_faults) == (4, 8, 12)
    assert memory.updated_at == 1749999990
    assert statistics.cpu_ns is None, "this host's files tell it"
    assert responsive(bench.show(1)) == {1: True}
    assert bench.rounds.get_ages() == {"the oldest statistics of a guest": 5}


# When a round comes.


def test_nobody_scrapes_and_nobody_is_asked() -> None:
    bench = Bench()
    bench.want(1)
    assert bench.do_what_is_due() == 1
    bench.clock.now += 3600
    assert bench.do_what_is_due() == 0


def test_a_scrape_soon_after_another_is_followed_by_no_round_neither_at_once_nor_later() -> None:
    """Shows that two Prometheus servers get numbers of the same age each time."""
    bench = Bench()
    assert bench.scrape(1) == [1]
    assert bench.scrape(1, after=MIN_INTERVAL_SECONDS - 0.1) == []
    bench.clock.now += 1
    assert bench.do_what_is_due() == 0
    assert bench.scrape(1, after=0) == [1]


def test_a_round_that_takes_more_than_half_of_the_interval_makes_the_next_one_start_later() -> None:
    bench = Bench()
    frozen = [choose(number) for number in range(1, 5)]
    with bench.libvirt.held(*(each.record.uuid for each in frozen)):
        began_at = bench.clock.now + 30
        bench.scrape(*frozen, 9)
        took = bench.clock.now - began_at
        assert 4 * ANSWER_SECONDS < took < 4 * ANSWER_SECONDS + 1
        assert bench.scrape(9, after=began_at + 15 - bench.clock.now) == [], "less than half are pauses"
        assert bench.scrape(9, after=2) == [9]


def test_while_a_round_is_under_way_no_other_one_becomes_due() -> None:
    bench = Bench()
    with bench.libvirt.delayed(make_uuid(1)):
        bench.want(1)
        thread = threading.Thread(target=bench.do_what_is_due)
        thread.start()
        while not bench.libvirt.asked:
            pass
        bench.clock.now += 60
        bench.want(1)
        assert bench.rounds.list_jobs() == ()
    thread.join()


def test_only_the_first_round_ends_the_cache_of_scrapes() -> None:
    """Shows that the first scrape has all numbers, and that rounds make no scrape a refresh."""
    bench = Bench()
    bench.want(1)
    assert [job.ends_cache for job in bench.rounds.list_jobs()] == [True]
    bench.do_what_is_due()
    bench.clock.now += 30
    bench.want(1)
    assert [job.ends_cache for job in bench.rounds.list_jobs()] == [False]


def test_guests_for_whom_there_was_no_time_are_the_first_ones_of_the_next_round() -> None:
    """Shows a slow network: 300 guests do not fit into one round, and each has its turn."""
    bench = Bench()
    guests = [choose(number) for number in range(300)]

    class Slow(dict[str, Any]):
        def get(self, uuid: str, _default: object = None) -> Any:
            if uuid == make_uuid(119):
                bench.clock.now += ROUND_SECONDS
            return STATISTICS

    bench.libvirt.statistics = Slow()
    with bench.libvirt.held(make_uuid(120)):
        first = bench.scrape(*guests)
    assert first == [*range(121)]
    bench.libvirt.statistics = {}
    second = bench.scrape(*guests, after=2 * ROUND_SECONDS)
    assert second[:179] == [*range(121, 300)]
    assert len(second) == 300


# Who is asked.


@pytest.mark.parametrize(
    ("state", "reason", "is_asked"),
    [
        (DomainState.RUNNING, 1, True),
        (DomainState.PAUSED, USER, True),
        (DomainState.PAUSED, IOERROR, True),
        (DomainState.PAUSED, MIGRATION, False),
        (DomainState.PAUSED, STARTING_UP, False),
        (DomainState.SHUTOFF, 1, False),
    ],
)
def test_a_guest_that_migrates_in_or_starts_or_is_shut_off_is_not_asked(
    state: DomainState, reason: int, *, is_asked: bool
) -> None:
    bench = Bench()
    guest = choose(1, state=state, reason=reason)
    assert bench.scrape(guest) == [1] * is_asked
    assert responsive(bench.show(guest)) == ({1: True} if is_asked else {})


def test_a_guest_whose_process_is_stopped_is_not_asked(tmp_path: Path) -> None:
    """Shows that it costs no worker of libvirtd and no job, and is asked again when it goes on."""
    bench = Bench(tmp_path)
    bench.put_process(1, "T")
    bench.put_process(2, "S")
    assert bench.scrape(1, 2) == [2]
    assert responsive(bench.show(1, 2)) == {1: False, 2: True}
    bench.put_process(1, "R")
    assert sorted(bench.scrape(1, 2)) == [1, 2]
    assert responsive(bench.show(1, 2)) == {1: True, 2: True}


def test_a_process_that_waits_for_its_disk_twice_in_a_row_is_not_asked(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for state, asked in (("D", [1]), ("D", []), ("S", [1]), ("D", [1]), ("D", [])):
        bench.put_process(1, state)
        assert bench.scrape(1) == asked


def test_the_processes_of_another_machine_are_not_looked_at(tmp_path: Path) -> None:
    bench = Bench(tmp_path, uri=REMOTE)
    bench.libvirt.info[make_uuid(1)] = INFO
    bench.put_process(1, "T")
    assert bench.scrape(1) == [1]


@pytest.mark.parametrize("uri", ["qemu:///session", "lxc:///", "qemu:///embed?root=/srv"])
def test_the_process_of_another_daemons_guest_with_the_same_name_does_not_count(
    tmp_path: Path, uri: str
) -> None:
    bench = Bench(tmp_path, uri=uri)
    bench.libvirt.info[make_uuid(1)] = INFO
    bench.put_process(1, "T")
    assert bench.scrape(1) == [1]
    assert responsive(bench.show(1)) == {1: True}


def test_another_run_of_a_stopped_guest_is_not_said_to_be_stopped(tmp_path: Path) -> None:
    """It is destroyed and started again between two rounds: nothing is known of the new one."""
    bench = Bench(tmp_path)
    bench.put_process(1, "T")
    bench.put_process(2, "S")
    bench.scrape(1, 2)
    assert responsive(bench.show(1, 2)) == {1: False, 2: True}
    assert responsive(bench.show(choose(1, id=7), 2)) == {2: True}


def test_what_cannot_be_read_of_processes_keeps_no_guest_from_being_asked(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.put_process(1, "")
    bench.put_process(2, "T")
    (tmp_path / "pids/guest2.pid").write_text("no number")
    bench.put_process(3, "T")
    (tmp_path / "proc/3/stat").unlink()
    outside = choose(4, name="../4")
    (tmp_path / "4.pid").write_text("2")
    assert bench.scrape(1, 2, 3, outside) == [1, 2, 3, 4]


# A guest that does not answer.


def test_a_frozen_guest_costs_the_others_nothing_and_itself_one_call() -> None:
    bench = Bench()
    bench.scrape(1, 2, 3)
    with bench.libvirt.held(make_uuid(2)):
        assert sorted(bench.scrape(1, 2, 3)) == [1, 2, 3]
        assert responsive(bench.show(1, 2, 3)) == {1: True, 2: False, 3: True}
        assert bench.calls.hung == 1
        asked_at = bench.clock.now + 30
        assert bench.scrape(1, 2, 3) == [1, 3], "it is not asked again while that call hangs"
        assert bench.clock.now == asked_at, "nobody waits for it any more"
        assert {call for call, _ in bench.asked} == {"statistics"}, "nor are two calls made for each"
        assert bench.calls.hung == 1
        assert told(bench.show(1, 2, 3)) == {1, 2, 3}, "its last numbers are shown"
        for _ in range(4):
            bench.scrape(1, 2, 3)
        assert told(bench.show(1, 2, 3)) == {1, 3}, "but not for ever"
        assert bench.show(1, 2, 3).statistics[make_uuid(2)].memory is None
    assert bench.calls.hung == 0
    bench.scrape(1, 2, 3)
    assert responsive(bench.show(1, 2, 3)) == {1: True, 2: True, 3: True}
    assert told(bench.show(1, 2, 3)) == {1, 2, 3}


def test_when_too_many_guests_are_frozen_no_guest_is_asked_and_that_is_said() -> None:
    """Shows that libvirtd keeps three quarters of its workers, whatever is asked of these guests."""
    bench = Bench()
    guests = [choose(number) for number in range(10)]
    bench.scrape(*guests)
    frozen = [make_uuid(number) for number in range(10)]
    with bench.libvirt.held(*frozen[:-1]):
        # One of them hangs in another call already.
        bench.libvirt.xml[frozen[0]] = "<domain/>"
        job = GuestJob(uuid=frozen[0], kind="XML", ask=lambda on: on.get_domain_xml(frozen[0]) and None)
        bench.calls.ask([job], seconds=10)
        assert bench.scrape(*guests) == [1, 2, 3, 4]
        assert bench.calls.hung == MAX_WAITING
        part = bench.show(*guests)
        assert part.is_suspended
        assert [number for number, answers in responsive(part).items() if not answers] == [1, 2, 3, 4]
        assert bench.scrape(*guests) == []
        (problem,) = bench.list_problems()
        assert problem[0] is Severity.NOTE
        assert "5 calls about guests wait for an answer" in problem[2]
        for _ in range(5):
            bench.scrape(*guests)
        part = bench.show(*guests)
        assert set(responsive(part)) == {1, 2, 3, 4}, "of the others nothing is known any more"
        assert told(part) == set()
    assert len(bench.scrape(*guests)) == 10
    assert not bench.show(*guests).is_suspended
    assert bench.list_problems() == []


def test_an_answer_without_what_the_monitor_tells_changes_nothing() -> None:
    """Shows a guest whose job another client has: no number of it is taken back or becomes 0."""
    bench = Bench()
    bench.scrape(1)
    before = bench.show(1)
    bench.libvirt.statistics[make_uuid(1)] = STATISTICS_WITHOUT_MONITOR
    assert bench.scrape(1) == [1]
    assert bench.show(1) == before, "its time stands still, too"
    bench.clock.now += GRACE
    assert told(bench.show(1)) == set()


def test_an_answer_without_what_the_monitor_tells_does_not_show_that_a_guest_answers_again() -> None:
    """Shows that its XML is not asked for meanwhile: from libvirt 11 on it would take a worker for 30 s."""
    bench, uuid = Bench(), make_uuid(1)
    bench.libvirt.busy.add(uuid)
    bench.libvirt.statistics[uuid] = STATISTICS_WITHOUT_MONITOR
    job = GuestJob(uuid=uuid, kind="XML", ask=lambda on: on.get_domain_xml(uuid) and None)
    bench.calls.ask([replace(job, is_first=True)], seconds=10)
    for _ in range(2):
        assert bench.scrape(1) == [1]
        assert bench.calls.ask([job], seconds=10).slow == {uuid}
        assert ("XML", uuid) not in bench.libvirt.asked
    del bench.libvirt.statistics[uuid]
    bench.scrape(1)
    assert bench.calls.slow == frozenset()


def test_a_guest_that_does_not_answer_another_client_is_not_responsive() -> None:
    """Shows the one case in which libvirt is asked who has the guest's job."""
    bench = Bench()
    bench.scrape(1)
    assert ("busy", make_uuid(1)) not in bench.libvirt.asked
    bench.libvirt.statistics[make_uuid(1)] = STATISTICS_WITHOUT_MONITOR
    bench.libvirt.busy.add(make_uuid(1))
    bench.scrape(1)
    assert responsive(bench.show(1)) == {1: False}
    del bench.libvirt.statistics[make_uuid(1)]
    bench.libvirt.busy.clear()
    bench.scrape(1)
    assert responsive(bench.show(1)) == {1: True}


def test_another_run_of_a_guest_has_nothing_of_the_last_one() -> None:
    """Shows that a late answer of the old QEMU is no number of the new one."""
    bench = Bench()
    bench.scrape(1)
    assert told(bench.show(1)) == {1}
    restarted = choose(1, id=77)
    assert told(bench.show(restarted)) == set()
    bench.scrape(restarted)
    again = choose(1, id=78)
    with bench.libvirt.held(make_uuid(1)):
        bench.scrape(restarted)
        bench.clock.now += 30
        bench.want(again)
    assert told(bench.show(again)) == set()
    assert responsive(bench.show(again)) == {}


@pytest.mark.parametrize("statistics", [STATISTICS, STATISTICS_WITHOUT_MONITOR], ids=["told", "busy"])
def test_an_answer_of_the_last_run_that_comes_within_a_refresh_is_dropped(
    statistics: Mapping[str, object],
) -> None:
    """Shows it between two steps of one refresh: guests are chosen, then what they told is shown."""
    bench, uuid = Bench(), make_uuid(1)
    bench.libvirt.statistics[uuid] = statistics
    bench.libvirt.busy.add(uuid)
    with bench.libvirt.held(uuid):
        bench.scrape(1)
        bench.want(choose(1, id=77))
    part = bench.rounds.get_part()
    assert (part.statistics, part.is_responsive) == ({}, {})
    assert sum(part.answer_times.counts) == 0


def test_a_guest_whose_statistics_cannot_be_read_is_not_said_to_be_busy() -> None:
    bench, uuid = Bench(), make_uuid(1)
    bench.scrape(1)
    bench.libvirt.statistics[uuid] = STATISTICS_WITHOUT_MONITOR
    bench.libvirt.busy.add(uuid)
    bench.scrape(1)
    assert responsive(bench.show(1)) == {1: False}
    bench.libvirt.statistics[uuid] = HypervisorError("internal error")
    bench.scrape(1)
    assert responsive(bench.show(1)) == {1: True}, "its last answer still counts"


def test_a_late_answer_of_the_last_run_does_not_keep_the_next_one_from_being_shown() -> None:
    bench = Bench()
    restarted = choose(1, id=77)
    with bench.libvirt.held(make_uuid(1)):
        bench.scrape(1)
        bench.clock.now += 30
        bench.want(restarted)
    bench.do_what_is_due()
    assert told(bench.show(restarted)) == {1}


@pytest.mark.parametrize("error", [GoneError("gone"), HypervisorError("End of file from monitor")])
def test_a_guest_that_ends_in_the_middle_of_a_round_costs_the_others_nothing(error: Exception) -> None:
    bench = Bench()
    bench.libvirt.statistics[make_uuid(2)] = error
    assert bench.scrape(1, 2, 3) == [1, 2, 3]
    assert told(bench.show(1, 3)) == {1, 3}
    assert bench.list_problems() == [], "it is not there any more"


def test_an_error_of_a_guest_that_is_not_shown_any_more_is_none() -> None:
    bench = Bench()

    class Ending(dict[str, Any]):
        def get(self, uuid: str, _default: object = None) -> Any:
            if uuid == make_uuid(1):
                return STATISTICS
            bench.want(1)
            return HypervisorError("End of file from monitor")

    bench.libvirt.statistics = Ending()
    bench.want(2, 1)
    bench.do_what_is_due()
    assert bench.list_problems() == []


def test_an_error_of_many_guests_is_one_problem() -> None:
    bench = Bench()
    guests = range(1, 4)
    for number in guests:
        bench.libvirt.statistics[make_uuid(number)] = DeniedError("access denied")
    bench.scrape(*guests)
    message = "the statistics of 3 guests cannot be read, such as of guest1: access denied"
    assert bench.list_problems() == [(Severity.ERROR, "denied", message)]
    bench.libvirt.statistics.clear()
    bench.scrape(*guests)
    assert bench.list_problems() == []


def test_a_driver_without_statistics_is_asked_once_for_each_connection() -> None:
    bench = Bench()
    bench.libvirt.statistics = dict.fromkeys(map(make_uuid, (1, 2)), UnsupportedError("not supported"))
    assert bench.scrape(1, 2) == [1]
    expected = [(Severity.NOTE, "unsupported", "no statistics of guests: not supported")]
    assert bench.list_problems() == expected
    assert bench.scrape(1, 2) == []
    bench.clock.now += 30
    bench.want(1, 2)
    assert bench.rounds.list_jobs() == ()
    bench.rounds.note_reconnected()
    assert bench.scrape(1, 2) == [1]


def test_a_driver_that_tells_nothing_is_noted_and_asked_no_more() -> None:
    """Shows libvirt's test driver, which has the call and no statistics."""
    bench = Bench()
    bench.libvirt.statistics = {make_uuid(number): {} for number in (1, 2)}
    assert bench.scrape(1, 2) == [1]
    message = "no statistics of guests: libvirt's driver of this hypervisor tells none"
    assert bench.list_problems() == [(Severity.NOTE, "unsupported", message)]
    assert bench.scrape(1, 2) == []


def test_a_driver_that_does_not_tell_who_has_a_job_is_asked_for_statistics_all_the_same() -> None:
    bench = Bench()
    bench.libvirt.statistics[make_uuid(1)] = STATISTICS_WITHOUT_MONITOR
    bench.libvirt.control_errors[make_uuid(1)] = UnsupportedError("no virDomainGetControlInfo")
    assert bench.scrape(1, 2) == [1, 2]
    assert bench.list_problems() == []
    assert told(bench.show(1, 2)) == {2}


def test_a_lost_connection_ends_the_round_and_the_next_one_goes_on() -> None:
    """Shows a restart of libvirtd: guests and their counters outlive it."""
    bench = Bench()
    bench.scrape(1, 2)
    bench.libvirt.statistics[make_uuid(2)] = ConnectionLostError("broken pipe")
    with pytest.raises(ConnectionLostError):
        bench.scrape(1, 2)
    assert told(bench.show(1, 2)) == {1, 2}
    bench.libvirt.statistics.clear()
    bench.rounds.note_reconnected()
    assert bench.scrape(1, 2) == [2, 1], "the one that was not read is the first"


def test_guests_that_are_left_out_in_the_middle_of_a_round_are_not_asked() -> None:
    """Shows a reload that changes include, exclude or max meanwhile, and a list of domains that is lost."""
    bench = Bench()

    class Reloading(dict[str, Any]):
        def get(self, uuid: str, _default: object = None) -> Any:
            if uuid == make_uuid(2):
                bench.want(1, 4)
            return STATISTICS

    bench.libvirt.statistics = Reloading()
    assert bench.scrape(1, 2, 3, 4) == [1, 2, 4]
    assert set(bench.show(1, 4).statistics) == {make_uuid(1), make_uuid(4)}
    bench.rounds.want(None)
    assert bench.rounds.list_jobs() == ()
    assert told(bench.show(1, 4)) == {1, 4}, "a list that is missing for a while takes nothing away"


# What is told.


def test_a_guest_without_balloon_statistics_has_no_account_of_its_own() -> None:
    """Shows that its numbers are not known, not 0, and that the cure is named once for all such guests."""
    bench = Bench()
    silent = {**STATISTICS, "balloon.last-update": 0}
    guests = [choose(number) for number in range(1, 6)]
    for guest in guests[:4]:
        bench.libvirt.statistics[guest.record.uuid] = silent
    bench.scrape(*guests)
    memory = bench.show(*guests).statistics[make_uuid(1)].memory
    assert memory is not None
    assert (memory.balloon_kib, memory.rss_kib, memory.updated_at) == (524288, 40000, None)
    assert (memory.available_kib, memory.usable_kib, memory.swap_in_kib) == (None, None, None)
    assert bench.list_problems() == [], "it may be booting"
    bench.scrape(*guests, after=SILENT_SECONDS)
    ((severity, reason, message),) = bench.list_problems()
    assert (severity, reason) == (Severity.NOTE, "unsupported")
    assert message == "4 guests do not tell how they use their memory: guest1, guest2, guest3, …"
    assert "mem_stats_period_seconds" in bench.rounds.get_problems()[0].advice
    paused = [choose(number, state=DomainState.PAUSED, reason=USER) for number in range(1, 6)]
    bench.show(*paused)
    assert bench.list_problems() == [], "one that does not run cannot"
    bench.libvirt.statistics.clear()
    bench.scrape(*guests)
    assert bench.list_problems() == []


def test_a_guest_that_was_made_without_a_balloon_is_not_said_to_be_silent() -> None:
    bench = Bench()
    without = make_guest(1, has_balloon=False)
    guests = [ChosenGuest(record=make_domain(1), guest=without), choose(2)]
    for number in (1, 2):
        bench.libvirt.statistics[make_uuid(number)] = {**STATISTICS, "balloon.last-update": 0}
    bench.scrape(*guests)
    bench.scrape(*guests, after=SILENT_SECONDS)
    ((_, _, message),) = bench.list_problems()
    assert message == "1 guests do not tell how they use their memory: guest2"


def test_a_remote_hypervisor_tells_cpu_time_and_interfaces_itself() -> None:
    bench = Bench(uri=REMOTE)
    bench.libvirt.info[make_uuid(1)] = INFO
    bench.libvirt.statistics[make_uuid(1)] = {**STATISTICS, **INTERFACE}
    bench.scrape(1)
    statistics = bench.show(1).statistics[make_uuid(1)]
    assert statistics.cpu_ns == 77
    assert statistics.interfaces == {
        "tap1": InterfaceCounters(
            received_bytes=1,
            received_packets=2,
            received_errors=3,
            received_dropped=4,
            transmitted_bytes=5,
            transmitted_packets=6,
            transmitted_errors=7,
            transmitted_dropped=8,
        )
    }
    assert set(statistics.disks) == {"vda"}


def test_a_remote_guest_whose_job_is_held_tells_what_needs_no_monitor() -> None:
    bench = Bench(uri=REMOTE)
    bench.libvirt.info[make_uuid(1)] = INFO
    bench.scrape(1)
    bench.libvirt.info[make_uuid(1)] = replace(INFO, cpu_time_ns=88)
    bench.libvirt.statistics[make_uuid(1)] = {**STATISTICS_WITHOUT_MONITOR, **INTERFACE}
    read_at = bench.show(1).statistics[make_uuid(1)].read_at
    bench.scrape(1)
    statistics = bench.show(1).statistics[make_uuid(1)]
    assert (statistics.cpu_ns, set(statistics.interfaces), set(statistics.disks)) == (88, {"tap1"}, {"vda"})
    assert statistics.read_at == read_at
    bench.clock.now += GRACE + 1
    statistics = bench.show(1).statistics[make_uuid(1)]
    assert (statistics.cpu_ns, statistics.interfaces, statistics.disks) == (None, {}, {})


def test_a_remote_guests_cpu_time_has_the_time_when_its_host_told_it() -> None:
    bench = Bench(uri=REMOTE)
    bench.libvirt.info[make_uuid(1)] = INFO
    bench.scrape(1)
    bench.libvirt.statistics[make_uuid(1)] = STATISTICS_WITHOUT_MONITOR
    read_at = bench.show(1).statistics[make_uuid(1)].read_at
    bench.scrape(1)
    told_at = WALL_CLOCK_OFFSET + bench.clock.now
    bench.clock.now += 5
    statistics = bench.show(1).statistics[make_uuid(1)]
    assert (statistics.cpu_read_at, statistics.read_at) == (told_at, read_at)
    bench.clock.now += GRACE
    assert bench.show(1).statistics[make_uuid(1)].cpu_read_at is None


def test_the_interfaces_of_vhost_user_are_not_asked_for() -> None:
    """Shows that no remote host runs ovs-vsctl for us, up to 5 s for each interface."""
    bench = Bench(uri=REMOTE)
    bench.libvirt.info[make_uuid(1)] = bench.libvirt.info[make_uuid(2)] = INFO
    bench.libvirt.statistics = {make_uuid(number): {**STATISTICS, **INTERFACE} for number in (1, 2)}
    vhost_user = Interface(target="vhu1", type="vhostuser", mac="", bridge="", port_id="")
    guests = (choose(1, interfaces=(vhost_user,)), choose(2))
    bench.scrape(*guests)
    statistics = bench.show(*guests).statistics
    assert [set(statistics[make_uuid(number)].interfaces) for number in (1, 2)] == [set(), {"tap1"}]


@pytest.mark.parametrize("uri", ["qemu:///session", "qemu:///embed?root=/srv", "xen:///system"])
def test_guests_of_this_host_without_control_groups_are_asked_for_like_remote_ones(uri: str) -> None:
    bench = Bench(uri=uri)
    bench.libvirt.info[make_uuid(1)] = INFO
    bench.libvirt.statistics[make_uuid(1)] = {**STATISTICS, **INTERFACE}
    bench.scrape(1)
    statistics = bench.show(1).statistics[make_uuid(1)]
    assert (statistics.cpu_ns, set(statistics.interfaces)) == (77, {"tap1"})


@pytest.mark.parametrize("answer", [UnsupportedError("not supported"), {}], ids=["no call", "no answer"])
def test_where_the_driver_has_no_statistics_the_cpu_time_is_asked_for_in_each_round(answer: Any) -> None:
    """Shows Xen's driver, which has virDomainGetInfo alone."""
    bench = Bench(uri="xen:///system")
    bench.libvirt.statistics[make_uuid(1)] = answer
    bench.libvirt.info[make_uuid(1)] = INFO
    assert bench.scrape(1) == [1]
    assert bench.show(1).statistics[make_uuid(1)].cpu_ns == 77
    bench.libvirt.info[make_uuid(1)] = replace(INFO, cpu_time_ns=88)
    assert bench.scrape(1) == [], "it is not asked for statistics again"
    assert bench.show(1).statistics[make_uuid(1)].cpu_ns == 88
    ((severity, reason, _),) = bench.list_problems()
    assert (severity, reason) == (Severity.NOTE, "unsupported")


def test_this_host_is_not_asked_for_what_its_files_tell() -> None:
    bench = Bench()
    bench.libvirt.statistics[make_uuid(1)] = {**STATISTICS, **INTERFACE}
    bench.scrape(1)
    assert bench.show(1).statistics[make_uuid(1)].interfaces == {}
    assert ("info", make_uuid(1)) not in bench.libvirt.asked


def test_answers_are_counted_by_how_long_they_took() -> None:
    bench = Bench()
    durations = {1: 0.003, 2: 0.25, 3: 0.3}

    class Slow(dict[str, Any]):
        def get(self, uuid: str, _default: object = None) -> Any:
            bench.clock.now += durations.get(int(uuid[-12:], 16), 0)
            return STATISTICS_WITHOUT_MONITOR if uuid == make_uuid(4) else STATISTICS

    bench.clock.now = 1024.0  # so that the clock's sums are exact enough
    bench.libvirt.statistics = Slow()
    bench.scrape(1, 2, 3, 4)
    times = bench.show(1, 2, 3, 4).answer_times
    assert sum(times.counts) == 3, "one that has nothing of the guest is none"
    assert [index for index, count in enumerate(times.counts) if count] in ([2, 7, 8], [2, 8])
    assert times.total_seconds == pytest.approx(0.553)


# That no guest costs another anything, whatever they do.

FATES = ("well", "frozen", "busy", "gone", "broken", "silent")


@given(st.lists(st.sampled_from(FATES), min_size=1, max_size=12), st.integers(0, 11))
def test_the_numbers_of_guests_that_answer_are_the_same_whatever_the_others_do(
    fates: Sequence[str], place: int
) -> None:
    if fates.count("frozen") >= MAX_WAITING:
        fates = [fate for fate in fates if fate != "frozen"] + ["frozen"] * (MAX_WAITING - 1)
    fates = [*fates[:place], "well", *fates[place:]]
    bench, alone = Bench(), Bench()
    with ExitStack() as stack:
        for number, fate in enumerate(fates):
            uuid = make_uuid(number)
            if fate == "frozen":
                stack.enter_context(bench.libvirt.held(uuid))
            elif fate != "well":
                bench.libvirt.statistics[uuid] = {
                    "busy": STATISTICS_WITHOUT_MONITOR,
                    "gone": GoneError("gone"),
                    "broken": HypervisorError("internal error"),
                    "silent": {**STATISTICS_WITHOUT_MONITOR, "block.count": 0},
                }[fate]
        well = [number for number, fate in enumerate(fates) if fate == "well"]
        bench.scrape(*range(len(fates)))
        alone.scrape(*well)
        part, expected = bench.show(*range(len(fates))), alone.show(*well)
        assert not part.is_suspended
        for number in well:
            uuid = make_uuid(number)
            assert replace(part.statistics[uuid], read_at=0.0) == replace(
                expected.statistics[uuid], read_at=0.0
            )
            assert part.is_responsive[uuid]
        assert set(part.statistics) == {make_uuid(number) for number in well}


# In the driver.


def test_where_nobody_needs_statistics_no_guest_is_asked() -> None:
    """Shows that the collector costs nothing while it is off: no call, no job, no part, no age."""
    bench = DriverBench()
    bench.add_guest(1)
    bench.read()
    bench.libvirt.take_asked()
    bench.do_what_is_due()
    resources = bench.read()
    assert not [call for call, _ in bench.libvirt.take_asked() if call in ("statistics", "info", "busy")]
    assert "guest statistics" not in resources.parts
    assert "guest statistics" not in resources.ages
    assert "guest statistics" not in {source.name for source in bench.driver.sources}


def test_a_refresh_asks_no_more_with_statistics_than_without_however_many_guests_hang() -> None:
    """Shows that no scrape makes a call for them, or waits for one."""
    asked = []
    for needs in ({"guests"}, {"guest statistics"}):
        bench = DriverBench(needs=needs)
        for number in range(MAX_WAITING + 1):
            bench.add_guest(number)
        bench.read()
        with bench.libvirt.held(*map(make_uuid, range(MAX_WAITING + 1))):
            bench.do_what_is_due()
            bench.libvirt.take_asked()
            began_at = bench.clock.now
            bench.read()
            asked.append(bench.libvirt.take_asked())
            assert bench.clock.now == began_at
    assert asked[0] == asked[1] == [("list", "")]


def test_the_driver_asks_only_the_guests_that_are_shown() -> None:
    """Shows that a reload changes who is asked."""
    bench = DriverBench(needs={"guest statistics"}, guests=GuestsConfig(exclude="guest3"))
    for number in (1, 2, 3):
        bench.add_guest(number)
    bench.read()
    bench.do_what_is_due()
    part = bench.read().parts["guest statistics"]
    assert isinstance(part, AllGuestStatistics)
    assert set(part.statistics) == {make_uuid(1), make_uuid(2)}
    bench.reconfigure(guests=GuestsConfig(max=1))
    bench.clock.now += 30
    part = bench.read().parts["guest statistics"]
    assert isinstance(part, AllGuestStatistics)
    assert set(part.statistics) == {make_uuid(1)}
    bench.libvirt.take_asked()
    bench.do_what_is_due()
    assert bench.libvirt.take_asked() == [("statistics", make_uuid(1))]


def test_nothing_is_kept_of_guests_that_came_and_went() -> None:
    bench = Bench()
    for number in range(0, 2000, 100):
        bench.libvirt.busy.add(make_uuid(number))
        bench.libvirt.statistics[make_uuid(number)] = STATISTICS_WITHOUT_MONITOR
        bench.libvirt.statistics[make_uuid(number + 1)] = HypervisorError("internal error")
        bench.scrape(*range(number, number + 100))
    bench.scrape()
    kept = [
        value
        for value in vars(bench.rounds).values()
        if isinstance(value, dict | frozenset | set) and len(value) > 0
    ]
    assert kept == []

"""The cache of guests: which of them libvirt is asked for, when, and what counts while it does not answer."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import BusyError, ConnectionLostError, GoneError, HypervisorError
from exporter.model import DomainInfo, DomainRecord, DomainState, Guest, Problem, Severity
from exporter.virt.guests.cache import MIN_AGE_SECONDS, RETRY_SECONDS, GuestCache
from exporter.virt.guests.calls import GuestCalls
from exporter.virt.guests.guest_xml import parse_guest
from tests.support.hosts import Clock
from tests.support.records import make_domain, make_uuid
from tests.support.waiting import wait_until
from tests.support.waiting_libvirt import WaitingLibvirt


def domain_xml(uuid: str, vcpus: int) -> str:
    return f"<domain><name>guest</name><uuid>{uuid}</uuid><memory>1024</memory><vcpu>{vcpus}</vcpu></domain>"


class Cache(GuestCache):
    """A cache with its libvirt and its clock at hand, resynchronised after 60 seconds."""

    def __init__(self) -> None:
        self.libvirt, self.clock = WaitingLibvirt(), Clock()
        self.calls = GuestCalls(self.libvirt.make_connections(self.clock), clock=self.clock)
        super().__init__(self.calls, resync_interval=60, clock=self.clock)

    def set(self, number: int, *, vcpus: int = 1) -> None:
        self.libvirt.xml[make_uuid(number)] = domain_xml(make_uuid(number), vcpus)

    def refresh(self, domains: Iterable[DomainRecord], changed: Iterable[str]) -> None:
        """Do what a refresh does after events have spoken of these guests."""
        for uuid in changed:
            self.mark_changed(uuid)
        self.reconcile(domains)

    def vcpus(self) -> dict[str, int | None]:
        return {uuid: guest and guest.vcpus for uuid, guest in self.get_guests().items()}

    def take_reads(self) -> list[str]:
        """Return whose XML was asked for since the last call."""
        return [uuid for call, uuid in self.libvirt.take_asked() if call == "XML"]


ONE, TWO, THREE = make_uuid(1), make_uuid(2), make_uuid(3)
BOTH = (make_domain(1), make_domain(2))


@pytest.fixture
def cache() -> Cache:
    """Return a cache that has just read guests 1 and 2."""
    cache = Cache()
    for number in (1, 2, 3):
        cache.set(number)
    cache.reconcile(BOTH)
    cache.take_reads()
    return cache


def test_new_guests_are_read_once_each() -> None:
    cache = Cache()
    cache.set(1, vcpus=4)
    cache.set(2, vcpus=8)
    cache.reconcile(BOTH)
    assert cache.take_reads() == [ONE, TWO]
    assert cache.vcpus() == {ONE: 4, TWO: 8}
    assert cache.guests_read == 2


def test_known_guests_are_not_read_again(cache: Cache) -> None:
    cache.clock.now += 59
    cache.reconcile(BOTH)
    assert cache.take_reads() == []
    assert cache.vcpus() == {ONE: 1, TWO: 1}


@pytest.mark.parametrize(
    ("domains", "changed", "reads"),
    [
        ((*BOTH, make_domain(3)), (), [THREE]),
        ((make_domain(1), make_domain(2, id=22)), (), [TWO]),
        ((make_domain(1, DomainState.SHUTOFF), make_domain(2)), (), [ONE]),
        ((make_domain(1), make_domain(2, name="renamed")), (), [TWO]),
        ((make_domain(1), make_domain(2, DomainState.PAUSED)), (), []),
        (BOTH, (TWO,), [TWO]),
        (BOTH, (TWO, TWO, THREE), [TWO]),
        ((make_domain(1), make_domain(2, id=22, name="renamed")), (TWO,), [TWO]),
        ((make_domain(2), make_domain(1)), (), []),
    ],
    ids=[
        "new",
        "restarted",
        "stopped",
        "renamed",
        "paused",
        "event",
        "event of an unlisted domain",
        "all at once",
        "another order",
    ],
)
def test_only_what_changed_is_read_again_and_only_once(
    cache: Cache, domains: tuple[DomainRecord, ...], changed: tuple[str, ...], reads: list[str]
) -> None:
    cache.refresh(domains, changed)
    assert cache.take_reads() == reads
    cache.reconcile(domains)
    assert cache.take_reads() == []
    assert cache.guests_read == 2 + len(reads)


def test_an_event_brings_the_new_number(cache: Cache) -> None:
    cache.set(2, vcpus=16)
    cache.refresh(BOTH, {TWO})
    assert cache.vcpus() == {ONE: 1, TWO: 16}


def test_a_guest_that_is_older_than_the_interval_is_read_again_once(cache: Cache) -> None:
    cache.clock.now += 30
    cache.refresh(BOTH, {TWO})
    cache.take_reads()
    cache.clock.now += 31
    cache.reconcile(BOTH)
    assert cache.take_reads() == [ONE]
    cache.clock.now += 30
    cache.reconcile(BOTH)
    assert cache.take_reads() == [TWO]


def test_a_guest_that_is_read_again_and_is_as_before_is_the_same_object(cache: Cache) -> None:
    """Shows that what others have computed from it holds, though its XML is read every 30 s."""
    before = cache.get_guests()
    cache.clock.now += 61
    cache.reconcile(BOTH)
    # libvirt writes something that no number depends on.
    cache.libvirt.xml[TWO] = domain_xml(TWO, 1).replace("<vcpu>", "<title>web</title><vcpu>")
    cache.refresh(BOTH, {TWO})
    assert cache.take_reads() == [ONE, TWO, TWO]
    after = cache.get_guests()
    assert after[ONE] is before[ONE]
    assert after[TWO] is before[TWO]


def test_the_same_xml_is_not_parsed_again_and_its_odd_part_stays_a_problem(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = []

    def parse(xml: str) -> Guest:
        parsed.append(xml)
        return parse_guest(xml)

    monkeypatch.setattr("exporter.virt.guests.cache.parse_guest", parse)
    cache.libvirt.xml[TWO] = domain_xml(TWO, 1).replace("<vcpu>", "<cputune><vcpupin/></cputune><vcpu>")
    for _ in range(3):
        cache.refresh(BOTH, {TWO})
        (problem,) = cache.get_problems()
        assert problem.message == "domain guest2: <vcpupin>: no 'vcpu'"
    assert len(parsed) == 1
    cache.libvirt.xml[TWO] = HypervisorError("not now")
    cache.refresh(BOTH, {TWO})
    assert [each.message for each in cache.get_problems()] == ["domain guest2: not now"]
    cache.set(2)
    for _ in range(2):
        cache.refresh(BOTH, {TWO})
        assert cache.get_problems() == ()


def test_what_is_known_by_another_call_than_the_xml_is_asked_for_again(cache: Cache) -> None:
    cache.libvirt.xml[TWO] = f"<domain><uuid>{TWO}</uuid></domain>"
    for vcpus in (3, 4):
        cache.libvirt.info[TWO] = DomainInfo(vcpus=vcpus, memory_kib=1, maximum_memory_kib=1)
        cache.refresh(BOTH, {TWO})
        assert cache.vcpus()[TWO] == vcpus
        assert len(cache.get_problems()) == 1


def test_a_renamed_guest_is_named_anew_even_if_its_xml_has_no_name(cache: Cache) -> None:
    cache.libvirt.xml[TWO] = (
        "<domain><memory>1024</memory><vcpu>2</vcpu><cputune><vcpupin/></cputune></domain>"
    )
    cache.refresh(BOTH, {TWO})
    cache.reconcile((make_domain(1), make_domain(2, name="renamed")))
    guest = cache.get_guests()[TWO]
    assert guest is not None
    assert guest.name == "renamed"
    assert [each.subject for each in cache.get_problems()] == ["renamed"]


def test_a_guest_that_is_listed_no_longer_is_forgotten(cache: Cache) -> None:
    cache.reconcile((make_domain(1),))
    assert cache.vcpus() == {ONE: 1}
    cache.reconcile(BOTH)
    assert cache.take_reads() == [TWO]


def test_a_guest_that_vanished_is_left_out_and_tried_again_next_time(cache: Cache) -> None:
    cache.libvirt.xml[THREE] = GoneError("no domain")
    listed = (*BOTH, make_domain(3))
    cache.reconcile(listed)
    assert cache.vcpus() == {ONE: 1, TWO: 1}
    assert cache.get_problems() == ()
    cache.set(3, vcpus=5)
    cache.reconcile(listed)
    assert cache.take_reads() == [THREE, THREE]
    assert cache.vcpus() == {ONE: 1, TWO: 1, THREE: 5}


def test_a_known_guest_that_vanishes_when_it_is_read_again_is_left_out(cache: Cache) -> None:
    cache.libvirt.xml[TWO] = GoneError("no domain")
    cache.refresh(BOTH, {TWO})
    assert cache.vcpus() == {ONE: 1}


def test_a_guest_with_odd_xml_is_kept_without_its_numbers_and_is_one_problem(cache: Cache) -> None:
    cache.libvirt.xml[TWO] = "<domain/>"
    cache.refresh(BOTH, {TWO})
    assert cache.vcpus() == {ONE: 1, TWO: None}
    assert cache.get_problems() == (
        Problem(
            severity=Severity.ERROR,
            reason="guest_xml",
            subject="guest2",
            message="domain guest2: unexpected domain XML: <vcpu>: no <vcpu>; <memory>: no <memory>",
        ),
    )


def test_odd_xml_is_not_read_again_before_the_resync(cache: Cache) -> None:
    cache.libvirt.xml[TWO] = "<domain/>"
    cache.refresh(BOTH, {TWO})
    cache.take_reads()
    cache.clock.now += 59
    cache.reconcile(BOTH)
    assert cache.take_reads() == []
    assert len(cache.get_problems()) == 1
    cache.set(2, vcpus=3)
    cache.clock.now += 2
    cache.reconcile(BOTH)
    assert cache.vcpus() == {ONE: 1, TWO: 3}
    assert cache.get_problems() == ()


def test_after_a_reconnection_every_guest_is_read_again(cache: Cache) -> None:
    cache.expire()
    cache.reconcile(BOTH)
    assert cache.take_reads() == [ONE, TWO]
    cache.reconcile(BOTH)
    assert cache.take_reads() == []


def test_over_a_reconnection_a_guest_that_does_not_answer_keeps_what_was_known_of_it(cache: Cache) -> None:
    """Shows that a restart of libvirtd beside a frozen guest costs none of that guest's numbers."""
    cache.expire()
    with cache.libvirt.held(ONE):
        cache.reconcile(BOTH)
        assert cache.vcpus() == {ONE: 1, TWO: 1}
        assert (cache.count_unread(), cache.count_outdated()) == (0, 1)


def test_a_lost_connection_is_not_taken_for_a_lost_guest(cache: Cache) -> None:
    cache.libvirt.xml[TWO] = ConnectionLostError("end of file")
    with pytest.raises(ConnectionLostError):
        cache.refresh(BOTH, {TWO})
    assert cache.vcpus() == {ONE: 1, TWO: 1}


def test_a_resync_is_due_only_when_half_the_interval_has_gone_by(cache: Cache) -> None:
    cache.clock.now += 29
    assert not cache.needs_resync()
    cache.resync()
    assert cache.take_reads() == []
    cache.clock.now += 2
    assert cache.needs_resync()


def test_an_empty_cache_needs_no_resync() -> None:
    assert not Cache().needs_resync()


def test_a_resync_between_scrapes_leaves_the_scrape_nothing_to_read(cache: Cache) -> None:
    cache.clock.now += 20
    cache.refresh(BOTH, {TWO})
    cache.take_reads()
    cache.set(1, vcpus=6)
    cache.clock.now += 20
    cache.resync()
    assert cache.take_reads() == [ONE]
    assert cache.vcpus() == {ONE: 6, TWO: 1}
    assert not cache.needs_resync()
    cache.clock.now += 39
    cache.reconcile(BOTH)
    assert cache.take_reads() == []


def test_a_guest_that_vanishes_in_a_resync_is_read_anew_if_it_is_listed_again(cache: Cache) -> None:
    cache.libvirt.xml[TWO] = GoneError("no domain")
    cache.clock.now += 31
    cache.resync()
    cache.set(2, vcpus=5)
    cache.reconcile(BOTH)
    assert cache.vcpus() == {ONE: 1, TWO: 5}


def test_what_a_resync_asked_before_a_reconnection_is_read_again_after_it(cache: Cache) -> None:
    cache.clock.now += 31
    with cache.libvirt.delayed("XML"):
        resync = threading.Thread(target=cache.resync)
        resync.start()
        wait_until(lambda: cache.libvirt.asked, "the resync to ask")
        cache.expire()
    resync.join(20)
    cache.take_reads()
    cache.reconcile(BOTH)
    assert ONE in cache.take_reads()


def test_a_resync_does_not_overwrite_what_a_scrape_read_meanwhile(cache: Cache) -> None:
    """Shows that the answer to the later call counts, whichever comes first."""
    cache.clock.now += 31
    with cache.libvirt.delayed(ONE):
        resync = threading.Thread(target=cache.resync)
        resync.start()
        wait_until(lambda: ("XML", ONE) in cache.libvirt.asked, "the resync to ask")
        # The resync's call has its answer already, and is only slow to bring it.
        cache.set(1, vcpus=9)
        cache.libvirt.let_go_of_newer(ONE)
        cache.refresh(BOTH, {ONE})
        assert cache.vcpus()[ONE] == 9
    resync.join(20)
    assert cache.vcpus()[ONE] == 9


# Guests of which libvirt does not give the XML.


def test_a_guest_that_does_not_answer_keeps_what_was_last_known_of_it(cache: Cache) -> None:
    """Shows that the others are read all the same, in the same call, and what is said of the one."""
    cache.set(1, vcpus=7)
    cache.set(2, vcpus=7)
    with cache.libvirt.held(ONE):
        cache.refresh(BOTH, {ONE, TWO})
        assert cache.vcpus() == {ONE: 1, TWO: 7}
        assert (cache.count_unread(), cache.count_outdated()) == (0, 1)
        assert [(each.reason, each.severity) for each in cache.get_problems()] == [
            ("guest_timeout", Severity.NOTE)
        ]
        assert "last known" in cache.get_problems()[0].message
    assert cache.vcpus()[ONE] == 7, "the answer that came late"
    assert (cache.count_outdated(), cache.get_problems()) == (0, ())


def test_a_guest_that_was_never_read_counts_by_what_waits_for_no_job() -> None:
    cache = Cache()
    cache.set(1, vcpus=3)
    cache.set(2, vcpus=2)
    cache.libvirt.info[ONE] = DomainInfo(vcpus=4, memory_kib=512, maximum_memory_kib=1024)
    # The job is held: the XML is not to be had, virDomainGetInfo is.
    with cache.libvirt.held(f"XML {ONE}"):
        cache.reconcile(BOTH)
        guest = cache.get_guests()[ONE]
        assert guest is not None
        assert (guest.vcpus, guest.memory_kib, guest.maximum_memory_kib) == (4, 512, 1024)
        assert cache.vcpus()[TWO] == 2
        assert (cache.count_unread(), cache.count_outdated()) == (1, 0)
    assert cache.vcpus()[ONE] == 3, "the answer that came late"
    assert cache.count_unread() == 0


def test_a_guest_of_which_nothing_is_to_be_had_is_listed_all_the_same() -> None:
    cache = Cache()
    cache.set(2)
    with cache.libvirt.held(ONE):
        cache.reconcile(BOTH)
        assert cache.vcpus() == {ONE: None, TWO: 1}
        assert cache.count_unread() == 1


def test_guests_that_are_not_asked_because_others_hang_are_counted_and_named() -> None:
    """Shows that a change that is not seen is counted, and that a call is left for virDomainGetInfo."""
    cache = Cache()
    records = [make_domain(number) for number in range(1, 8)]
    for number in range(1, 8):
        cache.set(number)
    cache.reconcile(records)
    new = make_domain(8)
    cache.set(8, vcpus=3)
    cache.libvirt.info[new.uuid] = DomainInfo(vcpus=3, memory_kib=512, maximum_memory_kib=512)
    with cache.libvirt.held(*(f"XML {record.uuid}" for record in (*records[:6], new))):
        cache.refresh([*records, new], {record.uuid for record in records})
        assert cache.libvirt.asked.count(("XML", records[6].uuid)) == 1, "when it was new"
        assert (cache.count_unread(), cache.count_outdated()) == (1, 7)
        assert {each.subject for each in cache.get_problems()} == {each.name for each in (*records, new)}
        assert cache.vcpus()[new.uuid] == 3
    cache.clock.now += RETRY_SECONDS
    cache.reconcile([*records, new])
    assert (cache.count_unread(), cache.count_outdated()) == (0, 0)


def test_what_changes_while_a_guest_does_not_answer_is_read_once_more(cache: Cache) -> None:
    with cache.libvirt.held(ONE):
        cache.refresh(BOTH, {ONE})
        cache.refresh(BOTH, {ONE})
    cache.set(1, vcpus=5)
    cache.clock.now += RETRY_SECONDS
    cache.reconcile(BOTH)
    assert cache.vcpus()[ONE] == 5
    assert cache.count_outdated() == 0


def test_a_scrape_waits_for_a_guest_once_however_often_it_changes(cache: Cache) -> None:
    """Shows that a guest whose call is still waiting costs the next scrapes nothing."""
    with cache.libvirt.held(ONE):
        cache.refresh(BOTH, {ONE})
        cache.take_reads()
        asked_at = cache.clock.now
        for _ in range(20):
            cache.refresh(BOTH, {ONE})
        assert cache.clock.now == asked_at
        assert cache.take_reads() == []


def test_an_answer_that_came_late_counts_but_ends_nothing(cache: Cache) -> None:
    """Shows that a frozen guest whose XML libvirt gives every 30 s is told once, and not every 30 s."""
    cache.set(1, vcpus=7)
    with cache.libvirt.held(ONE):
        cache.refresh(BOTH, {ONE})
        problems = cache.get_problems()
        cache.clock.now += 29
    assert cache.vcpus()[ONE] == 7, "the answer that came late"
    assert cache.get_problems() == problems
    assert not cache.needs_resync(), "it is not asked again at once"
    cache.clock.now += RETRY_SECONDS
    cache.libvirt.busy = {ONE}
    cache.resync()
    assert cache.get_problems() == problems
    cache.libvirt.busy = set()
    cache.clock.now += RETRY_SECONDS
    cache.resync()
    assert cache.get_problems() == ()


def test_a_job_that_libvirt_waited_for_in_vain_is_no_defect_of_the_guest(cache: Cache) -> None:
    """Shows that the answer "cannot acquire state change lock" leaves what was known, and is tried again."""
    cache.libvirt.xml[ONE] = BusyError("cannot acquire state change lock")
    cache.refresh(BOTH, {ONE})
    assert cache.vcpus() == {ONE: 1, TWO: 1}
    assert cache.count_outdated() == 1
    cache.set(1, vcpus=8)
    assert not cache.needs_resync()
    cache.clock.now += RETRY_SECONDS
    assert cache.needs_resync()
    cache.resync()
    assert cache.vcpus() == {ONE: 8, TWO: 1}


def test_a_guest_that_vanished_while_it_was_frozen_leaves_nothing_behind(cache: Cache) -> None:
    """Shows that the calls per refresh are again what they were, whatever was asked of it and how often."""
    with cache.libvirt.held(ONE):
        cache.refresh(BOTH, {ONE})
        left = (make_domain(2),)
        cache.reconcile(left)
    cache.libvirt.take_asked()
    cache.refresh(left, {TWO})
    assert cache.libvirt.take_asked() == [("XML", TWO)]


def test_another_error_leaves_what_was_known_and_is_a_problem(cache: Cache) -> None:
    cache.libvirt.xml[ONE] = HypervisorError("internal error")
    cache.refresh(BOTH, {ONE})
    assert cache.vcpus() == {ONE: 1, TWO: 1}
    assert [(each.reason, each.message) for each in cache.get_problems()] == [
        ("guest_xml", "domain guest1: internal error")
    ]


@given(
    st.lists(
        st.tuples(
            st.floats(0, 100),
            st.dictionaries(st.integers(1, 3), st.tuples(st.integers(1, 2), st.booleans())),
        ),
        max_size=8,
    )
)
def test_whatever_happens_the_guests_are_as_listed_and_none_is_read_without_a_reason(
    steps: list[tuple[float, dict[int, tuple[int, bool]]]],
) -> None:
    """Each step: seconds go by, then these domains are there, with this id, changed by an event or not."""
    cache = Cache()
    vcpus = 0
    known: dict[str, tuple[int, float]] = {}
    for seconds, listed in steps:
        cache.clock.now += seconds
        records = [make_domain(number, id=id_) for number, (id_, _) in listed.items()]
        changed = [make_uuid(number) for number, (_, is_changed) in listed.items() if is_changed]
        expected = []
        for record in records:
            last_id, read_at = known.get(record.uuid, (None, 0.0))
            if last_id != record.id or record.uuid in changed or cache.clock.now - read_at > 60:
                expected.append(record.uuid)
                vcpus += 1
                cache.set(int(record.uuid[-1]), vcpus=vcpus)
                known[record.uuid] = (record.id, cache.clock.now)
        known = {record.uuid: known[record.uuid] for record in records}
        cache.refresh(records, changed)
        assert cache.take_reads() == expected
        assert cache.get_guests() == {uuid: parse_guest(str(cache.libvirt.xml[uuid])) for uuid in known}


def test_a_guest_that_an_event_spoke_of_is_read_between_scrapes(cache: Cache) -> None:
    """Shows that it is read once, and that many events in a row do not have it read all the time."""
    cache.clock.now += MIN_AGE_SECONDS
    for _ in range(3):
        cache.mark_changed(ONE)
    assert cache.needs_resync()
    cache.resync()
    assert cache.take_reads() == [ONE]
    cache.mark_changed(ONE)
    assert not cache.needs_resync()
    cache.clock.now += MIN_AGE_SECONDS
    cache.resync()
    assert cache.take_reads() == [ONE]
    cache.mark_changed(ONE)
    cache.reconcile(BOTH)
    assert cache.take_reads() == [ONE], "a scrape reads it itself, however young it is"


def test_an_event_of_a_guest_that_is_not_listed_is_forgotten(cache: Cache) -> None:
    cache.mark_changed(THREE)
    assert not cache.needs_resync()
    assert cache.get_guests().keys() == {ONE, TWO}

"""Calls that may wait for a guest: who is asked, in which order, and how many may wait at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from exporter.errors import ConnectionLostError, HypervisorError
from exporter.virt.calls import WaitingHypervisor
from exporter.virt.connections import Connections
from exporter.virt.guests.calls import MAX_WAITING, OPENING_SECONDS, GuestCalls, GuestJob, Unanswered
from tests.support.hosts import Clock
from tests.support.waiting import wait_until
from tests.support.waiting_libvirt import WaitingLibvirt

TIMEOUT = 0.25


class Bench:
    """Guests that are asked for their XML, and those that answered."""

    def __init__(self) -> None:
        self.libvirt, self.clock = WaitingLibvirt(), Clock()
        self.connections = self.libvirt.make_connections(self.clock)
        self.calls = GuestCalls(self.connections, clock=self.clock, timeout=TIMEOUT)
        self.answered: list[str] = []

    def make_job(self, uuid: str, kind: str = "XML", *, may_wait_for_monitor: bool = True) -> GuestJob:
        self.libvirt.xml[uuid] = "<domain/>"

        def ask(hypervisor: WaitingHypervisor) -> None:
            hypervisor.get_domain_xml(uuid)
            self.answered.append(uuid)

        return GuestJob(uuid=uuid, kind=kind, ask=ask, may_wait_for_monitor=may_wait_for_monitor)

    def ask(self, *uuids: str, seconds: float = 20.0) -> frozenset[str]:
        return self.calls.ask([self.make_job(uuid) for uuid in uuids], seconds=seconds).slow


def test_all_guests_are_asked_over_one_connection() -> None:
    bench = Bench()
    assert bench.ask("a", "b", "c") == frozenset()
    assert bench.answered == ["a", "b", "c"]
    bench.ask("d")
    assert len(bench.libvirt.connections) == 1


def test_a_guest_that_does_not_answer_costs_the_others_nothing() -> None:
    """Shows that it keeps a connection, that it alone is named, and that it is not asked twice at once."""
    bench = Bench()
    with bench.libvirt.held("b"):
        assert bench.ask("a", "b", "c") == {"b"}
        assert bench.answered == ["a", "c"]
        assert (bench.calls.hung, len(bench.libvirt.connections)) == (1, 2)
        asked_at = bench.clock.now
        assert bench.ask("b") == {"b"}
        assert bench.clock.now == asked_at, "it is not waited for again"
        assert bench.libvirt.asked.count(("XML", "b")) == 1
    assert bench.calls.hung == 0
    assert bench.answered == ["a", "c", "b"], "an answer that comes late counts as well"
    assert bench.ask("b") == frozenset()
    assert len(bench.libvirt.connections) == 2, "connections are used again"


def test_a_guest_that_hangs_is_given_up_in_its_own_time_and_not_when_all_time_is_over() -> None:
    """Shows the time that a scrape loses to it; the connection being opened first must not count instead."""
    bench = Bench()
    with bench.libvirt.held("a"):
        for _ in range(5):  # whether the call has begun when it is first looked at, is a matter of luck
            bench.calls.clear()
            asked_at = bench.clock.now
            bench.calls.ask([bench.make_job("a", f"kind{asked_at}")], seconds=20)
            assert TIMEOUT < bench.clock.now - asked_at < 2 * TIMEOUT


class LateAttempt:
    """A batch whose guest answers in the moment in which it is given up, and whose thread ends after that."""

    is_over = False

    def __init__(self, clock: Clock) -> None:
        self.is_asked, self.may_answer = threading.Event(), threading.Event()
        self._clock = clock

    def start(self, call: Callable[[WaitingHypervisor], None], hypervisor: WaitingHypervisor) -> None:
        self._thread = threading.Thread(target=call, args=[hypervisor])
        self._thread.start()

    def wait(self, seconds: float) -> None:
        assert self.is_asked.wait(20)
        self._clock.now += seconds + 0.001

    @property
    def outcome(self) -> None:
        """What is looked at first once it was given up."""
        self.may_answer.set()
        self._thread.join(20)


def test_an_answer_in_the_moment_in_which_a_guest_is_given_up_costs_the_next_one_nothing() -> None:
    """Shows that the next one is asked, and is not taken for the one that does not answer."""
    bench = Bench()
    late, start = LateAttempt(bench.clock), bench.connections.start

    def start_late(call: Callable[[WaitingHypervisor], None], *, name: str) -> object:
        bench.connections.start = start  # type: ignore[method-assign]
        late.start(call, bench.libvirt.make_connection())
        return late

    def ask_late(_hypervisor: WaitingHypervisor) -> None:
        late.is_asked.set()
        late.may_answer.wait(20)
        bench.answered.append("a")

    bench.connections.start = start_late  # type: ignore[method-assign,assignment]
    jobs = [GuestJob(uuid="a", kind="XML", ask=ask_late), bench.make_job("b")]
    assert bench.calls.ask(jobs, seconds=20).slow == {"a"}
    assert bench.answered == ["a", "b"]


def test_a_question_may_have_a_timeout_of_its_own() -> None:
    bench = Bench()
    with bench.libvirt.held("a"):
        asked_at = bench.clock.now
        bench.calls.ask([bench.make_job("a")], seconds=20, timeout=8 * TIMEOUT)
        assert 8 * TIMEOUT < bench.clock.now - asked_at < 9 * TIMEOUT


@pytest.mark.parametrize(("does_not_queue", "is_asked_first"), [(True, 0), (False, 1)])
def test_while_a_guest_hangs_only_calls_that_would_queue_ask_first_whether_a_guest_is_busy(
    does_not_queue: bool, is_asked_first: int
) -> None:
    """Shows that a call that libvirt answers at once for a busy guest costs no second one."""
    bench = Bench()
    with bench.libvirt.held("a"):
        bench.ask("a")
        bench.calls.ask([replace(bench.make_job("b"), does_not_queue=does_not_queue)], seconds=20)
        assert bench.libvirt.asked.count(("busy", "b")) == is_asked_first
    assert "b" in bench.answered


def test_no_more_guests_are_waited_for_than_libvirtd_has_workers_to_spare() -> None:
    """Shows that the rest is not asked at all, so that libvirtd keeps most of its workers for others."""
    bench = Bench()
    frozen = [f"frozen{number}" for number in range(MAX_WAITING + 3)]
    with bench.libvirt.held(*frozen):
        bench.ask(*frozen, "well")
        assert bench.calls.hung == MAX_WAITING
        assert bench.answered == []
        asked = len(bench.libvirt.asked)
        bench.ask("well")
        assert bench.calls.hung == MAX_WAITING
        assert len(bench.libvirt.asked) == asked
    assert bench.ask("well", *frozen) == frozenset()


def test_calls_of_several_threads_have_no_more_places_together() -> None:
    """Shows that the last place is taken by a call that is under way, before it is known whether it hangs."""
    bench = Bench()
    connections = Connections(bench.libvirt.make_connection, clock=time.monotonic)
    calls = GuestCalls(connections, clock=time.monotonic, timeout=0.05)
    hung = [f"hung{number}" for number in range(MAX_WAITING - 1)]
    with bench.libvirt.delayed(*hung, "a", "b"):
        calls.ask([bench.make_job(uuid) for uuid in hung], seconds=20)
        assert calls.hung == MAX_WAITING - 1
        other = threading.Thread(
            target=calls.ask, args=[[bench.make_job("a")]], kwargs={"seconds": 20, "timeout": 20}
        )
        other.start()
        wait_until(lambda: ("XML", "a") in bench.libvirt.asked, "another thread to ask a guest")
        unanswered = calls.ask([bench.make_job("b")], seconds=20)
        assert unanswered == Unanswered(slow=frozenset(), not_asked=frozenset({"b"}))
        assert ("XML", "b") not in bench.libvirt.asked
        assert calls.may_wait, "the call under way may be answered any moment"
    other.join()
    assert calls.ask([bench.make_job("b")], seconds=20) == Unanswered(frozenset(), frozenset())


def test_a_place_that_another_thread_gives_back_is_waited_for() -> None:
    bench = Bench()
    calls = GuestCalls(bench.connections, clock=bench.clock, timeout=TIMEOUT, maximum=1)
    is_asked, may_answer = threading.Event(), threading.Event()

    def ask(_hypervisor: WaitingHypervisor) -> None:
        is_asked.set()
        may_answer.wait(20)

    first = threading.Thread(
        target=calls.ask, args=[[GuestJob(uuid="a", kind="XML", ask=ask)]], kwargs={"seconds": 20}
    )
    first.start()
    assert is_asked.wait(20)
    timer = threading.Timer(0.1, may_answer.set)
    timer.start()
    assert calls.ask([bench.make_job("b")], seconds=20) == Unanswered(frozenset(), frozenset())
    assert bench.answered == ["b"]
    for thread in (first, timer):
        thread.join()


def test_one_kind_of_calls_may_be_held_to_fewer() -> None:
    """Shows that those that are left can be told apart from those that do not answer."""
    bench = Bench()
    jobs = [bench.make_job(uuid) for uuid in ("a", "b", "c")]
    with bench.libvirt.held("a", "b"):
        unanswered = bench.calls.ask(jobs, seconds=20, may_hang=1)
        assert unanswered == Unanswered(slow=frozenset({"a"}), not_asked=frozenset({"b", "c"}))
        assert bench.calls.list_waiting("XML") == {"a"}
        assert bench.calls.list_waiting("info") == frozenset()
    assert bench.calls.list_waiting("XML") == frozenset()


def test_guests_that_answered_go_before_those_that_did_not() -> None:
    bench = Bench()
    with bench.libvirt.held("a"):
        bench.ask("a")
        bench.libvirt.let_go_of_newer("a")
        jobs = [bench.make_job("a", "sizes"), bench.make_job("b"), bench.make_job("c")]
        assert bench.calls.ask(jobs, seconds=20).slow == frozenset(), "it answers something now"
        assert bench.answered == ["b", "c", "a"]


def test_where_one_guest_hangs_the_others_are_asked_only_if_they_are_not_busy() -> None:
    """Shows that a mass freeze takes one of libvirtd's workers, and not one for each guest."""
    bench = Bench()
    bench.libvirt.busy = {"c", "d"}
    with bench.libvirt.held("a", "c", "d"):
        assert bench.ask("a", "b", "c", "d", "e") == {"a", "c", "d"}
        assert bench.answered == ["b", "e"]
        assert bench.calls.hung == 1
    assert bench.calls.hung == 0


def test_a_guest_that_never_answered_is_asked_first_whether_it_is_busy() -> None:
    """Shows that an exporter that starts beside frozen guests leaves no call waiting where others hang."""
    bench = Bench()
    bench.libvirt.busy = {"a"}
    jobs = [replace(bench.make_job(uuid), is_first=True) for uuid in ("a", "b")]
    assert bench.calls.ask(jobs, seconds=20).slow == {"a"}
    assert bench.libvirt.take_asked() == [("busy", "a"), ("busy", "b"), ("XML", "b")]


def test_an_answer_that_waits_for_no_guest_does_not_show_that_it_answers_again() -> None:
    bench = Bench()
    bench.libvirt.busy = {"a"}
    bench.calls.ask([replace(bench.make_job("a"), is_first=True)], seconds=20)
    bench.calls.ask([bench.make_job("a", "info", may_wait_for_monitor=False)], seconds=20)
    assert bench.calls.slow == {"a"}


def test_in_health_no_guest_is_asked_whether_it_is_busy() -> None:
    bench = Bench()
    bench.ask("a", "b")
    assert {call for call, _ in bench.libvirt.asked} == {"XML"}


def test_a_guest_that_vanished_while_it_was_slow_is_no_reason_to_ask_the_others_twice() -> None:
    """Shows that a guest that was destroyed while frozen costs later reads nothing once its call ended."""
    bench = Bench()
    with bench.libvirt.held("a"):
        bench.ask("a", "b")
        bench.calls.forget_others({"b"})
        bench.libvirt.take_asked()
        bench.ask("b")
        assert bench.libvirt.take_asked() == [("busy", "b"), ("XML", "b")], "its call still takes a worker"
    bench.ask("b")
    assert bench.libvirt.take_asked() == [("XML", "b")]


def test_what_waits_for_no_monitor_is_asked_of_a_busy_guest_too() -> None:
    bench = Bench()
    bench.libvirt.busy = {"a"}
    with bench.libvirt.held("a"):
        bench.ask("a")
        bench.libvirt.let_go_of_newer("a")
        assert bench.calls.ask([bench.make_job("a", "sizes")], seconds=20).slow == {"a"}
        assert bench.answered == []
        bench.calls.ask([bench.make_job("a", "info", may_wait_for_monitor=False)], seconds=20)
        assert bench.answered == ["a"]


def test_a_guest_that_hangs_for_one_thing_may_be_asked_for_another() -> None:
    bench = Bench()
    with bench.libvirt.held("a"):
        bench.ask("a")
        bench.libvirt.let_go_of_newer("a")
        bench.calls.ask([bench.make_job("a", "info", may_wait_for_monitor=False)], seconds=20)
        assert bench.answered == ["a"]


def test_when_the_time_is_over_the_rest_is_not_asked() -> None:
    bench = Bench()
    jobs = [bench.make_job("a"), bench.make_job("b")]
    assert bench.calls.ask(jobs, seconds=0) == Unanswered(slow=frozenset(), not_asked=frozenset({"a", "b"}))
    assert bench.libvirt.asked == []


def test_a_lost_connection_is_replaced_once_and_then_an_error() -> None:
    """Shows that a restarted libvirtd costs nothing, and that no guest is asked twice for that."""
    bench = Bench()
    bench.ask("a")
    lost = ConnectionLostError("closed")
    job = bench.make_job("b")
    bench.libvirt.xml["b"] = lost
    with pytest.raises(ConnectionLostError):
        bench.calls.ask([job, bench.make_job("c")], seconds=20)
    assert bench.libvirt.take_asked() == [("XML", "a"), ("XML", "b"), ("XML", "b")]


def test_a_connection_that_does_not_open_is_no_guests_fault() -> None:
    """Shows that nobody is said to be slow, that it costs a second, and that the connection is used later."""
    bench = Bench()
    with bench.libvirt.held("connect"):
        asked_at = bench.clock.now
        jobs = [bench.make_job("a"), bench.make_job("b")]
        unanswered = bench.calls.ask(jobs, seconds=20)
        assert unanswered == Unanswered(slow=frozenset(), not_asked=frozenset({"a", "b"}))
        assert OPENING_SECONDS <= bench.clock.now - asked_at < OPENING_SECONDS + TIMEOUT
        assert (bench.calls.hung, bench.calls.slow) == (0, frozenset())
    assert bench.answered == [], "what was not asked in time is not asked late"
    assert bench.ask("a", "b") == frozenset()
    assert bench.answered == ["a", "b"]
    assert len(bench.libvirt.connections) == 1


def test_without_a_connection_to_spare_nothing_is_asked() -> None:
    bench = Bench()
    bench.connections = bench.libvirt.make_connections(bench.clock, maximum=0)
    bench.calls = GuestCalls(bench.connections, clock=bench.clock)
    assert bench.ask("a") == frozenset()
    with pytest.raises(HypervisorError, match="0 calls to libvirt are already waiting for an answer"):
        bench.connections.open()

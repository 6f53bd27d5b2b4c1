"""Calls whose answer may take long: who waits how long, and what counts meanwhile."""

from __future__ import annotations

import contextlib

import pytest

from exporter.errors import HypervisorError, NoAnswerError
from exporter.model import DomainRecord
from exporter.virt.calls import WaitingHypervisor
from exporter.virt.refresh_timeout import SHORT_SECONDS, RefreshTimeout
from exporter.virt.slow_calls import Answer, SlowCall
from tests.support.hosts import Clock
from tests.support.records import make_domain
from tests.support.waiting import wait_until
from tests.support.waiting_libvirt import WaitingLibvirt

ONE, TWO = (make_domain(1),), (make_domain(2),)
TIMEOUT = 0.25


class Bench:
    """A list of domains that may take long."""

    def __init__(self, *, max_age: float = 60.0) -> None:
        self.libvirt, self.clock = WaitingLibvirt(), Clock()
        self.libvirt.domains = ONE
        self.call: SlowCall[WaitingHypervisor, tuple[DomainRecord, ...]] = SlowCall(
            self.libvirt.make_connections(self.clock),
            lambda hypervisor: hypervisor.list_domains(),
            what="the list",
            max_age=max_age,
            clock=self.clock,
            timeout=TIMEOUT,
        )

    def make_timeout(self) -> RefreshTimeout:
        return RefreshTimeout(clock=self.clock)

    def get(self) -> Answer[tuple[DomainRecord, ...]]:
        """Get what a refresh gets."""
        return self.call.get(self.make_timeout())


def test_an_answer_in_time_is_the_present_one() -> None:
    bench = Bench()
    assert bench.get() == Answer(ONE, 0.0)
    bench.libvirt.domains = TWO
    assert bench.get() == Answer(TWO, 0.0)
    assert bench.call.hung == 0


def test_while_it_is_not_answered_the_last_answer_counts_and_only_one_get_waits() -> None:
    """Shows that no second call is made beside the first, and that the answer's age is told."""
    bench = Bench()
    bench.get()
    with bench.libvirt.held("list"):
        asked_at = bench.clock.now
        first = bench.get()
        assert TIMEOUT < bench.clock.now - asked_at < 2 * TIMEOUT, "the first one waits as long as it may"
        bench.clock.now = asked_at + 7
        second = bench.get()
        assert bench.clock.now == asked_at + 7, "the second one does not wait"
        assert first.value == second.value == ONE
        assert first.age_seconds == pytest.approx(TIMEOUT, abs=0.01)
        assert second.age_seconds == 7
        assert bench.call.hung == 1
        assert bench.libvirt.asked == [("list", "")] * 2
    assert bench.call.hung == 0


def test_what_was_forgotten_counts_for_nothing_be_it_under_way_or_not() -> None:
    """Shows that no second call is made beside one that hangs, though its answer is not wanted any more."""
    bench = Bench()
    bench.get()
    with bench.libvirt.held("list"):
        bench.get()
        bench.call.forget()
        with pytest.raises(NoAnswerError, match="no answer from libvirt for"):
            bench.get()
        assert (bench.call.hung, len(bench.libvirt.asked)) == (1, 2)
    bench.libvirt.domains = TWO
    assert bench.call.hung == 0
    assert bench.get() == Answer(TWO, 0.0)
    assert len(bench.libvirt.asked) == 3
    bench.call.forget()
    with bench.libvirt.held("list"), pytest.raises(NoAnswerError):
        bench.get()


def test_an_answer_that_came_too_late_is_not_taken_for_the_present_one() -> None:
    bench = Bench()
    with bench.libvirt.held("list"), pytest.raises(NoAnswerError, match="the list: no answer from libvirt"):
        bench.get()
    bench.libvirt.domains = TWO
    assert bench.get() == Answer(TWO, 0.0)
    with bench.libvirt.held("list"):
        assert bench.get().value == TWO


def test_a_late_answer_counts_as_the_last_one() -> None:
    bench = Bench()
    with bench.libvirt.held("list"), pytest.raises(NoAnswerError):
        bench.get()
    with bench.libvirt.held("list"):
        assert bench.get().value == ONE


def test_after_an_answer_that_came_too_late_the_next_call_is_waited_for_a_moment_only() -> None:
    """Shows that a list that takes three seconds every time costs every refresh but the first a moment."""
    bench = Bench()
    for waits in (TIMEOUT, SHORT_SECONDS, SHORT_SECONDS):
        with bench.libvirt.held("list"):
            asked_at = bench.clock.now
            with contextlib.suppress(NoAnswerError):
                bench.get()
            assert bench.clock.now - asked_at == pytest.approx(waits, abs=0.01)
            bench.clock.now = asked_at + 3
    bench.libvirt.domains = TWO
    assert bench.get() == Answer(TWO, 0.0)
    with bench.libvirt.held("list"):
        asked_at = bench.clock.now
        bench.get()
        assert bench.clock.now - asked_at == pytest.approx(TIMEOUT, abs=0.01), "it has shown that it is well"


def test_a_call_that_was_not_waited_for_as_long_as_it_may_take_is_not_late() -> None:
    """Shows that a list that takes a while every time is not left out for ever once it was late."""
    bench = Bench()
    with bench.libvirt.held("list"), contextlib.suppress(NoAnswerError):
        bench.get()
    with bench.libvirt.held("list"):
        bench.get()
        assert bench.clock.now - 1000 < 2 * TIMEOUT
    with bench.libvirt.held("list"):
        asked_at = bench.clock.now
        bench.get()
        assert bench.clock.now - asked_at == pytest.approx(TIMEOUT, abs=0.01)


def test_an_answer_is_as_old_as_its_question_however_late_it_came() -> None:
    bench = Bench()
    with bench.libvirt.held("list"):
        asked_at = bench.clock.now
        with pytest.raises(NoAnswerError):
            bench.get()
    bench.clock.now = asked_at + 15
    with bench.libvirt.held("list"):
        answer = bench.get()
        assert answer.value == ONE
        assert answer.age_seconds == pytest.approx(15 + SHORT_SECONDS, abs=0.01)


def test_what_was_begun_in_a_refresh_is_its_present_answer_and_a_late_one_of_the_next() -> None:
    bench = Bench()
    refresh_timeout = bench.make_timeout()
    bench.call.begin(refresh_timeout)
    bench.call.begin(refresh_timeout)
    assert bench.call.get(refresh_timeout) == Answer(ONE, 0.0)
    bench.call.begin(refresh_timeout)
    assert len(bench.libvirt.asked) == 1
    with bench.libvirt.held("list"):
        bench.call.begin(bench.make_timeout())
        wait_until(lambda: len(bench.libvirt.asked) == 2, "the call")
    bench.libvirt.domains = TWO
    bench.clock.now += 15
    assert bench.get() == Answer(TWO, 0.0)
    assert len(bench.libvirt.asked) == 3


def test_the_last_answer_counts_no_longer_than_it_may() -> None:
    bench = Bench(max_age=10)
    bench.get()
    asked_at = bench.clock.now
    with bench.libvirt.held("list"):
        assert bench.get().value == ONE
        bench.clock.now = asked_at + 10
        assert bench.get() == Answer(ONE, 10)
        bench.clock.now += 1
        with pytest.raises(NoAnswerError, match=r"for 11 s, and the last answer is older than 10 s"):
            bench.get()
        bench.call.configure(max_age=60)
        assert bench.get() == Answer(ONE, 11)


def test_after_a_reconnection_it_is_asked_anew_and_the_last_answer_counts_on() -> None:
    bench = Bench()
    bench.get()
    with bench.libvirt.held("list"):
        bench.get()
        bench.libvirt.let_go_of_newer("list")
        bench.libvirt.domains = TWO
        bench.call.abandon()
        assert bench.get() == Answer(TWO, 0.0)
    bench.call.abandon()
    with bench.libvirt.held("list"):
        assert bench.get().value == TWO


def test_an_error_is_raised_and_the_next_get_asks_again() -> None:
    bench = Bench()
    bench.libvirt.domains = HypervisorError("no memory")
    with pytest.raises(HypervisorError, match="no memory"):
        bench.get()
    bench.libvirt.domains = TWO
    assert bench.get() == Answer(TWO, 0.0)

"""Calls whose answer may take long: who waits how long, and what counts meanwhile."""

from __future__ import annotations

import time

import pytest

from exporter.errors import HypervisorError, NoAnswerError
from exporter.model import DomainRecord
from exporter.virt.connections import Connections, WaitingHypervisor
from exporter.virt.slow_calls import Answer, SlowCall
from tests.support.records import make_domain
from tests.support.waiting import wait_until
from tests.support.waiting_libvirt import WaitingLibvirt

ONE, TWO = (make_domain(1),), (make_domain(2),)


class Bench:
    """A list of domains that may take long."""

    def __init__(self, *, max_age: float = 60.0) -> None:
        self.libvirt = WaitingLibvirt()
        self.libvirt.domains = ONE
        self.call: SlowCall[WaitingHypervisor, tuple[DomainRecord, ...]] = SlowCall(
            Connections(self.libvirt.make_connection, clock=time.monotonic),
            lambda hypervisor: hypervisor.list_domains(),
            what="the list",
            max_age=max_age,
            clock=time.monotonic,
            timeout=0.2,
        )


def test_an_answer_in_time_is_the_present_one() -> None:
    bench = Bench()
    assert bench.call.get() == Answer(ONE, 0.0)
    bench.libvirt.domains = TWO
    assert bench.call.get() == Answer(TWO, 0.0)
    assert bench.call.hung == 0


def test_while_it_is_not_answered_the_last_answer_counts_and_only_one_get_waits() -> None:
    """Shows that no second call is made beside the first, and that the answer's age is told."""
    bench = Bench()
    bench.call.get()
    with bench.libvirt.held("list"):
        first = bench.call.get()
        started = time.monotonic()
        second = bench.call.get()
        assert time.monotonic() - started < 0.1
        assert first.value == second.value == ONE
        assert 0.2 <= first.age_seconds < second.age_seconds
        assert bench.call.hung == 1
        assert bench.libvirt.asked == [("list", "")] * 2
    wait_until(lambda: not bench.call.hung, "the answer")


def test_an_answer_that_came_too_late_is_not_taken_for_the_present_one() -> None:
    bench = Bench()
    with bench.libvirt.held("list"), pytest.raises(NoAnswerError, match="the list: no answer from libvirt"):
        bench.call.get()
    wait_until(lambda: not bench.call.hung, "the answer")
    bench.libvirt.domains = TWO
    assert bench.call.get() == Answer(TWO, 0.0)
    with bench.libvirt.held("list"):
        assert bench.call.get().value == TWO


def test_a_late_answer_counts_as_the_last_one() -> None:
    bench = Bench()
    with bench.libvirt.held("list"), pytest.raises(NoAnswerError):
        bench.call.get()
    wait_until(lambda: not bench.call.hung, "the answer")
    with bench.libvirt.held("list"):
        assert bench.call.get().value == ONE


def test_the_last_answer_counts_no_longer_than_it_may() -> None:
    bench = Bench(max_age=0.1)
    bench.call.get()
    with bench.libvirt.held("list"), pytest.raises(NoAnswerError, match=r"is older than 0\.1 s"):
        bench.call.get()
    bench.call.configure(max_age=60)
    assert bench.call.get().value == ONE


def test_after_a_reconnection_it_is_asked_anew_and_the_last_answer_counts_on() -> None:
    bench = Bench()
    bench.call.get()
    with bench.libvirt.held("list"):
        bench.call.get()
        bench.libvirt.let_go_of_newer("list")
        bench.libvirt.domains = TWO
        bench.call.abandon()
        assert bench.call.get() == Answer(TWO, 0.0)
    bench.call.abandon()
    with bench.libvirt.held("list"):
        assert bench.call.get().value == TWO


def test_an_error_is_raised_and_the_next_get_asks_again() -> None:
    bench = Bench()
    bench.libvirt.domains = HypervisorError("no memory")
    with pytest.raises(HypervisorError, match="no memory"):
        bench.call.get()
    bench.libvirt.domains = TWO
    assert bench.call.get() == Answer(TWO, 0.0)

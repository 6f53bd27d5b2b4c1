"""A second for all that hangs in one refresh."""

from __future__ import annotations

import pytest

from exporter.attempt import Success
from exporter.virt.refresh_timeout import SHORT_SECONDS, TOTAL_SECONDS, RefreshTimeout
from tests.support.hosts import Clock
from tests.support.waiting_libvirt import WaitingLibvirt


class Bench:
    """Calls that a refresh waits for."""

    def __init__(self) -> None:
        self.libvirt, self.clock = WaitingLibvirt(), Clock()
        self.connections = self.libvirt.make_connections(self.clock)
        self.begun = 0
        self.refresh_timeout = RefreshTimeout(clock=self.clock, begin_others=self._begin_others)

    def _begin_others(self) -> None:
        self.begun += 1

    def wait(self, *, timeout: float = TOTAL_SECONDS) -> tuple[Success[object] | None, float]:
        """Make a call and return what came of it, and how long that took."""
        began_at = self.clock.now
        call = self.connections.start(lambda connection: connection.list_domains(), name="list")
        outcome = self.refresh_timeout.wait(call, timeout=timeout)
        assert outcome is None or isinstance(outcome, Success)
        return outcome, self.clock.now - began_at


def test_calls_that_hang_one_after_the_other_share_a_second() -> None:
    """Shows that the first one has all of it, and that each later one still has a moment."""
    bench = Bench()
    with bench.libvirt.held("list"):
        for seconds in (TOTAL_SECONDS, SHORT_SECONDS, SHORT_SECONDS):
            outcome, waited = bench.wait()
            assert outcome is None
            assert waited == pytest.approx(seconds, abs=0.01)
    assert bench.refresh_timeout.left == 0
    assert bench.wait() == (Success(()), 0.0)


def test_what_others_want_is_begun_once_a_call_takes_long() -> None:
    bench = Bench()
    bench.wait()
    with bench.libvirt.held("list"):
        bench.wait(timeout=SHORT_SECONDS)
        assert bench.begun == 0
        bench.wait()
        assert bench.begun == 1


def test_a_call_that_began_beside_another_one_is_not_waited_for_anew() -> None:
    bench = Bench()
    with bench.libvirt.held("list"):
        call = bench.connections.start(lambda connection: connection.list_domains(), name="list")
        bench.wait()
        began_at = bench.clock.now
        assert bench.refresh_timeout.wait(call, timeout=TOTAL_SECONDS) is None
        assert bench.clock.now - began_at == pytest.approx(0, abs=0.02)

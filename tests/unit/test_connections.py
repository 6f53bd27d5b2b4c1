"""Connections that are lent: one call each, and no more of them than may be."""

from __future__ import annotations

import threading
import time

import pytest

from exporter.errors import ConnectionLostError, DaemonError, HypervisorError, NoAnswerError
from exporter.virt.calls import WaitingHypervisor
from exporter.virt.connections import MAX_CONNECTIONS, Connections
from tests.support.hosts import Clock
from tests.support.waiting import wait_until
from tests.support.waiting_libvirt import WaitingLibvirt


def make_connections(libvirt: WaitingLibvirt) -> Connections:
    return Connections(libvirt.make_connection, clock=time.monotonic)


def list_domains(hypervisor: WaitingHypervisor) -> object:
    return hypervisor.list_domains()


def test_a_connection_is_lent_again_once_its_call_is_answered() -> None:
    libvirt = WaitingLibvirt()
    connections = make_connections(libvirt)
    for _ in range(3):
        connections.run(list_domains)
    assert len(libvirt.connections) == 1
    assert connections.calls == 3


def test_each_call_that_waits_has_a_connection_of_its_own_and_there_is_a_bound() -> None:
    """Shows that nothing waits behind a call that hangs, and that the next beyond the bound is refused."""
    libvirt = WaitingLibvirt()
    connections = make_connections(libvirt)
    with libvirt.held("list"):
        attempts = [connections.start(list_domains, name="list") for _ in range(MAX_CONNECTIONS)]
        wait_until(lambda: len(libvirt.asked) == MAX_CONNECTIONS, "the calls")
        assert len(libvirt.connections) == MAX_CONNECTIONS
        with pytest.raises(NoAnswerError, match=f"{MAX_CONNECTIONS} calls to libvirt are already waiting"):
            connections.run(list_domains)
    assert all(attempt.is_over for attempt in attempts)
    open_ones = [connection for connection in libvirt.connections if connection.is_open]
    assert len(open_ones) == 2, "few are kept for later"
    assert connections.calls == MAX_CONNECTIONS, "no call is forgotten with its connection"


def test_a_call_is_waited_for_as_long_as_is_said_and_no_longer() -> None:
    """Shows in real time what other tests play on a clock of theirs; the call would last for 20 s."""
    libvirt = WaitingLibvirt()
    connections = make_connections(libvirt)
    with libvirt.held("list"):
        attempt = connections.start(list_domains, name="list")
        started = time.monotonic()
        assert attempt.wait(0.2) is None
        assert 0.2 <= time.monotonic() - started < 15
        assert not attempt.is_over
    assert attempt.wait(0) is not None


@pytest.mark.parametrize("error", [ConnectionLostError("closed"), DaemonError("client socket is closed")])
def test_a_call_on_a_connection_that_was_lost_is_made_once_more(error: HypervisorError) -> None:
    """Shows that a restart of libvirtd, or of a daemon behind the connection, costs nobody an answer."""
    libvirt = WaitingLibvirt()
    connections = make_connections(libvirt)
    connections.open()
    answers = [error, None]

    def call(hypervisor: WaitingHypervisor) -> str:
        error = answers.pop(0)
        if error is not None:
            raise error
        return "answer"

    assert connections.run(call) == "answer"
    assert answers == []


def test_a_call_that_hung_before_its_connection_was_lost_is_not_repeated() -> None:
    """A host that hangs would let the new connection hang, too, outside the limit of openings."""
    libvirt, clock = WaitingLibvirt(), Clock()
    connections = Connections(libvirt.make_connection, clock=clock)
    connections.open()
    calls = 0

    def call(_hypervisor: WaitingHypervisor) -> None:
        nonlocal calls
        calls += 1
        clock.advance(20)
        raise ConnectionLostError("keep-alive")

    with pytest.raises(ConnectionLostError):
        connections.run(call)
    assert calls == 1


def test_a_new_connection_that_is_lost_is_an_error() -> None:
    libvirt = WaitingLibvirt()
    libvirt.domains = ConnectionLostError("closed")
    with pytest.raises(ConnectionLostError):
        make_connections(libvirt).run(list_domains)
    assert libvirt.asked == [("list", "")]


def test_closed_is_final() -> None:
    """Shows that a call that comes back after the end leaves no connection open."""
    libvirt = WaitingLibvirt()
    connections = make_connections(libvirt)
    connections.open()
    with libvirt.held("list"):
        attempt = connections.start(list_domains, name="list")
        wait_until(lambda: libvirt.asked, "the call")
        connections.close()
    assert attempt.is_over
    assert not any(connection.is_open for connection in libvirt.connections)
    with pytest.raises(ConnectionLostError):
        connections.open()


def test_a_call_that_loses_its_connection_after_the_end_opens_no_other_one() -> None:
    libvirt = WaitingLibvirt()
    connections = make_connections(libvirt)
    connections.open()

    def call(_hypervisor: WaitingHypervisor) -> None:
        connections.close()
        raise ConnectionLostError("libvirtd ended")

    with pytest.raises(ConnectionLostError, match="closed"):
        connections.run(call)
    assert not any(connection.is_open for connection in libvirt.connections)


def test_openings_that_hang_are_told() -> None:
    libvirt = WaitingLibvirt()
    connections = make_connections(libvirt)
    connections.open()
    libvirt.connections[0].hung_openings = 3
    assert connections.hung_openings == 3
    entered, leave = threading.Event(), threading.Event()

    def call(_hypervisor: WaitingHypervisor) -> None:
        entered.set()
        leave.wait(20)

    connections.start(call, name="call")
    assert entered.wait(20)
    assert connections.hung_openings == 3, "of a connection that is lent, too"
    leave.set()

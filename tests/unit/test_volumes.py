"""Sizes of storage volumes: asked one after the other, and not while an answer is missing."""

from __future__ import annotations

import time

import pytest

from exporter.errors import ConnectionLostError, DaemonError, GoneError, HypervisorError
from exporter.model import ImageSize
from exporter.virt.connections import Connections
from exporter.virt.storage.volumes import VolumeSizes
from tests.support.hosts import Clock
from tests.support.records import GIB
from tests.support.waiting_libvirt import WaitingLibvirt

SIZE = ImageSize(virtual_bytes=8 * GIB, allocated_bytes=GIB)


class Bench:
    """Volumes "/a", "/b" and "/c", which a test may hold."""

    def __init__(self) -> None:
        self.libvirt = WaitingLibvirt()
        self.libvirt.volumes = {"/a": SIZE, "/b": SIZE, "/c": SIZE}
        self.volumes = VolumeSizes(self.libvirt.make_connections(Clock()))

    def ask(self) -> set[str]:
        return set(self.volumes.ask(["/a", "/b", "/c"]))


def test_every_volume_that_libvirt_has_is_known_and_one_connection_does_for_all() -> None:
    bench = Bench()
    bench.libvirt.volumes["/b"] = GoneError("no volume")
    assert bench.ask() == {"/a", "/c"}
    assert len(bench.libvirt.connections) == 1


def test_nothing_is_asked_for_nothing() -> None:
    bench = Bench()
    assert bench.volumes.ask([]) == {}
    assert bench.libvirt.connections == []


def test_what_hangs_keeps_what_was_answered_and_is_not_asked_again_before_it_answers() -> None:
    """Shows that a storage pool whose file system hangs costs one connection and one of libvirt's workers."""
    bench = Bench()
    with bench.libvirt.held("/b"):
        assert bench.ask() == {"/a"}
        assert bench.volumes.hung == 1
        assert bench.ask() == set()
        assert len(bench.libvirt.take_asked()) == 2
    assert bench.volumes.hung == 0
    assert bench.libvirt.take_asked() == [], "what was given up is not gone on with"
    assert bench.ask() == {"/a", "/b", "/c"}


def test_slow_answers_are_waited_for_as_long_as_they_come() -> None:
    """Shows that the time is each call's own, not that of all of them."""
    bench = Bench()
    connections = Connections(bench.libvirt.make_connection, clock=time.monotonic)
    bench.volumes = VolumeSizes(connections, timeout=1.0)
    answer = bench.libvirt.answer

    def answer_slowly(*arguments: object) -> object:
        # Three of them take longer than one may, and on a busy machine one may take twice as long as here.
        time.sleep(0.45)
        return answer(*arguments)  # type: ignore[arg-type]

    bench.libvirt.answer = answer_slowly  # type: ignore[method-assign,assignment]
    assert bench.ask() == {"/a", "/b", "/c"}


@pytest.mark.parametrize(
    "error", [ConnectionLostError("closed"), DaemonError("virtstoraged cannot be reached")]
)
def test_a_daemon_that_is_not_there_is_no_error_here(error: HypervisorError) -> None:
    """Shows that the guests are left to tell; what counts storage pools tells what is wrong."""
    bench = Bench()
    bench.libvirt.volumes["/b"] = error
    assert bench.ask() == {"/a"}
    assert not bench.volumes.hung

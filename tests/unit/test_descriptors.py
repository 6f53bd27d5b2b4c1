"""File descriptors: how many are needed, and that connections are opened only while some are free."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from exporter.cli import make_limits
from exporter.config.settings import Config, HypervisorConfig
from exporter.descriptors import (
    OPENING_DESCRIPTORS,
    WAIT_SECONDS,
    Descriptors,
    DescriptorsError,
    check_limit,
    count_needed,
)
from exporter.errors import ConnectError
from exporter.virt.hypervisor import LibvirtHypervisor, start_event_loop

RAISE = "raise the hard limit (ulimit -Hn, or LimitNOFILE= in a unit of systemd)"


@contextmanager
def limit(free: int) -> Iterator[None]:
    """Allow as many more descriptors as that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = [int(name) for name in os.listdir("/proc/self/fd")]  # noqa: PTH208 # and one for looking
    highest = max(used)
    holes = [os.open(os.devnull, os.O_RDONLY) for _ in range(highest + 1 - len(used))]
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for hole in holes:
            os.close(hole)


def test_a_limit_that_is_too_low_names_what_is_there_and_what_is_needed() -> None:
    needed = count_needed(100) + OPENING_DESCRIPTORS
    check_limit(needed, hypervisors=100, is_serving=False)
    for_them = f"{needed} are needed for 100 hypervisors that have a daemon"
    message = f"too few file descriptors: {needed - 1} are allowed, and {for_them}: {RAISE}"
    with pytest.raises(DescriptorsError) as error:
        check_limit(needed - 1, hypervisors=100, is_serving=False)
    assert str(error.value) == message
    with pytest.raises(DescriptorsError, match="36 are needed: raise"):
        check_limit(35, hypervisors=0, is_serving=True)


@pytest.mark.parametrize(
    ("allowed", "hypervisors", "clients"), [(8192, 1, 512), (8192, 1200, 512), (64, 0, 24), (42, 1, 10)]
)
def test_clients_leave_enough_for_hypervisors(allowed: int, hypervisors: int, clients: int) -> None:
    config = Config(hypervisors=hypervisors * (HypervisorConfig(uri="qemu:///system"),))
    assert make_limits(config, allowed).connections == clients
    assert clients + count_needed(hypervisors) + OPENING_DESCRIPTORS <= allowed


def test_where_they_may_not_suffice_for_all_hypervisors_clients_still_have_an_eighth() -> None:
    config = Config(hypervisors=300 * (HypervisorConfig(uri="qemu:///system"),))
    assert make_limits(config, 1024).connections == 128


def test_serving_begins_with_too_few_for_all_hypervisors_and_a_warning() -> None:
    """Not all may be connected at once. One that cannot be is an error of that one."""
    warning = check_limit(1024, hypervisors=300, is_serving=True)
    assert warning.startswith("too few file descriptors: 1024 are allowed, and 1836 are needed for 300 ")
    assert check_limit(1024, hypervisors=100, is_serving=True) == ""
    with pytest.raises(DescriptorsError, match="41 are allowed, and 42 are needed for 1 hypervisors"):
        check_limit(41, hypervisors=300, is_serving=True)


def test_an_opening_that_hangs_needs_no_more_than_it_has() -> None:
    now = 0.0
    descriptors = Descriptors(clock=lambda: now)
    with limit(OPENING_DESCRIPTORS + 3), descriptors.reserved():
        now = WAIT_SECONDS
        with descriptors.reserved():
            pass


def test_a_connection_is_opened_while_there_are_enough() -> None:
    with limit(OPENING_DESCRIPTORS + 1), Descriptors().reserved():
        pass


def test_no_connection_is_opened_with_the_last_descriptors() -> None:
    """GLib would end the process."""
    few = limit(OPENING_DESCRIPTORS - 2)
    with few, pytest.raises(DescriptorsError) as error, Descriptors().reserved():
        pass
    assert str(error.value).startswith("no file descriptor is free for another connection: ")
    with limit(0), pytest.raises(DescriptorsError), Descriptors().reserved():
        pass


def test_who_opens_a_connection_waits_for_others_that_do() -> None:
    descriptors = Descriptors()
    order: list[str] = []

    def open_another() -> None:
        with descriptors.reserved():
            order.append("other")

    with limit(OPENING_DESCRIPTORS + 3):
        with descriptors.reserved():
            other = threading.Thread(target=open_another)
            other.start()
            other.join(0.2)
            order.append("first")
        other.join()
    assert order == ["first", "other"]


def test_a_hypervisor_for_which_none_is_free_cannot_be_reached_and_no_more() -> None:
    """Shows that the process lives on. Nobody listens on this socket."""
    start_event_loop()
    hypervisor = LibvirtHypervisor("qemu:///system?socket=/nonexistent")
    with limit(2), pytest.raises(ConnectError, match="no file descriptor is free"):
        hypervisor.connect()
    with pytest.raises(ConnectError, match="No such file or directory"):
        hypervisor.connect()

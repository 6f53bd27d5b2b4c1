"""Tests' own means to hold threads up: nothing is left of these when a test goes on."""

from __future__ import annotations

import threading
import time

import pytest

from exporter.virt.calls import WaitingHypervisor
from exporter.virt.connections import Connections
from tests.support.holding import Hold
from tests.support.hosts import Driver
from tests.support.waiting import wait_until
from tests.support.waiting_libvirt import WaitingLibvirt


def test_a_call_to_libvirt_that_was_held_has_come_to_its_end_when_the_block_is_left() -> None:
    """Shows that what a call does with its late answer is done, however slow the machine is."""
    libvirt = WaitingLibvirt()

    def list_slowly(hypervisor: WaitingHypervisor) -> None:
        hypervisor.list_domains()
        time.sleep(0.1)

    with libvirt.held("list"):
        attempt = Connections(libvirt.make_connection, clock=time.monotonic).start(list_slowly, name="list")
        wait_until(lambda: libvirt.asked, "the call")
    assert attempt.is_over


def test_a_read_of_a_hypervisor_that_was_held_has_come_to_its_end_when_the_block_is_left() -> None:
    driver, ended = Driver(), threading.Event()

    def read_slowly() -> None:
        driver.get_available_resource()
        time.sleep(0.1)
        ended.set()

    with driver.held():
        threading.Thread(target=read_slowly).start()
        wait_until(lambda: driver.reads, "the read")
    assert ended.is_set()


def test_a_thread_that_does_not_end_and_one_that_is_not_let_go_are_errors() -> None:
    hold, may_end = Hold(timeout=0.05), threading.Event()

    def enter_and_stay() -> None:
        hold.enter()
        with pytest.raises(TimeoutError, match="not let go for"):
            hold.wait()
        may_end.wait(20)

    thread = threading.Thread(target=enter_and_stay, name="late one")
    thread.start()
    wait_until(lambda: hold.threads, "the thread")
    with pytest.raises(TimeoutError, match="thread 'late one' was let go and has not ended"):
        hold.join()
    may_end.set()
    thread.join()

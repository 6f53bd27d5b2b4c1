"""Connections that are never answered, late, or refused, on a clock that is moved by hand."""

from __future__ import annotations

import queue
import threading

import pytest

from exporter.virt.opening import Opener, OpeningTimeoutError
from tests.support.hosts import Clock
from tests.support.waiting import wait_until


class Far:
    """The other end: answers each request to open when a test says so."""

    def __init__(self) -> None:
        self.requests = 0
        self.answers: queue.Queue[str | Exception] = queue.Queue()

    def open(self) -> str:
        self.requests += 1
        answer = self.answers.get(timeout=20)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_a_connection_that_is_there_at_once_is_returned() -> None:
    far, _clock, opener = make_opener(timeout=20)
    far.answers.put("connection")
    assert opener.open() == "connection"
    assert opener.hung == 0


def test_what_opening_raises_is_raised_and_the_next_call_tries_again() -> None:
    far, _clock, opener = make_opener(timeout=20)
    far.answers.put(ConnectionRefusedError("nobody"))
    with pytest.raises(ConnectionRefusedError, match="nobody"):
        opener.open()
    far.answers.put("connection")
    assert opener.open() == "connection"
    assert far.requests == 2


def test_one_that_hangs_is_waited_for_again_and_not_asked_twice() -> None:
    """Shows that a hypervisor that hangs costs one thread, however often it is tried."""
    far, _clock, opener = make_opener()
    for _ in range(5):
        with pytest.raises(OpeningTimeoutError, match=r"no answer to opening a connection for 0\.05 s"):
            opener.open()
    wait_until(lambda: far.requests, "the request")
    assert (far.requests, opener.hung) == (1, 1)
    far.answers.put("late")
    wait_until(lambda: opener.hung == 0, "the late answer")
    assert opener.open() == "late"
    assert far.requests == 1


def test_another_one_is_started_beside_it_after_a_wait_that_doubles() -> None:
    """Shows that a connection that will never be answered is not waited for alone."""
    far, clock, opener = make_opener(timeout=0.004)
    started = []
    for tick in range(100):
        clock.now = 1000 + tick * 0.004001
        with pytest.raises(OpeningTimeoutError):
            opener.open()
        if opener.hung > len(started):
            started.append(tick)
    assert started == [0, 2, 6, 14, 30, 62]
    answer_all(far, opener)


def test_there_are_sixteen_at_most() -> None:
    far, clock, opener = make_opener(timeout=0.001)
    for _ in range(40):
        with pytest.raises(OpeningTimeoutError):
            opener.open()
        clock.now += 3600
    assert opener.hung == 16
    answer_all(far, opener)


def answer_all(far: Far, opener: Opener[str]) -> None:
    """Leave no thread behind."""
    for _ in range(opener.hung):
        far.answers.put(ConnectionResetError())
    wait_until(lambda: opener.hung == 0 and not list_own_threads(), "every thread to end")


def list_own_threads() -> list[threading.Thread]:
    """Return the threads that open a connection; other tests may have left others."""
    return [thread for thread in threading.enumerate() if thread.name == "open connection"]


def make_opener(*, timeout: float = 0.05) -> tuple[Far, Clock, Opener[str]]:
    far, clock = Far(), Clock()
    return far, clock, Opener(far.open, clock=clock, timeout=timeout)

"""Calls in threads of their own: an idle thread makes the next call; one that hangs keeps only its own."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable

import pytest

from exporter.attempt import Threads
from exporter.errors import ThreadLimitError
from tests.support.waiting import wait_until

_LONG_SECONDS = 600.0


def make_threads(*, keep: int = 8, idle_seconds: float = _LONG_SECONDS) -> Threads:
    return Threads(keep=keep, idle_seconds=idle_seconds)


def run(threads: Threads, call: Callable[[], object] = lambda: None) -> threading.Thread:
    """Return the thread that makes the call, as soon as it does."""
    ran: list[threading.Thread] = []

    def work() -> None:
        ran.append(threading.current_thread())
        call()

    threads.start(work, name="at work")
    wait_until(lambda: bool(ran), "the call to begin")
    return ran[0]


def wait_until_idle(thread: threading.Thread) -> None:
    wait_until(lambda: thread.name == "idle", "the thread to be idle")


def test_an_idle_thread_makes_the_next_call() -> None:
    threads = make_threads()
    found = set()
    for _ in range(20):
        thread = run(threads)
        found.add(thread)
        wait_until_idle(thread)
        wait_until(lambda: threads.idle == 1, "the thread to wait for its next call")
    assert len(found) == 1


def test_a_thread_bears_the_name_of_its_call_while_it_lasts() -> None:
    hold = threading.Event()
    thread = run(make_threads(), hold.wait)
    assert (thread.name, thread.daemon) == ("at work", True)
    hold.set()
    wait_until_idle(thread)


def test_a_call_that_hangs_keeps_its_own_thread_and_no_other_call_waits_for_it() -> None:
    threads, hold = make_threads(), threading.Event()
    hung = run(threads, hold.wait)
    others = {run(threads) for _ in range(3)}
    assert hung not in others
    assert hung.name == "at work"
    hold.set()


def test_no_more_idle_threads_are_kept_than_may_be() -> None:
    threads, hold = make_threads(keep=2), threading.Event()
    at_work = [run(threads, hold.wait) for _ in range(6)]
    hold.set()
    wait_until(lambda: sum(each.is_alive() for each in at_work) <= 2, "the others to end")
    assert threads.idle <= 2


def test_a_thread_that_was_idle_for_long_ends_and_the_next_call_has_a_new_one() -> None:
    threads = make_threads(idle_seconds=0.01)
    first = run(threads)
    wait_until(lambda: not first.is_alive(), "the thread to end")
    assert threads.idle == 0
    assert run(threads) is not first


def test_no_call_is_lost_to_a_thread_that_is_about_to_end() -> None:
    """Shows it with threads that are idle for no time at all: each call meets one at its end."""
    threads, made = make_threads(idle_seconds=0.0), []
    for number in range(500):
        done = threading.Event()
        threads.start(lambda number=number, done=done: (made.append(number), done.set()), name="at work")  # type: ignore[misc]
        assert done.wait(20), f"call {number} was never made"
    assert made == list(range(500))


def test_where_no_thread_can_be_started_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(ThreadLimitError, match="this process may not start more threads"):
        make_threads().start(lambda: None, name="call")


def test_an_idle_thread_keeps_nothing_of_its_last_call() -> None:
    class Answer:
        pass

    threads, seen = make_threads(), []

    def make_call() -> Callable[[], None]:
        answer = Answer()
        seen.append(weakref.ref(answer))
        return lambda: repr(answer) and None

    for _ in range(2):  # of a new thread, and of one that was idle
        thread = run(threads, make_call())
        wait_until_idle(thread)
        wait_until(lambda: threads.idle == 1, "the thread to wait for its next call")
    assert [each() for each in seen] == [None, None]

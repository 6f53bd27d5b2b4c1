"""The only place that catches every exception: around work whose failure must not affect others."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from exporter.errors import ThreadLimitError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Failure:
    """The exception that was raised instead of a result."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Success(Generic[T]):
    """The result that was returned."""

    value: T


def attempt(call: Callable[[], T]) -> Success[T] | Failure:
    """Return what the call returns, or what it raises."""
    try:
        return Success(call())
    except Exception as error:
        return Failure(error)


async def attempt_awaiting(result: Awaitable[T]) -> Success[T] | Failure:
    """Return the awaited result, or what is raised."""
    try:
        return Success(await result)
    except Exception as error:
        return Failure(error)


class _Thread(threading.Thread):
    """A daemon thread that makes the calls put into its queue until its `done` says that it may end."""

    def __init__(self, done: Callable[[_Thread], Callable[[], None] | None]) -> None:
        super().__init__(daemon=True)
        self.calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._done = done

    def run(self) -> None:
        """Make calls. None of them, and nothing that came of it, is kept when it is over."""
        call: Callable[[], None] | None = self.calls.get()
        while call is not None:
            call()
            del call
            call = self._done(self)


class Threads:
    """Daemon threads that make one call after the other. For any thread.

    A refresh makes four calls in threads of their own. To wake an idle thread takes a fifth of the time that
    starting one takes.

    :param keep: how many idle ones to keep
    :param idle_seconds: for how long
    """

    def __init__(self, *, keep: int, idle_seconds: float) -> None:
        self._keep = keep
        self._idle_seconds = idle_seconds
        self._idle: list[_Thread] = []

    @property
    def idle(self) -> int:
        """How many threads wait for a call."""
        return len(self._idle)

    def start(self, call: Callable[[], None], *, name: str) -> None:
        """Have an idle thread make the call, or a new one.

        :param call: raises nothing; may never return: it then keeps this one thread
        :param name: the thread's, until the call returns
        :raises ThreadLimitError: when the process may not start more threads
        """
        try:
            thread = self._idle.pop()
            thread.name = name
        except IndexError:
            thread = _Thread(self._wait_for_call)
            thread.name = name
            try:
                thread.start()
            except RuntimeError as error:
                raise ThreadLimitError(
                    f"this process may not start more threads: it has {threading.active_count()}",
                    advice="Raise TasksMax= of the unit, or the limit of the container or user (ulimit -u)",
                ) from error
        thread.calls.put(call)

    def _wait_for_call(self, thread: _Thread) -> Callable[[], None] | None:
        """Return the next call for a thread that has made one; None if it is to end."""
        thread.name = "idle"
        if len(self._idle) >= self._keep:
            return None
        self._idle.append(thread)
        try:
            return thread.calls.get(timeout=self._idle_seconds)
        except queue.Empty:
            pass
        try:
            self._idle.remove(thread)
        except ValueError:  # it has just been taken for a call
            return thread.calls.get()
        return None


MAX_IDLE_THREADS = 4
# More than Prometheus' usual interval of a minute, so that a scrape finds the threads of the one before.
_THREADS = Threads(keep=MAX_IDLE_THREADS, idle_seconds=90.0)


class Attempt(Generic[T]):
    """A call that runs in its own thread and can be abandoned.

    A call into libvirt or a file system may never return. Then it keeps only this thread; a caller that waits
    with a timeout continues. It is a daemon thread, so the process can end.

    :param call: may never return
    :param clock: monotonic seconds
    :param on_over: called in the thread, with the outcome, when the call has ended
    :ivar started_at: when it started, on the clock
    :ivar ended_at: when it ended; None while it is under way
    :ivar outcome: its result; None while it is under way
    """

    def __init__(
        self,
        call: Callable[[], T],
        *,
        name: str,
        clock: Callable[[], float],
        on_over: Callable[[Success[T] | Failure], None] | None = None,
    ) -> None:
        self.started_at = clock()
        self.ended_at: float | None = None
        self.outcome: Success[T] | Failure | None = None
        self._call = call
        self._clock = clock
        self._on_over = on_over
        self._over = threading.Event()
        started = attempt(partial(_THREADS.start, self._work, name=name))
        if isinstance(started, Failure):  # the process may not start more threads
            self._end(started)

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self._over.is_set()

    def wait(self, seconds: float) -> Success[T] | Failure | None:
        """Return its result; None if it takes longer."""
        self._over.wait(max(0.0, seconds))
        return self.outcome

    def _work(self) -> None:
        self._end(attempt(self._call))

    def _end(self, outcome: Success[T] | Failure) -> None:
        self.ended_at = self._clock()
        self.outcome = outcome
        self._over.set()
        if self._on_over is not None:
            self._on_over(outcome)


def attempt_in_thread(call: Callable[[], T], *, name: str) -> asyncio.Future[Success[T] | Failure]:
    """Make the call in its own thread, and pass its result to the running event loop."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Success[T] | Failure] = loop.create_future()

    def finish(outcome: Success[T] | Failure) -> None:
        if not future.cancelled():
            future.set_result(outcome)

    def tell(outcome: Success[T] | Failure) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(finish, outcome)

    Attempt(call, name=name, clock=time.monotonic, on_over=tell)
    return future

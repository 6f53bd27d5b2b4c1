"""The one place that catches every exception: around work whose failure must not take others along."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Failure:
    """What was raised instead of a result."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Success(Generic[T]):
    """What was returned."""

    value: T


def attempt(call: Callable[[], T]) -> Success[T] | Failure:
    """Return what the call returns, or what it raises."""
    try:
        return Success(call())
    except Exception as error:
        return Failure(error)


async def attempt_awaiting(result: Awaitable[T]) -> Success[T] | Failure:
    """Return what is awaited, or what that raises."""
    try:
        return Success(await result)
    except Exception as error:
        return Failure(error)


class Attempt(Generic[T]):
    """A call under way in a thread of its own, which may be given up.

    A call into libvirt or a file system may never return: it then keeps this one thread, and nobody who waits
    for it with a timeout. A daemon thread does not keep the process from ending either.

    :param call: may never return
    :param clock: monotonic seconds
    :param on_over: called in the thread, with the outcome, when the call has come to an end
    :ivar started_at: when it began, on the clock
    :ivar ended_at: when it came to an end; None while it is under way
    :ivar outcome: what came of it; None while it is under way
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
        started = attempt(threading.Thread(target=self._work, name=name, daemon=True).start)
        if isinstance(started, Failure):  # the process may have no more threads
            self._end(started)

    @property
    def is_over(self) -> bool:
        """Whether it came to an end."""
        return self._over.is_set()

    def wait(self, seconds: float) -> Success[T] | Failure | None:
        """Return what came of it; None if that takes longer."""
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
    """Make the call in a thread of its own, and tell the running event loop what came of it."""
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

"""Results that take time, shared by all requests for the same."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from exporter.attempt import Failure, attempt, attempt_awaiting

T = TypeVar("T")


class Together(Generic[T]):
    """Requests for the same that come in one turn of the event loop share one call, made in the next turn."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, asyncio.Task[T]] = {}

    async def get(self, key: Hashable, begin: Callable[[], Awaitable[T]]) -> T:
        """Return the call's result. The call goes on if one of those who share it is cancelled."""
        task = self._waiting.get(key)
        if task is None:
            task = self._waiting[key] = asyncio.get_running_loop().create_task(self._begin(key, begin))
        return await asyncio.shield(task)

    async def _begin(self, key: Hashable, begin: Callable[[], Awaitable[T]]) -> T:
        del self._waiting[key]
        return await begin()


@dataclass(slots=True)
class _Waiting(Generic[T]):
    """A rendering that has not started, and the requests that wait for it."""

    render: Callable[[], T]
    in_thread: bool
    result: asyncio.Future[T] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Renderings(Generic[T]):
    """Makes one rendering at a time, in its own thread if that is useful.

    Requests for the same rendering share it: any number of scrapers at once need only one. It uses the data
    of the last request, so no request gets older numbers than there are. There are two queues, which take
    turns. So requests for many different things wait for each other, but do not delay all others. All methods
    run in the event loop.

    :param name: of the thread
    :param rests: whether a pause as long as the rendering follows it, which leaves half of the time to others
    """

    def __init__(self, name: str, *, rests: bool = False) -> None:
        self._rests = rests
        self._threads = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._queues: tuple[dict[Hashable, _Waiting[T]], ...] = ({}, {})
        self._worker: asyncio.Task[None] | None = None

    async def get(
        self, key: Hashable, render: Callable[[], T], *, in_thread: bool, is_special: bool = False
    ) -> T:
        """Return the rendering.

        :param key: the same for requests that share it
        :param in_thread: whether it takes longer than the start of a thread
        :param is_special: whether it waits in the second queue
        """
        queue = self._queues[is_special]
        waiting = queue.get(key)
        if waiting is None:
            waiting = queue[key] = _Waiting(render, in_thread)
        waiting.render, waiting.in_thread = render, in_thread
        if self._worker is None or self._worker.done():
            self._worker = asyncio.get_running_loop().create_task(self._work())
        return await asyncio.shield(waiting.result)

    async def _work(self) -> None:
        while any(self._queues):
            for queue in self._queues:
                if queue:
                    await self._make(queue.pop(next(iter(queue))))

    async def _make(self, waiting: _Waiting[T]) -> None:
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        if waiting.in_thread:
            outcome = await attempt_awaiting(loop.run_in_executor(self._threads, waiting.render))
        else:
            outcome = attempt(waiting.render)
        if isinstance(outcome, Failure):
            waiting.result.set_exception(outcome.error)
        else:
            waiting.result.set_result(outcome.value)
        # Let other tasks run between two renderings.
        await asyncio.sleep(loop.time() - began_at if self._rests else 0)

"""Renderings that take time: one after the other, shared by all requests for the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from exporter.attempt import Failure, attempt, attempt_awaiting

T = TypeVar("T")


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
    """

    def __init__(self, name: str) -> None:
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
        if waiting.in_thread:
            loop = asyncio.get_running_loop()
            outcome = await attempt_awaiting(loop.run_in_executor(self._threads, waiting.render))
        else:
            outcome = attempt(waiting.render)
        if isinstance(outcome, Failure):
            waiting.result.set_exception(outcome.error)
        else:
            waiting.result.set_result(outcome.value)
        await asyncio.sleep(0)  # let other tasks run between two renderings

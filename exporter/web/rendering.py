"""What takes a while to compute: one rendering after the other, shared by all who wait for the same."""

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
    """A rendering that has not begun, and who waits for it."""

    render: Callable[[], T]
    in_thread: bool
    result: asyncio.Future[T] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Renderings(Generic[T]):
    """Makes one rendering at a time, in a thread of its own where that is worth while.

    Whoever asks for what others wait for already shares it: any number of scrapers at once cost one.
    It is made of what the last of them brought, so that nobody gets older numbers than there are.

    There are two queues, which take turns. So those who ask for many different things wait for each other,
    and not before everybody else.

    All methods belong to the event loop.

    :param name: of the thread
    """

    def __init__(self, name: str) -> None:
        self._threads = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._queues: tuple[dict[Hashable, _Waiting[T]], ...] = ({}, {})
        self._worker: asyncio.Task[None] | None = None

    async def get(
        self, key: Hashable, render: Callable[[], T], *, in_thread: bool, is_special: bool = False
    ) -> T:
        """Return what is rendered.

        :param key: the same for all who get the same
        :param in_thread: whether it takes longer than a thread takes to begin
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
        await asyncio.sleep(0)  # others have their turn between two renderings

"""Places: how many hypervisors are refreshed at once, and in which order.

They are for hypervisors that answer. A refresh that hangs gives its place to the next one. A connection that
is being opened over a network may never be answered. It has a place of another kind and keeps it. When these
are all taken, those that have waited for longest are ended.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import IntEnum
from functools import partial
from typing import Any

from exporter.attempt import Failure, attempt_in_thread

log = logging.getLogger(__name__)

MAX_REFRESHES = 64
MAX_OPENINGS = 256
# Hypervisors whose jobs follow their refreshes at once: each has two threads, as long as its guests answer.
MAX_FOLLOWED = 32
# An opening has two descriptors, a socket and an eventfd, and some more for a moment.
_FILES_PER_OPENING = 10
_ROOM_INTERVAL_SECONDS = 0.25
# An opening that has had no answer for so long is ended for another hypervisor: one that answered before or
# was not tried yet, or one that failed.
_MIN_SECONDS = 0.5
_MIN_SECONDS_FOR_FAILED = 10.0


class Rank(IntEnum):
    """The order in which hypervisors get places. The first is a hypervisor that answered the last refresh."""

    ANSWERED = 0
    NEW = 1
    FAILED = 2


class Places:
    """A number of places, given by rank, and within a rank in the order of asking.

    :param count: how many there are
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: list[tuple[Rank, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    def count_waiting(self, worst: Rank) -> int:
        """Return how many of this rank, or a better one, wait for a place."""
        return sum(not place.done() for rank, _number, place in self._waiting if rank <= worst)

    def take_free(self) -> bool:
        """Take a place if one is free."""
        if not self._free:
            return False
        self._free -= 1
        return True

    async def take(self, rank: Rank) -> None:
        """Wait for a place, and take it."""
        if self.take_free():
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (rank, next(self._numbers), place))
        try:
            await place
        except asyncio.CancelledError:
            if not place.cancelled():
                self.give_back()
            raise

    def give_back(self) -> None:
        """Give a place to the next one that waits."""
        while self._waiting:
            _rank, _number, place = heapq.heappop(self._waiting)
            if not place.done():
                place.set_result(None)
                return
        self._free += 1


class RefreshPlaces:
    """The places of all refreshes.

    :param make_room: ends at most this number of openings that have had no answer for this number of seconds;
        may take a while
    :param max_files: how many file descriptors the process may have
    :ivar followed: the places of hypervisors whose jobs follow their refreshes
    """

    def __init__(
        self,
        *,
        make_room: Callable[[int, float], None],
        max_files: int,
        refreshes: int = MAX_REFRESHES,
        openings: int = MAX_OPENINGS,
    ) -> None:
        self._make_room = make_room
        self._refreshes = Places(refreshes)
        self._openings = Places(max(1, min(openings, max_files // _FILES_PER_OPENING)))
        self._making_room: asyncio.Task[None] | None = None
        self.followed = Places(MAX_FOLLOWED)

    @asynccontextmanager
    async def take(
        self, rank: Rank, *, is_opening: bool
    ) -> AsyncIterator[Callable[[asyncio.Future[Any]], None]]:
        """Wait for a place for a refresh, and have it in the block.

        :param is_opening: whether the refresh opens a connection over a network, which has a place of its own
        :return: a function to be called with the refresh: it keeps the place of the opening until its end
        """
        if is_opening:
            await self._take_for_opening(rank)
        is_kept = False

        def keep_for(refresh: asyncio.Future[Any]) -> None:
            nonlocal is_kept
            is_kept = True
            if is_opening:
                refresh.add_done_callback(lambda _: self._openings.give_back())

        try:
            await self._refreshes.take(rank)
            try:
                yield keep_for
            finally:
                self._refreshes.give_back()
        finally:
            if is_opening and not is_kept:
                self._openings.give_back()

    async def _take_for_opening(self, rank: Rank) -> None:
        if self._openings.take_free():
            return
        if self._making_room is None or self._making_room.done():
            self._making_room = asyncio.create_task(self._make_room_while_needed())
        await self._openings.take(rank)

    async def _make_room_while_needed(self) -> None:
        last: Exception | None = None
        while waiting := self._openings.count_waiting(Rank.FAILED):
            urgent = self._openings.count_waiting(Rank.NEW)
            make_room = partial(
                self._make_room, urgent or waiting, _MIN_SECONDS if urgent else _MIN_SECONDS_FOR_FAILED
            )
            outcome = await attempt_in_thread(make_room, name="make room")
            error = outcome.error if isinstance(outcome, Failure) else None
            if error is not None and last is None:
                log.error("connections that get no answer cannot be ended", extra={"error": str(error)})
            last = error
            await asyncio.sleep(_ROOM_INTERVAL_SECONDS)

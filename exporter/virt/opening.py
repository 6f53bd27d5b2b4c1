"""Openings: connections that are being opened, and the end of those that get no answer.

libvirt's keep-alive checks a connection only after it is open. Until then libvirt waits for ever, for example
for a machine that was switched off before it answered. So an opening without an answer is ended from outside:
its socket is shut down, or its ssh is ended. Then libvirt's call fails and gives back thread and descriptors.

An opening through a local (Unix) socket cannot be ended. It ends when the daemon answers, or has ended.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from exporter.attempt import Success, attempt
from exporter.virt.silent_sockets import SilentSocket, list_sockets, shut_down

T = TypeVar("T")

TIMEOUT_SECONDS = 30.0
# Through ssh an opening takes longer, so it is not ended sooner than this.
_MIN_PROGRAM_SECONDS = 3.0
# libvirt hears from each open connection every 5 s, and closes one that is silent for 20 s.
_SILENT_SECONDS = 25.0
# An opening that fails so soon after an end was ended.
_END_SECONDS = 1.0


class OpeningTimeoutError(Exception):
    """The opening was ended because it got no answer."""


@dataclass(eq=False, slots=True)
class _Opening:
    thread_id: int
    started_at: float
    children_before: frozenset[int]
    ended_at: float = -math.inf


class Openings:
    """The openings that are under way in this process. For any thread.

    :param clock: monotonic seconds
    :param list_sockets: returns this process' connections, see there
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        list_sockets: Callable[[], list[SilentSocket]] = list_sockets,
    ) -> None:
        self._clock = clock
        self._list_sockets = list_sockets
        self._openings: set[_Opening] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._openings)

    def run(self, open_: Callable[[], T]) -> T:
        """Open a connection in this thread, and return it. May block for TIMEOUT_SECONDS and more: see above.

        :raises OpeningTimeoutError: if it was ended without an answer
        :raises Exception: what opening it raised
        """
        with self._noted() as opening:
            outcome = attempt(open_)
        if isinstance(outcome, Success):
            return outcome.value
        now = self._clock()
        if now - opening.ended_at > _END_SECONDS:
            raise outcome.error
        seconds = now - opening.started_at
        raise OpeningTimeoutError(f"no answer to opening a connection for {seconds:.0f} s") from outcome.error

    def end_overdue(self) -> None:
        """End the openings that have lasted for TIMEOUT_SECONDS. To be called every few seconds."""
        overdue = self._list_older(TIMEOUT_SECONDS)
        if not overdue:
            return
        for opening in self._list_older(_SILENT_SECONDS):  # also those that are nearly overdue
            opening.ended_at = self._clock()
        for each in self._list_sockets():
            if each.silent_seconds >= _SILENT_SECONDS:
                shut_down(each)
        for opening in overdue:
            _end_programs(opening)

    def make_room(self, count: int, min_seconds: float) -> None:
        """End openings to which nothing was answered at all, those that have lasted longest.

        :param count: how many at most
        :param min_seconds: none that has lasted for less
        """
        for opening in self._list_older(min_seconds):
            opening.ended_at = self._clock()
        silent = [each for each in self._list_sockets() if not each.has_received]
        for each in silent[:count]:
            if each.silent_seconds >= min_seconds:
                shut_down(each)
                count -= 1
        for opening in self._list_older(max(min_seconds, _MIN_PROGRAM_SECONDS)):
            if count > 0 and _end_programs(opening):
                count -= 1

    @contextmanager
    def _noted(self) -> Iterator[_Opening]:
        thread_id = threading.get_native_id()
        opening = _Opening(thread_id, self._clock(), frozenset(_list_children(thread_id)))
        with self._lock:
            self._openings.add(opening)
        try:
            yield opening
        finally:
            with self._lock:
                self._openings.remove(opening)

    def _list_older(self, seconds: float) -> list[_Opening]:
        """Return the openings that have lasted for so long, the longest first."""
        now = self._clock()
        with self._lock:
            old = [each for each in self._openings if now - each.started_at >= seconds]
        return sorted(old, key=lambda each: each.started_at)


def _list_children(thread_id: int) -> list[int]:
    """Return the processes that a thread of this process has started: for a connection through ssh, ssh."""
    try:
        return [int(each) for each in Path(f"/proc/self/task/{thread_id}/children").read_text().split()]
    except FileNotFoundError:  # the thread has ended, or the kernel has no such lists
        return []


def _end_programs(opening: _Opening) -> bool:
    """End the programs that an opening has started. Return whether there were any."""
    programs = [each for each in _list_children(opening.thread_id) if each not in opening.children_before]
    for each in programs:
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGTERM)
    return bool(programs)


# For the whole process, as its sockets are.
OPENINGS = Openings()

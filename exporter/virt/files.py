"""Reads of files that a hung mount cannot stall.

A stat or statvfs on an NFS server that is gone may block for ever, and nothing can interrupt it. So such
reads run in a thread that is given up when it makes no progress. The mount it hangs on is remembered and not
asked again until that thread comes back.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from exporter.attempt import Failure, Success, attempt

K = TypeVar("K")
T = TypeVar("T")

PATIENCE_SECONDS = 1.0
_HUNG_PATHS_OF_A_HUNG_MOUNT = 2
_MOUNTINFO = Path("/proc/self/mountinfo")


@dataclass(frozen=True, slots=True)
class Hung:
    """What there is instead of a result: the path did not answer, or lies on a mount that does not."""

    path: str


class PatientReader(Generic[K, T]):
    """Reads files one after the other, and waits for each no longer than its patience.

    A path that hangs is not asked again before it has answered; neither is its mount once two of its paths
    hang. (One path proves little: it may be a link to somewhere else.) Not for two threads at once.

    :param read: reads what a key stands for; what it raises ends the whole run
    :param path: tells the key's path
    :param patience: seconds without progress after which a read counts as hung
    :param mountinfo: Linux's /proc/self/mountinfo
    """

    def __init__(
        self,
        read: Callable[[K], T],
        *,
        path: Callable[[K], str],
        patience: float = PATIENCE_SECONDS,
        mountinfo: Path = _MOUNTINFO,
    ) -> None:
        self._read = read
        self._path = path
        self._patience = patience
        self._mountinfo = mountinfo
        self._hung: dict[str, threading.Thread] = {}  # by path

    @property
    def hung(self) -> int:
        """How many reads have not come to an end, a thread each."""
        return sum(thread.is_alive() for thread in tuple(self._hung.values()))

    def run(self, keys: Sequence[K]) -> list[T | Hung]:
        """Return what was read for each key, or that it hangs."""
        self._hung = {path: thread for path, thread in self._hung.items() if thread.is_alive()}
        results: dict[int, T | Hung] = {}
        while len(results) < len(keys):
            results = {**self._answer_for_hung(keys), **results}
            left = [index for index in range(len(keys)) if index not in results]
            batch = _Batch(self._read, [keys[index] for index in left])
            read = batch.wait(self._patience)
            results.update(zip(left, read, strict=False))
            if len(read) < len(left):
                self._hung[self._path(keys[left[len(read)]])] = batch.thread
        return [results[index] for index in range(len(keys))]

    def _answer_for_hung(self, keys: Sequence[K]) -> dict[int, T | Hung]:
        if not self._hung:
            return {}
        mountinfo = os.fsdecode(self._mountinfo.read_bytes())
        hung = Counter(find_mount(path, mountinfo) for path in self._hung)
        return {
            index: Hung(path)
            for index, path in enumerate(map(self._path, keys))
            if path in self._hung or hung[find_mount(path, mountinfo)] >= _HUNG_PATHS_OF_A_HUNG_MOUNT
        }


class _Batch(Generic[K, T]):
    """Reads under way in a thread of their own."""

    def __init__(self, read: Callable[[K], T], keys: Sequence[K]) -> None:
        self._read = read
        self._keys = keys
        self._results: list[T] = []
        self._is_given_up = False
        self._outcome: Success[None] | Failure | None = None
        self._done = threading.Event()
        self.thread = threading.Thread(target=self._work, name="read files", daemon=True)
        self.thread.start()

    def wait(self, patience: float) -> list[T]:
        """Wait for the end and return what was read, which is less than wanted if a read hangs.

        :raises Exception: what a read raised
        """
        progress = 0
        while not self._done.wait(patience) and len(self._results) > progress:
            progress = len(self._results)
        self._is_given_up = True
        if isinstance(self._outcome, Failure):
            raise self._outcome.error
        return list(self._results)

    def _work(self) -> None:
        self._outcome = attempt(self._read_all)
        self._done.set()

    def _read_all(self) -> None:
        for key in self._keys:
            if self._is_given_up:
                return
            self._results.append(self._read(key))


def find_mount(path: str, mountinfo: str) -> str:
    """Return the mount point that a path lies under, by its text alone: resolving a link may hang, too.

    :param mountinfo: lines as proc_pid_mountinfo(5) describes them, the mount point in the fifth field
    """
    points = [_unescape(line.split()[4]) for line in mountinfo.splitlines()]
    under = [point for point in points if path == point or path.startswith(point.rstrip("/") + "/")]
    return max(under, key=len, default="/")


def _unescape(field: str) -> str:
    """Undo mountinfo's escapes of blank, tab, line feed and backslash."""
    for escape, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(escape, character)
    return field

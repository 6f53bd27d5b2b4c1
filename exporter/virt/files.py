"""Reads of files that a hung mount cannot stall.

A stat or statvfs on an NFS server that is gone may block for ever, and nothing can interrupt it. So such
reads run in a thread that is given up when it makes no progress. The mount it hangs on is remembered and not
asked again until that thread comes back, or until something else is mounted in its place.
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


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount as mountinfo has it.

    :ivar number: changes when its point is mounted anew; it stays taken while a read hangs on the mount
    """

    number: str
    point: str


@dataclass(frozen=True, slots=True)
class _HungRead:
    """A read that has not come to an end, and the mount that its path lay on."""

    path: str
    mount: Mount
    thread: threading.Thread


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
        self._hung: tuple[_HungRead, ...] = ()

    @property
    def hung(self) -> int:
        """How many reads have not come to an end, a thread each."""
        return sum(each.thread.is_alive() for each in self._hung)

    def run(self, keys: Sequence[K]) -> list[T | Hung]:
        """Return what was read for each key, or that it hangs."""
        self._hung = tuple(each for each in self._hung if each.thread.is_alive())
        results: dict[int, T | Hung] = {}
        while len(results) < len(keys):
            results = {**self._answer_for_hung(keys), **results}
            left = [index for index in range(len(keys)) if index not in results]
            batch = _Batch(self._read, [keys[index] for index in left])
            read = batch.wait(self._patience)
            results.update(zip(left, read, strict=False))
            if len(read) < len(left):
                self._note_hung(self._path(keys[left[len(read)]]), batch.thread)
        return [results[index] for index in range(len(keys))]

    def _note_hung(self, path: str, thread: threading.Thread) -> None:
        mount = find_mount(path, self._read_mountinfo())
        self._hung = (*self._hung, _HungRead(path, mount, thread))

    def _answer_for_hung(self, keys: Sequence[K]) -> dict[int, T | Hung]:
        """Answer for what is not to be asked.

        A read that hangs on a mount that was taken away since (umount --lazy) may hang for ever, and says
        nothing about what is there now.
        """
        if not self._hung:
            return {}
        mountinfo = self._read_mountinfo()
        hung = [each for each in self._hung if find_mount(each.path, mountinfo) == each.mount]
        paths, mounts = {each.path for each in hung}, Counter(each.mount for each in hung)
        return {
            index: Hung(path)
            for index, path in enumerate(map(self._path, keys))
            if path in paths or mounts[find_mount(path, mountinfo)] >= _HUNG_PATHS_OF_A_HUNG_MOUNT
        }

    def _read_mountinfo(self) -> str:
        return os.fsdecode(self._mountinfo.read_bytes())


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


def find_mount(path: str, mountinfo: str) -> Mount:
    """Return the mount that a path lies on, by its text alone: resolving a link may hang, too.

    Of several on one point it is the last: that is the one which covers the others.

    :param mountinfo: lines as proc_pid_mountinfo(5) describes them: a mount's number in the first field, its
        point in the fifth
    """
    mounts = [
        Mount(number=fields[0], point=_unescape(fields[4]))
        for fields in (line.split() for line in reversed(mountinfo.splitlines()))
    ]
    under = [each for each in mounts if path == each.point or path.startswith(each.point.rstrip("/") + "/")]
    return max(under, key=lambda each: len(each.point), default=Mount(number="", point="/"))


def _unescape(field: str) -> str:
    """Undo mountinfo's escapes of blank, tab, line feed and backslash."""
    for escape, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(escape, character)
    return field

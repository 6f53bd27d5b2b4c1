"""Reads of files that a hung mount cannot stall.

A stat or statvfs on a dead NFS server may block for ever, and nothing can interrupt it. So such reads run in
a thread that is abandoned if it makes no progress. Normally one thread reads everything. When a read takes
long, each other mount gets its own thread. So healthy mounts are read in time, however many mounts hang. The
other paths of the same mount are read in a second thread. (One path proves little: before its first read, it
may be a link to another place.) A mount that hangs is remembered. It is not read again until its thread
returns, or until something else is mounted in its place.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from exporter.attempt import Attempt, Failure
from exporter.recorder import FILES, Entry, Recorder
from exporter.virt.mounts import Mount, Mounts
from exporter.virt.refresh_timeout import SHORT_SECONDS, RefreshTimeout

K = TypeVar("K")
T = TypeVar("T")

_LOOK_SECONDS = 0.1  # a read that takes longer may hang
_LEAST_SECONDS = 0.001  # the shortest wait
_MAX_THREADS_OF_A_MOUNT = 2
_MOUNTINFO = Path("/proc/self/mountinfo")


@dataclass(frozen=True, slots=True)
class Hung:
    """Replaces a result: the path did not answer, or its mount does not answer."""

    path: str


@dataclass(frozen=True, slots=True)
class _HungRead:
    """An abandoned read.

    :ivar place: the resolved path, if known; else the path
    :ivar mount: the mount of this place
    """

    path: str
    place: str
    mount: Mount
    attempt: Attempt[None]
    entry: Entry


class HungReads:
    """Abandoned reads that have not ended. Each keeps a thread, at most two for each mount.

    Readers of the same mounts share one of these. Not thread-safe.

    :param recorder: takes them down
    :param mountinfo: Linux's /proc/self/mountinfo
    """

    def __init__(self, recorder: Recorder | None = None, *, mountinfo: Path = _MOUNTINFO) -> None:
        self._recorder = recorder or Recorder(clock=time.monotonic)
        self._mountinfo = mountinfo
        self._reads: tuple[_HungRead, ...] = ()
        self._doubted: frozenset[Mount] = frozenset()

    def __len__(self) -> int:
        return sum(not each.attempt.is_over for each in self._reads)

    def forget_ended(self) -> None:
        """Forget the reads that have ended."""
        hung: list[_HungRead] = []
        for each in self._reads:
            if each.attempt.is_over:
                self._recorder.end(each.entry)
            else:
                hung.append(each)
        self._reads = tuple(hung)

    @property
    def says_nothing(self) -> bool:
        """Whether no mount has a known problem."""
        return not self._reads and not self._doubted

    def read_mounts(self) -> Mounts:
        """Read the current mounts. Where they cannot be read, everything counts as one mount."""
        try:
            return Mounts(os.fsdecode(self._mountinfo.read_bytes()))
        except OSError:
            return Mounts("")

    def note(self, path: str, place: str, mount: Mount, attempt: Attempt[None]) -> None:
        """Record an abandoned read. Its mount is doubted until it answers in time."""
        entry = self._recorder.begin(FILES, "read", path, started_at=attempt.started_at)
        self._reads = (*self._reads, _HungRead(path, place, mount, attempt, entry))
        self._doubted |= {mount}

    def forget_gone(self, mounts: Mounts) -> None:
        """Forget mounts that do not exist any more."""
        self._doubted = frozenset(each for each in self._doubted if each in mounts)

    def trust(self, mount: Mount) -> None:
        """Record that a mount answered in time."""
        self._doubted -= {mount}

    def is_doubted(self, mount: Mount) -> bool:
        """Whether the mount has not answered in time since it last hung."""
        return mount in self._doubted

    def list_on(self, mount: Mount, mounts: Mounts) -> list[str]:
        """Return the paths of the reads that hang on a mount.

        A read on a mount that was removed (umount --lazy) may hang for ever. It says nothing about the
        current mount.
        """
        return [each.path for each in self._reads if each.mount == mount == mounts.find(each.place)]


class FileReader(Generic[K, T]):
    """Reads files. It waits for hung files only as long as the refresh's timeout allows.

    A path that hangs is not read again before it has answered. If two paths of a mount hang, the whole mount
    is not read. Not thread-safe.

    :param read: reads the file of a key, in several threads at once; an exception ends the whole run
    :param path: returns the key's path
    :param hung: remembers what hangs
    :param clock: monotonic seconds
    :param wait: waits for an event, at most this number of seconds
    :param resolve: resolves a path; may block like a read
    """

    def __init__(
        self,
        read: Callable[[K], T],
        *,
        path: Callable[[K], str],
        hung: HungReads,
        clock: Callable[[], float],
        wait: Callable[[threading.Event, float], bool] = threading.Event.wait,
        resolve: Callable[[str], str] = os.path.realpath,
    ) -> None:
        self._read = read
        self._path = path
        self._hung = hung
        self._clock = clock
        self._wait = wait
        self._resolve = resolve
        self._places: dict[str, str] = {}

    def run(self, keys: Sequence[K], refresh_timeout: RefreshTimeout) -> list[T | Hung]:
        """Return what was read for each key, or that it hangs."""
        if not keys:
            return []
        paths = list(map(self._path, keys))
        if len(self._places) > 2 * len(paths):
            self._places = {path: self._places[path] for path in paths if path in self._places}
        run = _Run(self._read_and_learn, keys, paths, self._places, self._hung, self._clock)
        run.begin(refresh_timeout)
        waited = run.wait(self._wait, begin_others=refresh_timeout.begin_others)
        refresh_timeout.spend(waited)
        return run.finish()

    def _read_and_learn(self, key: K) -> T:
        """Read it, and resolve its path once: a path that hangs cannot be resolved."""
        result = self._read(key)
        path = self._path(key)
        if path not in self._places:
            self._places[path] = self._resolve(path)
        return result


class _Run(Generic[K, T]):
    """One run of a reader: its threads, and the result of each key."""

    def __init__(
        self,
        read: Callable[[K], T],
        keys: Sequence[K],
        paths: Sequence[str],
        places: Mapping[str, str],
        hung: HungReads,
        clock: Callable[[], float],
    ) -> None:
        self._read = read
        self._keys = keys
        self._paths = paths
        self._places = places
        self._hung = hung
        self._clock = clock
        self._known_mounts: Mounts | None = None
        self._ended = threading.Event()
        self._threads: list[_Thread[K, T]] = []
        self._results: dict[int, T | Hung] = {}

    @property
    def _mounts(self) -> Mounts:
        """The mounts, read only if something hangs."""
        if self._known_mounts is None:
            self._known_mounts = self._hung.read_mounts()
        return self._known_mounts

    def _find_mount(self, index: int) -> Mount:
        return self._mounts.find(self._find_place(index))

    def _find_place(self, index: int) -> str:
        """Return the resolved path if it was ever read, else the path itself."""
        return self._places.get(self._paths[index], self._paths[index])

    def begin(self, refresh_timeout: RefreshTimeout) -> None:
        """Start reading everything that is not known to hang."""
        self._hung.forget_ended()
        well: list[int] = list(range(len(self._keys)))
        if not self._hung.says_nothing:
            well, doubted = self._sort_out(well)
            for mount, indices in doubted.items():
                self._start(indices, mount=mount, seconds=min(SHORT_SECONDS, refresh_timeout.left))
        if well:
            self._start(well, mount=None, seconds=max(SHORT_SECONDS, refresh_timeout.left))

    def wait(
        self, wait: Callable[[threading.Event, float], bool], *, begin_others: Callable[[], None]
    ) -> float:
        """Wait until all is read or abandoned. Return the seconds without progress.

        :param begin_others: starts the refresh's other calls; called when a read takes long
        """
        waited, looked_at = 0.0, self._clock()
        while running := self._list_running():
            wait(self._ended, min(_LOOK_SECONDS, *(each.time_left for each in running)))
            self._ended.clear()
            # If more time passed, this process waited for a CPU or was stopped. That is not the mount's
            # fault.
            now = self._clock()
            elapsed, looked_at = min(now - looked_at, _LOOK_SECONDS), now
            waited += max(each.note_progress(now, elapsed) for each in running)
            for thread in running:
                if thread.idle_seconds >= _LOOK_SECONDS and not thread.is_over:
                    begin_others()
                    self._read_others_beside(thread)
        return waited

    def finish(self) -> list[T | Hung]:
        """Return the result of each key.

        :raises Exception: whatever a read raised
        """
        for thread in self._threads:
            if thread.is_given_up:
                continue
            if isinstance(thread.attempt.outcome, Failure):
                raise thread.attempt.outcome.error
            self._results.update(thread.results)
            # One hung read is enough to doubt a mount: the kernel's cache may have answered the others.
            if thread.mount is not None and not self._hung.list_on(thread.mount, self._mounts):
                self._hung.trust(thread.mount)
        return [self._results[index] for index in range(len(self._keys))]

    def _sort_out(self, indices: Iterable[int]) -> tuple[list[int], dict[Mount, list[int]]]:
        """Mark paths that must not be read as hung.

        Return the others, of healthy mounts and of doubted ones.
        """
        well: list[int] = []
        doubted: dict[Mount, list[int]] = {}
        hung: dict[Mount, list[str]] = {}
        self._hung.forget_gone(self._mounts)
        for index in indices:
            path = self._paths[index]
            mount = self._find_mount(index)
            if mount not in hung:
                hung[mount] = self._hung.list_on(mount, self._mounts)
            if path in hung[mount] or len(hung[mount]) >= _MAX_THREADS_OF_A_MOUNT:
                self._results[index] = Hung(path)
            elif self._hung.is_doubted(mount):
                doubted.setdefault(mount, []).append(index)
            else:
                well.append(index)
        return well, doubted

    def _list_running(self) -> list[_Thread[K, T]]:
        """Abandon threads past their timeout. Return the others that have not ended."""
        running = [each for each in self._threads if not (each.is_over or each.is_given_up)]
        for thread in running:
            if thread.time_left < _LEAST_SECONDS:
                self._give_up(thread)
        return [each for each in running if not each.is_given_up]

    def _read_others_beside(self, thread: _Thread[K, T]) -> None:
        """Let other threads read what waits behind a slow read."""
        if thread.mount is not None and self._count_threads(thread.mount) >= _MAX_THREADS_OF_A_MOUNT:
            return
        under_way, rest = thread.hand_over_rest()
        if under_way is None:
            return
        thread.mount = self._find_mount(under_way)
        by_mount: dict[Mount, list[int]] = {}
        for index in rest:
            by_mount.setdefault(self._find_mount(index), []).append(index)
        for mount, indices in by_mount.items():
            self._start(indices, mount=mount, seconds=max(thread.time_left_if_stuck, _LOOK_SECONDS))

    def _count_threads(self, mount: Mount) -> int:
        """Return how many threads read from a mount, in this run and in earlier ones."""
        waited_for = (each for each in self._threads if not (each.is_over or each.is_given_up))
        given_up = self._hung.list_on(mount, self._mounts)
        return sum(each.mount == mount for each in waited_for) + len(given_up)

    def _start(self, indices: Iterable[int], *, mount: Mount | None, seconds: float) -> None:
        work = [(index, self._keys[index]) for index in indices]
        self._threads.append(
            _Thread(self._read, work, mount=mount, seconds=seconds, ended=self._ended, clock=self._clock)
        )

    def _give_up(self, thread: _Thread[K, T]) -> None:
        """Take the results of a thread and leave it alone."""
        results, left = thread.give_up()
        self._results.update(results)
        if not left:
            return
        self._results.update({index: Hung(self._paths[index]) for index in left})
        thread.mount = thread.mount or self._find_mount(left[0])
        self._hung.note(self._paths[left[0]], self._find_place(left[0]), thread.mount, thread.attempt)


class _Thread(Generic[K, T]):
    """A thread that reads files one after the other. It continues after it was abandoned.

    When it ends, its mount has answered.

    :ivar mount: the mount of all its files; None while not known
    :ivar time_left: seconds without progress until it is abandoned
    :ivar idle_seconds: seconds without progress so far
    :ivar results: by index
    """

    def __init__(
        self,
        read: Callable[[K], T],
        work: Iterable[tuple[int, K]],
        *,
        mount: Mount | None,
        seconds: float,
        ended: threading.Event,
        clock: Callable[[], float],
    ) -> None:
        self.mount = mount
        self.time_left = seconds
        self.idle_seconds = 0.0
        self.results: dict[int, T] = {}
        self.is_given_up = False
        self._read = read
        self._work = deque(work)
        self._under_way: int | None = None
        self._lock = threading.Lock()
        self._clock = clock
        self._seen = 0
        self._read_at = clock()
        self._owed = 0.0
        self.attempt = Attempt(
            self._read_all, name="read files", clock=clock, on_over=lambda _outcome: ended.set()
        )

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.attempt.is_over

    @property
    def time_left_if_stuck(self) -> float:
        """The seconds that will be left if the current read keeps hanging."""
        return self.time_left - self._owed

    def note_progress(self, now: float, elapsed: float) -> float:
        """Check for progress since the last check. Return the lost seconds if there was none.

        :param now: on the clock
        :param elapsed: seconds since the last look
        :returns: seconds without progress; its time is reduced by these
        """
        if self.is_over:
            return 0.0
        seen, self._seen = self._seen, len(self.results)
        if self._seen > seen:
            self.idle_seconds = self._owed = min(now - self._read_at, elapsed)
            return 0.0
        cost, self._owed = elapsed + self._owed, 0.0
        self.idle_seconds += elapsed
        self.time_left -= cost
        return cost

    def hand_over_rest(self) -> tuple[int | None, list[int]]:
        """Return the current read and the reads after it, which this thread then leaves to others.

        Before the first read and after the last one there is no current read: then nothing is taken.
        """
        with self._lock:
            under_way = self._get_under_way()
            if not under_way:
                return None, []
            rest = [index for index, _ in self._work]
            self._work.clear()
            return under_way[0], rest

    def give_up(self) -> tuple[dict[int, T], list[int]]:
        """Return what was read in time, and what was not.

        The second is empty if the thread has just ended.
        """
        with self._lock:
            self.is_given_up = True
            left = [*self._get_under_way(), *(index for index, _ in self._work)]
            return self.results.copy(), left

    def _get_under_way(self) -> list[int]:
        """Return the read that is under way, if one is."""
        index = self._under_way
        return [] if index is None or index in self.results else [index]

    def _read_all(self) -> None:
        read, work, results, lock = self._read, self._work, self.results, self._lock
        while True:
            with lock:
                if not work:
                    self._under_way = None
                    return
                index, key = work.popleft()
                self._under_way = index
            results[index] = read(key)
            self._read_at = self._clock()

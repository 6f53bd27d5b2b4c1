"""A recorder of the reads of one hypervisor: steps, calls to libvirt, files and commands.

It always knows what is under way, so that a hung call can be named. It keeps what has ended only during a
recording.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from exporter.errors import HypervisorError

# A refresh of very many guests makes one call for each. Entries above this limit are only counted.
MAX_ENTRIES = 10_000

REFRESH = "refresh"  # the step that contains all others of a refresh

STEP = "step"
CALL = "call"  # to libvirt
FILES = "files"
COMMAND = "command"
EARLIER = "earlier"  # not read now: an earlier answer is used


@dataclass(slots=True)
class Entry:
    """Something that was done, or is under way.

    :ivar kind: one of the above
    :ivar name: the step, or libvirt's function
    :ivar subject: a guest, a storage pool, a path
    :ivar thread: the name of the thread that does it
    :ivar started_at: on the recorder's clock
    :ivar ended_at: None while it is under way
    :ivar outcome: its result; "ok" without an error
    """

    kind: str
    name: str
    subject: str
    thread: str
    started_at: float
    ended_at: float | None = None
    outcome: str = ""


class Recording:
    """The entries of one recording.

    :ivar began_at: start, on the recorder's clock
    :ivar left_out: how many entries did not fit
    """

    def __init__(self, began_at: float, under_way: list[Entry]) -> None:
        self.began_at = began_at
        self.left_out = 0
        self._entries = under_way

    def add(self, entry: Entry) -> None:
        """Add an entry that has started. Its end is set in the entry."""
        if len(self._entries) < MAX_ENTRIES:
            self._entries.append(entry)
        else:
            self.left_out += 1

    def get_entries(self) -> list[Entry]:
        """Return copies of all entries, in the order of their start. Some may be under way."""
        return [replace(entry) for entry in sorted(self._entries, key=lambda each: each.started_at)]


class Recorder:
    """Records the reads of one hypervisor. Thread-safe.

    :param clock: monotonic seconds
    """

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._under_way: dict[int, Entry] = {}
        self._recordings: tuple[Recording, ...] = ()

    @contextmanager
    def recording(self) -> Iterator[Recording]:
        """Record what is done in this block, and what is under way at its start."""
        with self._lock:
            recording = Recording(self._clock(), list(self._under_way.values()))
            self._recordings = (*self._recordings, recording)
        try:
            yield recording
        finally:
            with self._lock:
                self._recordings = tuple(each for each in self._recordings if each is not recording)

    @property
    def is_recording(self) -> bool:
        """Whether there is a recording."""
        return bool(self._recordings)

    def begin(self, kind: str, name: str, subject: str = "", *, started_at: float | None = None) -> Entry:
        """Record a start; `end` has to follow.

        :param started_at: on the clock, if it started earlier
        """
        now = self._clock() if started_at is None else started_at
        entry = Entry(kind, name, subject, threading.current_thread().name, now)
        with self._lock:
            self._under_way[id(entry)] = entry
            for recording in self._recordings:
                recording.add(entry)
        return entry

    def end(self, entry: Entry, outcome: str = "ok") -> None:
        """Record the end and the result."""
        entry.outcome = outcome
        entry.ended_at = self._clock()
        with self._lock:
            del self._under_way[id(entry)]

    def step(self, name: str, subject: str = "", *, kind: str = STEP) -> _Step:
        """Record the time and the result of a block: `with recorder.step(…)`."""
        return _Step(self, self.begin(kind, name, subject))

    def note_earlier(self, name: str, age_seconds: float) -> None:
        """Record that an earlier answer is used, and its age."""
        self.end(self.begin(EARLIER, name), f"{age_seconds:.1f} s old")


class _Step:
    """A block that is recorded."""

    __slots__ = ("_entry", "_recorder")

    def __init__(self, recorder: Recorder, entry: Entry) -> None:
        self._recorder = recorder
        self._entry = entry

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        self._recorder.end(self._entry, "ok" if error is None else _describe(error))


def _describe(error: BaseException) -> str:
    """Return the error.

    Errors of other libraries may contain a password of the URI, so their text is left out.
    """
    return f"{error.reason}: {error}" if isinstance(error, HypervisorError) else "failed"

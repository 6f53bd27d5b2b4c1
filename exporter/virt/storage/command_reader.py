"""The last answer of a storage command that is run between scrapes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from exporter.attempt import Attempt
from exporter.virt.commands import KILL_SECONDS
from exporter.virt.storage.back_ends import COMMAND_TIMEOUT_SECONDS, Answer
from exporter.virt.storage.file_system import StorageError

READ_INTERVAL_SECONDS = 30.0
FIRST_TIMEOUT_SECONDS = 2.0
# If the command gives no new answer, its last one is used for this long.
KEEP_SECONDS = 300.0
# A command that takes longer hangs while it is started: all else has a timeout.
SILENT_SECONDS = COMMAND_TIMEOUT_SECONDS + KILL_SECONDS + 5.0


class CommandReader:
    """The last answer of a storage command. For any thread.

    :param read: runs the command, and yields its answer, and then a more complete one, if any; raises
        StorageError; may block for ever
    :param what: the subject of a message: "images_volume_group vms: vgs"
    :param clock: monotonic seconds
    :param timeout: seconds to wait for the very first answer
    """

    def __init__(
        self,
        read: Callable[[], Iterable[Answer]],
        *,
        what: str,
        clock: Callable[[], float],
        timeout: float = FIRST_TIMEOUT_SECONDS,
    ) -> None:
        self._read = read
        self._what = what
        self._clock = clock
        self._timeout = timeout
        self._lock = threading.Lock()
        self._is_reading = False
        self._first: Attempt[None] | None = None
        self._started_at: float | None = None
        self._known: Answer | None = None
        self._known_at = 0.0
        self._error: str | None = None

    @property
    def age_seconds(self) -> float:
        """The age of the answer that `get` returns."""
        return self._clock() - self._known_at

    @property
    def error(self) -> str | None:
        """Why there is no new answer: the last run failed, or the present one hangs. None if all is well."""
        started_at = self._started_at
        if self._is_reading and started_at is not None and self._clock() - started_at > SILENT_SECONDS:
            return f"{self._what} has not answered for {self._clock() - started_at:.0f} s"
        return self._error

    @property
    def has_failed(self) -> bool:
        """Whether the command was run and never gave an answer: it cannot be asked here."""
        return self._known is None and self._error is not None

    def get(self) -> Answer:
        """Return what is known. The first time, run the command and wait a moment.

        :raises StorageError: if nothing is known, or it is too old
        """
        with self._lock:
            if self._first is None:
                self._first = Attempt(self.read, name="storage", clock=self._clock)
        self._first.wait(self._timeout - (self._clock() - self._first.started_at))
        known, error, age_seconds = self._known, self.error, self.age_seconds
        if known is None:
            raise StorageError(error or "the storage's size is not known yet: its command is still running")
        if age_seconds > KEEP_SECONDS:
            raise StorageError(error or f"{self._what} has not answered for {age_seconds:.0f} s")
        return known

    def needs_reading(self) -> bool:
        """Whether `read` is due: not before the first `get`, and not while one is under way."""
        if self._started_at is None or self._is_reading:
            return False
        return self._clock() - self._started_at >= READ_INTERVAL_SECONDS

    def read(self) -> None:
        """Run the command. Called between scrapes, by another thread."""
        with self._lock:
            if self._is_reading:
                return
            self._is_reading, self._started_at = True, self._clock()
        try:
            for known in self._read():
                # In this order: whoever reads these meanwhile takes no old answer for a new one.
                self._known, self._known_at, self._error = known, self._clock(), None
        except StorageError as error:
            self._error = str(error)
        finally:
            self._is_reading = False

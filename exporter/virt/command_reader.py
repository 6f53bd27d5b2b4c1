"""The last answer of a storage command that is run between scrapes."""

from __future__ import annotations

import threading
from collections.abc import Callable

from exporter.attempt import Attempt, Success
from exporter.recorder import COMMAND, Recorder
from exporter.virt.commands import KILL_SECONDS, Commands
from exporter.virt.storage import StorageError
from exporter.virt.storage_commands import COMMAND_TIMEOUT_SECONDS, Answer, get_ceph_fsid, get_ceph_pool_info

READ_INTERVAL_SECONDS = 30.0
FIRST_TIMEOUT_SECONDS = 2.0
# If the command gives no new answer, its last one is used for this long.
KEEP_SECONDS = 300.0
# A command that takes longer hangs while it is started: all else has a timeout.
SILENT_SECONDS = COMMAND_TIMEOUT_SECONDS + KILL_SECONDS + 5.0
# A cluster's fsid never changes. But the configuration of Ceph may lead to another cluster one day.
FSID_INTERVAL_SECONDS = 600.0


class CommandReader:
    """The last answer of a storage command.

    :param read: runs the command; raises StorageError; may block for ever
    :param what: the subject of a message: "images_volume_group vms: vgs"
    :param clock: monotonic seconds
    :param timeout: seconds to wait for the very first answer
    """

    def __init__(
        self,
        read: Callable[[], Answer],
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
        if self._started_at is None:
            Attempt(self.read, name="storage", clock=self._clock).wait(self._timeout)
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
            known = self._read()
        except StorageError as error:
            self._error = str(error)
        else:
            # In this order: whoever reads these meanwhile takes no old answer for a new one.
            self._known, self._known_at, self._error = known, self._clock(), None
        finally:
            self._is_reading = False


class CephPool:
    """A Ceph pool as `ceph` tells it. Not thread-safe.

    :param pool: its name
    :param user: the client to ask as
    :param ceph_conf: Ceph's configuration file
    :param clock: monotonic seconds
    :param recorder: takes down the commands
    """

    def __init__(
        self,
        pool: str,
        *,
        user: str | None,
        ceph_conf: str | None,
        commands: Commands,
        clock: Callable[[], float],
        recorder: Recorder,
    ) -> None:
        self._pool = pool
        self._user = user
        self._ceph_conf = ceph_conf
        self._commands = commands
        self._clock = clock
        self._recorder = recorder
        self._fsid: tuple[str, float] | None = None

    def read(self) -> Answer:
        """Return its numbers, and the fsid of its cluster, which is asked for beside them now and then.

        :raises StorageError: if the numbers are not known
        """
        asked: Attempt[str] | None = None
        if self._fsid is None or self._clock() - self._fsid[1] >= FSID_INTERVAL_SECONDS:
            asked = Attempt(self._ask_fsid, name="ceph fsid", clock=self._clock)
        with self._recorder.step("ceph df", self._pool, kind=COMMAND):
            storage = get_ceph_pool_info(
                self._pool, user=self._user, ceph_conf=self._ceph_conf, commands=self._commands
            )
        problem = None if asked is None else self._take_fsid(asked)
        return Answer(storage=storage, owner=self._fsid and self._fsid[0], problem=problem)

    def _ask_fsid(self) -> str:
        with self._recorder.step("ceph fsid", self._pool, kind=COMMAND):
            return get_ceph_fsid(
                self._pool, user=self._user, ceph_conf=self._ceph_conf, commands=self._commands
            )

    def _take_fsid(self, asked: Attempt[str]) -> str | None:
        """Wait for the fsid. Return why it is not known, if it is not."""
        outcome = asked.wait(SILENT_SECONDS)
        if isinstance(outcome, Success):
            self._fsid = (outcome.value, self._clock())
            return None
        if outcome is not None and not isinstance(outcome.error, StorageError):
            raise outcome.error
        return str(outcome.error) if outcome else f"images_rbd_pool {self._pool}: ceph fsid hangs"

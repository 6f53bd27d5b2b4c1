"""Ceph pools as `ceph` tells them. Hypervisors that ask the same share the command."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from exporter.recorder import COMMAND, Recorder
from exporter.virt.commands import Commands
from exporter.virt.storage.back_ends import Answer, get_ceph_fsid, get_ceph_pool_info
from exporter.virt.storage.command_reader import CommandReader
from exporter.virt.storage.file_system import StorageError

# A cluster's fsid never changes. But the configuration of Ceph may lead to another cluster one day.
FSID_INTERVAL_SECONDS = 600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class CephAccess:
    """What is asked, and how.

    :ivar pool: the pool's name
    :ivar user: the client to ask as; None for Ceph's default
    :ivar ceph_conf: Ceph's configuration file; None for Ceph's default
    """

    pool: str
    user: str | None
    ceph_conf: str | None


class CephPool:
    """A Ceph pool as `ceph` tells it. Not thread-safe.

    :param clock: monotonic seconds
    :param recorder: takes down the commands
    """

    def __init__(
        self, access: CephAccess, *, commands: Commands, clock: Callable[[], float], recorder: Recorder
    ) -> None:
        self._access = access
        self._commands = commands
        self._clock = clock
        self._recorder = recorder
        self._fsid: tuple[str, float] | None = None

    def read(self) -> Iterator[Answer]:
        """Yield its numbers, and then the same with the fsid of its cluster, which is asked for now and then.

        :raises StorageError: if the numbers are not known
        """
        access, commands = self._access, self._commands
        with self._recorder.step("ceph df", access.pool, kind=COMMAND):
            storage = get_ceph_pool_info(
                access.pool, user=access.user, ceph_conf=access.ceph_conf, commands=commands
            )
        if self._fsid is None:
            yield Answer(storage=storage, is_owner_pending=True)
        problem = None
        if self._fsid is None or self._clock() - self._fsid[1] >= FSID_INTERVAL_SECONDS:
            try:
                with self._recorder.step("ceph fsid", access.pool, kind=COMMAND):
                    fsid = get_ceph_fsid(
                        access.pool, user=access.user, ceph_conf=access.ceph_conf, commands=commands
                    )
                self._fsid = (fsid, self._clock())
            except StorageError as error:
                problem = str(error)
        yield Answer(storage=storage, owner=self._fsid and self._fsid[0], problem=problem)


@dataclass(kw_only=True, slots=True)
class _Lent:
    """A reader, its commands, and how many hypervisors use it."""

    reader: CommandReader
    commands: Commands
    users: int = 0


class CephPools:
    """Lends one reader to all hypervisors that ask the same. For any thread.

    Without that, a hundred remote hypervisors on one cluster would run a hundred commands.

    :param clock: monotonic seconds
    """

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._lent: dict[CephAccess, _Lent] = {}

    def borrow(self, access: CephAccess, recorder: Recorder) -> CommandReader:
        """Return the reader. Whoever borrows it gives it back once.

        :param recorder: takes down the commands, if this is the first who borrows it
        """
        with self._lock:
            lent = self._lent.get(access)
            if lent is None:
                commands = Commands()
                pool = CephPool(access, commands=commands, clock=self._clock, recorder=recorder)
                what = f"images_rbd_pool {access.pool}: ceph"
                reader = CommandReader(pool.read, what=what, clock=self._clock)
                lent = self._lent[access] = _Lent(reader=reader, commands=commands)
            lent.users += 1
            return lent.reader

    def give_back(self, access: CephAccess) -> None:
        """Give a reader back. If nobody uses it any more, its command is killed. Does not block."""
        with self._lock:
            lent = self._lent[access]
            lent.users -= 1
            if lent.users:
                return
            del self._lent[access]
        lent.commands.close()

"""Storage: the size and use of the storage for guests' images.

That is the file system of the instances path, or libvirt's storage pools, or a volume group or Ceph pool. For
the last two, a storage pool of libvirt is used if there is one. Otherwise `vgs` or `ceph df` is run. A
command may take long, or hang on a dead device or cluster. So it runs between scrapes, with its own timeout
(`exporter/virt/commands.py`). Scrapes use what is known, if it is not too old. Only the first answer is
waited for, for a moment.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from exporter.attempt import Attempt
from exporter.compute.source import Job, Settings, Source
from exporter.config.settings import HypervisorConfig
from exporter.errors import ConnectionLostError, HypervisorError, NoAnswerError
from exporter.model import Problem, Severity, Storage, StorageIdentity, StoragePool, UnreadPool
from exporter.recorder import COMMAND, Recorder
from exporter.virt.calls import StorageHypervisor
from exporter.virt.commands import KILL_SECONDS, Commands
from exporter.virt.connections import Connections
from exporter.virt.daemons import STORAGE, explain_silence
from exporter.virt.files import FileReader, Hung, HungReads
from exporter.virt.mounted import Mounted, read_mounted
from exporter.virt.network_file_systems import identify_file_system
from exporter.virt.refresh_timeout import RefreshTimeout
from exporter.virt.slow_calls import SlowCall
from exporter.virt.storage import (
    DEFAULT_INSTANCES_PATHS,
    StorageError,
    describe_unread,
    find_instances_path,
    find_pool_info,
    get_instances_info,
    get_pools_info,
)
from exporter.virt.storage_commands import (
    COMMAND_TIMEOUT_SECONDS,
    get_ceph_pool_info,
    get_volume_group_info,
)
from exporter.virt.storage_identity import StorageSource, make_storage_identity

# The last answer about storage pools is used for this long while there is no new one.
POOLS_MAX_AGE_SECONDS = 300.0

READ_INTERVAL_SECONDS = 30.0
FIRST_TIMEOUT_SECONDS = 2.0
# If the command gives no new answer, its last one is used for this long.
KEEP_SECONDS = 300.0
# A command that takes longer hangs while it is started: all else has a timeout.
SILENT_SECONDS = COMMAND_TIMEOUT_SECONDS + KILL_SECONDS + 5.0
# `vgs` is tried three times, COMMAND_TIMEOUT_SECONDS each.
COMMAND_JOB_TIMEOUT_SECONDS = 3 * SILENT_SECONDS

Identify = Callable[[str], StorageSource]  # returns which storage it is, for the hypervisor's host name


class HostStorage(Source):
    """The storage of a hypervisor. Not thread-safe, except the jobs of `list_jobs`.

    :param connections: lends the connection for storage pools
    :param hung_reads: remembers hung reads of files
    :param clock: monotonic seconds
    :param recorder: takes down the commands that are run
    """

    name = "storage"

    def __init__(
        self,
        connections: Connections[StorageHypervisor],
        hung_reads: HungReads,
        settings: Settings,
        *,
        clock: Callable[[], float],
        recorder: Recorder | None = None,
    ) -> None:
        self._recorder = recorder or Recorder(clock=clock)
        self._config = settings.hypervisor
        self._clock = clock
        self._pools = SlowCall(
            connections,
            self._list_pools,
            what="the list of storage pools",
            max_age=POOLS_MAX_AGE_SECONDS,
            clock=clock,
        )
        self._file_systems = FileReader(_measure, path=_path_of, hung=hung_reads, clock=clock)
        self._identify: Identify | None = None
        self._commands = Commands()
        self._command = self._make_reader()
        self._problems: tuple[Problem, ...] = ()
        self._ages: dict[str, float] = {}

    @property
    def hung(self) -> int:
        """How many calls are past their timeout: 0 or 1."""
        return self._pools.hung

    def get_ages(self) -> Mapping[str, float]:
        """Return the age of each answer that counts."""
        return self._ages

    def list_jobs(self) -> Sequence[Job]:
        """Return the job that runs the command, if it is due."""
        if not self._command.needs_reading():
            return ()
        return [
            Job(key="command", run=self._command.read, timeout=COMMAND_JOB_TIMEOUT_SECONDS, may_hang=True)
        ]

    def get_problems(self) -> Sequence[Problem]:
        """Return the problems of the last read."""
        return self._problems

    def configure(self, settings: Settings) -> None:
        """Read the storage of these settings from now on."""
        before, self._config = self._config, settings.hypervisor
        if _options(self._config) != _options(before):
            self._pools.forget()
            self._commands.stop()
            self._command = self._make_reader()
            self._identify = None

    def close(self) -> None:
        """Kill the command if it is running, and run none from now on. Does not block."""
        self._commands.close()

    def note_reconnected(self) -> None:
        """Abandon a call that may be asking a hypervisor that is gone. The last answer is still used."""
        self._pools.abandon()

    def begin(self, refresh_timeout: RefreshTimeout) -> None:
        """Start the call that a refresh will wait for, without waiting."""
        if _needs_pools(self._config):
            self._pools.begin(refresh_timeout)

    def read(self, refresh_timeout: RefreshTimeout) -> Storage | None:
        """Return its size and use; None if they cannot be read.

        :raises ConnectionLostError: if the connection broke
        """
        self._problems, self._ages = (), {}
        config = self._config
        try:
            if not config.storage_pool and config.images_type in ("lvm", "rbd"):
                return self._read_back_end(refresh_timeout)
            if _needs_pools(config):
                pools = self._read_pools(refresh_timeout)
                storage = get_pools_info(pools, config.storage_pool)
                self._note_unread(pools)
                return storage
            return self._read_instances_path(refresh_timeout)
        except StorageError as error:
            self._note(error.reason, "storage", str(error))
        except ConnectionLostError:
            raise
        except NoAnswerError as error:
            self._note("storage", "storage", f"{error}. If {STORAGE} runs, it may hang")
        except HypervisorError as error:
            self._note(error.reason, "storage", f"storage pools cannot be read: {error}")
        return None

    def get_identity(self, hostname: str) -> StorageIdentity | None:
        """Return which storage it is, also while its numbers cannot be read."""
        config = self._config
        found = _find_source(config) if self._identify is None else self._identify(hostname)
        return make_storage_identity(found, hostname=hostname, storage_id=config.storage_id)

    def _read_pools(self, refresh_timeout: RefreshTimeout) -> tuple[StoragePool | UnreadPool, ...]:
        """Return the storage pools, or the last answer while libvirt gives none.

        :raises NoAnswerError: if there is no answer, or it is too old
        """
        pools = self._pools.get(refresh_timeout)
        if pools.age_seconds:
            silence = explain_silence(STORAGE, "the list of storage pools", pools.age_seconds)
            self._note("storage", "pools", silence)
        self._ages["the storage pools"] = pools.age_seconds
        return pools.value

    def _list_pools(self, connection: StorageHypervisor) -> tuple[StoragePool | UnreadPool, ...]:
        """Return the storage pools that can match the configuration."""
        config = self._config
        if config.storage_pool or config.images_type not in ("lvm", "rbd"):
            return connection.list_active_pools()
        return connection.list_active_pools_of("logical" if config.images_type == "lvm" else "rbd")

    def _read_back_end(self, refresh_timeout: RefreshTimeout) -> Storage:
        """Return the numbers of the volume group or Ceph pool, from a storage pool or else from a command.

        :raises StorageError: if neither has them, or not yet
        """
        config = self._config
        is_lvm = config.images_type == "lvm"
        listed = self._read_pools(refresh_timeout)
        self._note_unread(listed)
        pools = [pool for pool in listed if isinstance(pool, StoragePool)]
        source_name = (config.images_volume_group or "") if is_lvm else config.images_rbd_pool
        storage = find_pool_info(pools, source_name)
        if storage is not None:
            return storage
        if is_lvm and not config.is_local:
            names = ", ".join(pool.source_name for pool in pools if pool.source_name) or "none"
            raise StorageError(
                f"images_volume_group {source_name}: no active storage pool has it (there are: {names}),"
                " and vgs works only on the hypervisor itself"
            )
        storage = self._command.get()
        self._ages["the storage command"] = self._command.age_seconds
        if self._command.error is not None:
            self._note("storage", "storage command", self._command.error)
        return storage

    def _make_reader(self) -> CommandReader:
        config = self._config
        if config.images_type == "lvm":
            what = f"images_volume_group {config.images_volume_group}: vgs"
        else:
            what = f"images_rbd_pool {config.images_rbd_pool}: ceph"
        return CommandReader(partial(self._ask_command, config), what=what, clock=self._clock)

    def _ask_command(self, config: HypervisorConfig) -> Storage:
        if config.images_type == "lvm":
            with self._recorder.step("vgs", config.images_volume_group or "", kind=COMMAND):
                return get_volume_group_info(config.images_volume_group or "", commands=self._commands)
        with self._recorder.step("ceph df", config.images_rbd_pool, kind=COMMAND):
            return get_ceph_pool_info(
                config.images_rbd_pool,
                user=config.rbd_user,
                ceph_conf=config.images_rbd_ceph_conf,
                commands=self._commands,
            )

    def _read_instances_path(self, refresh_timeout: RefreshTimeout) -> Storage:
        """Return the instances path's numbers.

        :raises StorageError: also when its file system does not answer
        """
        (info,) = self._file_systems.run([self._config.instances_path], refresh_timeout)
        if isinstance(info, Hung):
            raise StorageError(f"instances_path {info.path}: its file system does not answer")
        storage, mounted = info
        self._ages["the instances path"] = 0.0
        self._identify = partial(_identify_mounted, mounted, path=_path_of(self._config.instances_path))
        return storage

    def _note_unread(self, pools: Sequence[StoragePool | UnreadPool]) -> None:
        """Name each pool that cannot be read; the storage is known without it, or asked for otherwise."""
        for pool in pools:
            if isinstance(pool, UnreadPool):
                self._note(pool.reason, f"pool {pool.name}", describe_unread(pool), severity=Severity.NOTE)

    def _note(self, reason: str, subject: str, message: str, *, severity: Severity = Severity.ERROR) -> None:
        problem = Problem(severity=severity, reason=reason, subject=subject, message=message)
        self._problems = (*self._problems, problem)


class CommandReader:
    """The last answer of a storage command.

    :param read: runs the command; raises StorageError; may block for ever
    :param what: the subject of a message: "images_volume_group vms: vgs"
    :param clock: monotonic seconds
    :param timeout: seconds to wait for the very first answer
    """

    def __init__(
        self,
        read: Callable[[], Storage],
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
        self._known: Storage | None = None
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

    def get(self) -> Storage:
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


def _measure(instances_path: str | None) -> tuple[Storage, Mounted | None]:
    """Return the numbers of the file system of the instances path, and what it is."""
    storage = get_instances_info(instances_path)
    return storage, read_mounted(find_instances_path(instances_path))


def _identify_mounted(mounted: Mounted | None, hostname: str, *, path: str) -> StorageSource:
    if mounted is None:
        return StorageSource(kind="file system", source=path)
    return identify_file_system(mounted.file_system, mounted.details, hostname=hostname, path=mounted.path)


def _options(config: HypervisorConfig) -> tuple[object, ...]:
    """Return the settings that decide which storage pools and commands are used."""
    return (
        config.instances_path,
        config.storage_pool,
        config.images_type,
        config.images_volume_group,
        config.images_rbd_pool,
        config.images_rbd_ceph_conf,
        config.rbd_user,
    )


def _find_source(config: HypervisorConfig) -> StorageSource | None:
    """Return what the configuration alone says."""
    if config.storage_pool:
        return StorageSource(kind="pool", source=", ".join(config.storage_pool))
    if config.images_type == "lvm":
        return StorageSource(kind="lvm", source=config.images_volume_group or "")
    if config.images_type == "rbd":
        return StorageSource(kind="rbd", source=config.images_rbd_pool)
    if not config.is_local:
        return StorageSource(kind="pool", source="")
    return None


def _needs_pools(config: HypervisorConfig) -> bool:
    return bool(config.storage_pool) or not config.is_local or config.images_type in ("lvm", "rbd")


def _path_of(instances_path: str | None) -> str:
    return instances_path or DEFAULT_INSTANCES_PATHS[0]

"""Storage: the size and use of the storage for guests' images.

That is the file system of the instances path, or libvirt's storage pools, or a volume group or Ceph pool. A
volume group is that of a storage pool of libvirt if there is one; otherwise `vgs` is run. For a Ceph pool,
`ceph df` is run: it takes replicas into account, which libvirt's pool does not. A command may take long, or
hang on a dead device or cluster. So it runs between scrapes, with its own timeout
(`exporter/virt/commands.py`). Scrapes use what is known, if it is not too old. Only the first answer is
waited for, for a moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial

from exporter.compute.source import Job, Settings, Source
from exporter.config.settings import HypervisorConfig
from exporter.errors import ConnectionLostError, HypervisorError, NoAnswerError
from exporter.model import Problem, Severity, Storage, StorageIdentity, StoragePool, UnreadPool
from exporter.recorder import COMMAND, Recorder
from exporter.virt.calls import StorageHypervisor
from exporter.virt.commands import Commands
from exporter.virt.connections import Connections
from exporter.virt.daemons import STORAGE, explain_silence
from exporter.virt.files import FileReader, Hung, HungReads
from exporter.virt.refresh_timeout import RefreshTimeout
from exporter.virt.slow_calls import SlowCall
from exporter.virt.sources.image_cache import ImageCache
from exporter.virt.storage.back_ends import Answer, get_volume_group_info
from exporter.virt.storage.ceph_pools import CephAccess, CephPools
from exporter.virt.storage.command_reader import SILENT_SECONDS, CommandReader
from exporter.virt.storage.file_system import (
    DEFAULT_INSTANCES_PATHS,
    StorageError,
    find_instances_path,
    get_instances_info,
)
from exporter.virt.storage.identity import StorageSource, make_id, make_storage_identity
from exporter.virt.storage.mounted import Mounted, read_mounted
from exporter.virt.storage.network_file_systems import identify_mounted
from exporter.virt.storage.pool_identity import see_pool
from exporter.virt.storage.pool_places import PoolPlaces
from exporter.virt.storage.pools import choose_pools, combine_sources, describe_unread, find_pool, sum_pools

# The last answer about storage pools is used for this long while there is no new one.
POOLS_MAX_AGE_SECONDS = 300.0

# `vgs` is tried three times, COMMAND_TIMEOUT_SECONDS each.
COMMAND_JOB_TIMEOUT_SECONDS = 3 * SILENT_SECONDS

_RAW = (
    "its free bytes are those of the Ceph cluster before replication. With three replicas,"
    " a third of that can be written"
)


class HostStorage(Source):
    """The storage of a hypervisor. Not thread-safe, except the jobs of `list_jobs`.

    :param connections: lends the connection for storage pools
    :param hung_reads: remembers hung reads of files
    :param clock: monotonic seconds
    :param recorder: takes down the commands that are run
    :param ceph: runs `ceph` for all hypervisors that ask the same
    :ivar image_cache: the size of Nova's image cache, where that counts
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
        ceph: CephPools | None = None,
    ) -> None:
        self._ceph = ceph or CephPools(clock=clock)
        self._borrowed: list[CephAccess] = []
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
        self._pool_places = PoolPlaces(hung_reads, clock=clock)
        self._found: StorageSource | None = None
        self._commands = Commands()
        self._command = self._make_reader()
        self.image_cache = ImageCache(settings, clock=clock)
        self._problems: tuple[Problem, ...] = ()
        self._ages: dict[str, float] = {}
        self._pools_read: tuple[StoragePool, ...] = ()

    @property
    def hung(self) -> int:
        """How many calls are past their timeout: 0 or 1."""
        return self._pools.hung

    def get_ages(self) -> Mapping[str, float]:
        """Return the age of each answer that counts."""
        return {**self._ages, **self.image_cache.get_ages()}

    def get_part(self) -> tuple[StoragePool, ...] | None:
        """Return the storage pools that the last read was told of; None where it needed none."""
        return self._pools_read or None

    def list_jobs(self) -> Sequence[Job]:
        """Return the jobs that run the command and read the image cache, if they are due."""
        cache = self.image_cache.list_jobs()
        if not self._command.needs_reading():
            return cache
        run, timeout = self._command.read, COMMAND_JOB_TIMEOUT_SECONDS
        return [*cache, Job(key="command", run=run, timeout=timeout, may_hang=True)]

    def get_problems(self) -> Sequence[Problem]:
        """Return the problems of the last read."""
        return (*self._problems, *self.image_cache.get_problems())

    def configure(self, settings: Settings) -> None:
        """Read the storage of these settings from now on."""
        before, self._config = self._config, settings.hypervisor
        self.image_cache.configure(settings)
        if _options(self._config) != _options(before):
            self._pools.forget()
            self._commands.stop()
            self._command = self._make_reader()
            self._found = None

    def close(self) -> None:
        """Kill the command if it is running, and run none from now on. Does not block."""
        self._commands.close()
        self._give_back()

    def note_reconnected(self) -> None:
        """Abandon a call that may be asking a hypervisor that is gone. The last answer is still used."""
        self._pools.abandon()

    def begin(self, refresh_timeout: RefreshTimeout) -> None:
        """Start the call that a refresh will wait for, without waiting."""
        config = self._config
        if _needs_ceph(config):
            needs_pools = self._command.has_failed
        else:
            needs_pools = _has_pools(config) or config.images_type == "lvm"
        if needs_pools:
            self._pools.begin(refresh_timeout)

    def read(self, refresh_timeout: RefreshTimeout, *, hostname: str) -> Storage | None:
        """Return its size and use; None if they cannot be read.

        :param hostname: the hypervisor's
        :raises ConnectionLostError: if the connection broke
        """
        self._problems, self._ages, self._pools_read = (), {}, ()
        config = self._config
        try:
            back_end = "" if config.storage_pool else config.images_type
            if back_end == "lvm":
                return self._read_volume_group(refresh_timeout, hostname)
            if back_end == "rbd":
                return self._read_ceph(refresh_timeout, hostname)
            if _has_pools(config):
                return self._read_chosen_pools(refresh_timeout, hostname)
            return self._read_instances_path(refresh_timeout, hostname)
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
        """Return which storage it is, also while its numbers cannot be read; None if that never was known."""
        return make_storage_identity(self._found, hostname=hostname, storage_id=self._config.storage_id)

    def _read_pools(self, refresh_timeout: RefreshTimeout) -> tuple[StoragePool | UnreadPool, ...]:
        """Return the storage pools, or the last answer while libvirt gives none.

        :raises NoAnswerError: if there is no answer, or it is too old
        """
        pools = self._pools.get(refresh_timeout)
        if pools.age_seconds:
            silence = explain_silence(STORAGE, "the list of storage pools", pools.age_seconds)
            self._note("storage", "pools", silence)
        self._ages["the storage pools"] = pools.age_seconds
        self._pools_read = tuple(pool for pool in pools.value if isinstance(pool, StoragePool))
        return pools.value

    def _list_pools(self, connection: StorageHypervisor) -> tuple[StoragePool | UnreadPool, ...]:
        """Return the storage pools that can match the configuration."""
        config = self._config
        if config.storage_pool or config.images_type not in ("lvm", "rbd"):
            return connection.list_active_pools()
        return connection.list_active_pools_of("logical" if config.images_type == "lvm" else "rbd")

    def _read_chosen_pools(self, refresh_timeout: RefreshTimeout, hostname: str) -> Storage:
        """Return what the storage pools that count have together.

        :raises StorageError: if it is not clear which pools count
        """
        pools = self._read_pools(refresh_timeout)
        chosen = choose_pools(pools, self._config.storage_pool)
        self._note_unread(pools)
        return self._measure_pools(chosen, refresh_timeout, hostname)

    def _measure_pools(
        self,
        pools: Sequence[StoragePool],
        refresh_timeout: RefreshTimeout,
        hostname: str,
        *,
        why_raw: str = "",
    ) -> Storage:
        """Return what pools have together.

        :param why_raw: follows in the message if they tell raw bytes
        """
        if self._config.is_local:
            seen, are_known = self._pool_places.see(pools, refresh_timeout, hostname=hostname)
        else:
            seen, are_known = tuple(see_pool(pool, hostname=hostname) for pool in pools), True
        if are_known:
            self._found = combine_sources(seen)
        storage = sum_pools(seen, replicas=self._config.images_rbd_replicas)
        for pool in pools:
            if pool.source_error is not None:
                message = f"storage pool {pool.name}: its source is not known: {pool.source_error}"
                self._note("storage", f"pool {pool.name}", message, severity=Severity.NOTE)
        if storage.is_raw:
            names = ", ".join(pool.name for pool in pools)
            self._note("raw", "storage", f"storage pool {names}: {_RAW}{why_raw}", severity=Severity.NOTE)
        return storage

    def _read_volume_group(self, refresh_timeout: RefreshTimeout, hostname: str) -> Storage:
        """Return the numbers of the volume group, from a storage pool or else from `vgs`.

        :raises StorageError: if neither has them, or not yet
        """
        name = self._config.images_volume_group or ""
        pools = self._read_pools(refresh_timeout)
        self._note_unread(pools)
        pool = find_pool(pools, name)
        if pool is not None:
            return self._measure_pools([pool], refresh_timeout, hostname)
        if not self._config.is_local:
            raise StorageError(
                f"images_volume_group {name}: {_describe_missing(pools)},"
                " and vgs works only on the hypervisor itself"
            )
        try:
            return self._read_command(kind="lvm", source=name)
        except StorageError as error:
            if self._command.has_failed:
                raise StorageError(f"{error}; {_describe_missing(pools)}") from error
            raise

    def _read_ceph(self, refresh_timeout: RefreshTimeout, hostname: str) -> Storage:
        """Return the numbers of the Ceph pool as `ceph` tells them, as to Nova. Else those of a storage pool.

        :raises StorageError: if neither has them, or not yet
        """
        name = self._config.images_rbd_pool
        try:
            return self._read_command(kind="rbd", source=name)
        except StorageError as error:
            if not self._command.has_failed:
                raise
            pools = self._read_pools(refresh_timeout)
            self._note_unread(pools)
            pool = find_pool(pools, name)
            if pool is None:
                raise StorageError(f"{error}; {_describe_missing(pools)}") from error
            return self._measure_pools([pool], refresh_timeout, hostname, why_raw=f" ({error})")

    def _read_command(self, *, kind: str, source: str) -> Storage:
        """Return what the command told last.

        :raises StorageError: if nothing is known, or it is too old
        """
        answer = self._command.get()
        self._ages["the storage command"] = self._command.age_seconds
        if self._command.error is not None:
            self._note("storage", "storage command", self._command.error)
        if answer.problem is not None:
            self._note("storage", "storage owner", answer.problem)
        if not answer.is_owner_pending:
            owner = answer.owner
            parts = [] if owner is None else [owner] if kind == "lvm" else [owner, source]
            shared_id = make_id(kind, *parts) if parts else None
            self._found = StorageSource(kind=kind, source=source, shared_id=shared_id)
        return answer.storage

    def _make_reader(self) -> CommandReader:
        """Return the reader of the command that the settings may need."""
        self._give_back()
        config = self._config
        if _needs_ceph(config):
            access = CephAccess(
                pool=config.images_rbd_pool, user=config.rbd_user, ceph_conf=config.images_rbd_ceph_conf
            )
            reader = self._ceph.borrow(access, self._recorder)
            self._borrowed.append(access)
            return reader
        what = f"images_volume_group {config.images_volume_group}: vgs"
        return CommandReader(partial(self._ask_vgs, config), what=what, clock=self._clock)

    def _give_back(self) -> None:
        # Another thread may do the same: what is taken off the list is given back once.
        with suppress(IndexError):
            while True:
                self._ceph.give_back(self._borrowed.pop())

    def _ask_vgs(self, config: HypervisorConfig) -> Iterator[Answer]:
        with self._recorder.step("vgs", config.images_volume_group or "", kind=COMMAND):
            yield get_volume_group_info(config.images_volume_group or "", commands=self._commands)

    def _read_instances_path(self, refresh_timeout: RefreshTimeout, hostname: str) -> Storage:
        """Return the instances path's numbers.

        :raises StorageError: also when its file system does not answer
        """
        (info,) = self._file_systems.run([self._config.instances_path], refresh_timeout)
        if isinstance(info, Hung):
            raise StorageError(f"instances_path {info.path}: its file system does not answer")
        storage, mounted = info
        self._ages["the instances path"] = 0.0
        self._found = (
            StorageSource(kind="file system", source=_path_of(self._config.instances_path))
            if mounted is None
            else identify_mounted(mounted, hostname=hostname)
        )
        return storage

    def _note_unread(self, pools: Sequence[StoragePool | UnreadPool]) -> None:
        """Name each pool that cannot be read; the storage is known without it, or asked for otherwise."""
        for pool in pools:
            if isinstance(pool, UnreadPool):
                self._note(pool.reason, f"pool {pool.name}", describe_unread(pool), severity=Severity.NOTE)

    def _note(self, reason: str, subject: str, message: str, *, severity: Severity = Severity.ERROR) -> None:
        problem = Problem(severity=severity, reason=reason, subject=subject, message=message)
        self._problems = (*self._problems, problem)


def _measure(instances_path: str | None) -> tuple[Storage, Mounted | None]:
    """Return the numbers of the file system of the instances path, and what it is."""
    storage = get_instances_info(instances_path)
    return storage, read_mounted(find_instances_path(instances_path))


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


def _describe_missing(pools: Sequence[StoragePool | UnreadPool]) -> str:
    """Return that no storage pool has the volume group or Ceph pool, and which there are."""
    sources = [pool.source for pool in pools if isinstance(pool, StoragePool)]
    names = ", ".join(source.name for source in sources if source is not None and source.name) or "none"
    return f"no active storage pool has it (there are: {names})"


def _needs_ceph(config: HypervisorConfig) -> bool:
    return config.images_type == "rbd" and not config.storage_pool


def _has_pools(config: HypervisorConfig) -> bool:
    """Whether storage pools count, and not the instances path."""
    return bool(config.storage_pool) or not config.is_local


def _path_of(instances_path: str | None) -> str:
    return instances_path or DEFAULT_INSTANCES_PATHS[0]

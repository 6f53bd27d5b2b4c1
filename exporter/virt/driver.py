"""LibvirtDriver: reads one hypervisor and computes what Nova's driver of that name would answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from exporter.compute.source import Settings, Source
from exporter.config.settings import HypervisorConfig
from exporter.errors import ConnectError, ConnectionLostError, HypervisorError, UnsupportedError
from exporter.model import (
    Capabilities,
    DomainsReading,
    DriverStats,
    FreeNumaMemory,
    NodeInfo,
    Problem,
    Reading,
    Resources,
    UnsizedImage,
)
from exporter.recorder import Recorder
from exporter.virt.call_source import CallSource
from exporter.virt.calls import (
    BorrowedHypervisor,
    Hypervisor,
    NodeDeviceHypervisor,
    NodeHypervisor,
    StorageHypervisor,
    WaitingHypervisor,
)
from exporter.virt.connections import MAX_STORAGE_CONNECTIONS, RETRY_SECONDS, Connections
from exporter.virt.failed_calls import make_failed_call
from exporter.virt.files import HungReads
from exporter.virt.guests.calls import REMOTE_TIMEOUT_SECONDS, TIMEOUT_SECONDS, GuestCalls
from exporter.virt.guests.contribution import Contributions
from exporter.virt.identity import Identity
from exporter.virt.masks import Sandbox
from exporter.virt.refresh_timeout import RefreshTimeout
from exporter.virt.resources import get_available_resource
from exporter.virt.sources.capabilities import HostCapabilities
from exporter.virt.sources.chosen_guests import GuestChoice
from exporter.virt.sources.cpu_times import CpuTimes
from exporter.virt.sources.guest_statistics import GuestStatisticsRounds
from exporter.virt.sources.guest_use import GuestUseFiles
from exporter.virt.sources.guests import Guests
from exporter.virt.sources.guests_together import CommonGroup
from exporter.virt.sources.images import Images, ImageSizes
from exporter.virt.sources.node_devices import NodeDeviceCache
from exporter.virt.sources.numa import NumaMemory, has_outgrown
from exporter.virt.sources.online_cpus import OnlineCpus
from exporter.virt.sources.storage import HostStorage
from exporter.virt.storage.ceph_pools import CephPools
from exporter.virt.storage.volumes import VolumeSizes

T = TypeVar("T")

_CPU_MAP = "virNodeGetCPUMap"
_MEMORY_STATISTICS = "virNodeGetMemoryStats"


class LibvirtDriver:
    """Nova's LibvirtDriver, as far as it tells a host's resources: a connection, and a list of sources.

    `get_available_resource` is not for two threads at once; the jobs of `sources` may run beside it.

    :param hypervisor: the connection that refreshes use
    :param make_connection: makes another one to the same hypervisor, for calls that may wait
    :param node_device_hypervisor: another connection, for node devices and their events
    :param needs: the names of the sources to read; the sources that these need are read too. None for all
    :param stale_grace: seconds for which the last list of domains is used while libvirt gives no new one
    :param clock: monotonic seconds
    :param wall_clock: seconds since the epoch
    :param recorder: takes down the steps of each refresh, and what hangs
    :param ceph: runs `ceph` for all hypervisors that ask the same
    :param lend: makes an object that lends connections and starts calls over them, like `Connections`
    :param more_sources: are read beside its own
    :param sandbox: where the files are in which this machine's kernel tells what guests use
    """

    def __init__(
        self,
        hypervisor: NodeHypervisor,
        make_connection: Callable[[], BorrowedHypervisor],
        node_device_hypervisor: NodeDeviceHypervisor,
        config: HypervisorConfig,
        *,
        needs: Collection[str] | None = None,
        resync_interval: float,
        stale_grace: float,
        clock: Callable[[], float],
        wall_clock: Callable[[], float] = time.time,
        lend: Callable[..., Connections[Any]] = Connections,
        more_sources: Sequence[Source] = (),
        recorder: Recorder | None = None,
        ceph: CephPools | None = None,
        sandbox: Sandbox | None = None,
    ) -> None:
        self._hypervisor = hypervisor
        self._recorder = recorder = recorder or Recorder(clock=clock)
        self._clock = clock
        self._next_config = config
        self._settings = settings = Settings(
            hypervisor=config, resync_interval=resync_interval, stale_grace=stale_grace
        )
        self._lent: Connections[WaitingHypervisor] = lend(make_connection, clock=clock)
        lent_for_storage: Connections[StorageHypervisor] = lend(
            make_connection, clock=clock, maximum=MAX_STORAGE_CONNECTIONS
        )
        self._connections: tuple[Hypervisor | Connections[Any], ...] = (
            hypervisor,
            self._lent,
            lent_for_storage,
            node_device_hypervisor,
        )
        timeout = REMOTE_TIMEOUT_SECONDS if config.is_remote else TIMEOUT_SECONDS
        guest_calls = GuestCalls(self._lent, clock=clock, timeout=timeout)
        self._hung_reads = HungReads(recorder)
        self._guests = Guests(self._lent, guest_calls, settings, clock=clock)
        self._guest_choice = GuestChoice(settings)
        self._common_group = CommonGroup(
            self._hung_reads, settings, clock=clock, sandbox=sandbox or Sandbox()
        )
        self._guest_statistics = GuestStatisticsRounds(
            guest_calls, settings, clock=clock, wall_clock=wall_clock
        )
        self._guest_use = GuestUseFiles(self._hung_reads, settings, clock=clock, sandbox=sandbox or Sandbox())
        self._images = Images(
            self._hung_reads,
            ImageSizes(guest_calls, VolumeSizes(lent_for_storage), settings, clock=clock),
            settings,
            clock=clock,
        )
        self._node_devices = NodeDeviceCache(node_device_hypervisor, settings, clock=clock)
        self._online_cpus = OnlineCpus(self._lent, settings, clock=clock)
        self._capabilities = HostCapabilities(self._lent, clock=clock)
        self._numa_memory = NumaMemory(hypervisor)
        self._storage = HostStorage(
            lent_for_storage, self._hung_reads, settings, clock=clock, recorder=recorder, ceph=ceph
        )
        # Each after those that it needs.
        self._all_sources: tuple[Source, ...] = (
            self._guests,
            self._guest_choice,
            self._guest_use,
            self._common_group,
            self._guest_statistics,
            self._images,
            self._node_devices,
            self._online_cpus,
            self._capabilities,
            self._numa_memory,
            self._storage,
            CpuTimes(self._lent, settings, clock=clock),
            *more_sources,
        )
        names = frozenset(source.name for source in self._all_sources)
        self._needs = names if needs is None else frozenset(needs)
        if not self._needs <= names:
            raise ValueError(f"no sources: {', '.join(sorted(self._needs - names))}")
        self._sources = self._choose_sources()
        self._contributions = Contributions()
        self._identity = Identity(hypervisor)

    @property
    def sources(self) -> Sequence[Source]:
        """The sources that are needed."""
        return self._sources

    @property
    def has_to_connect(self) -> bool:
        """Whether it has no connection, and opens one over a network at the next read, or is opening it."""
        return not self._hypervisor.is_open and self._settings.hypervisor.is_remote

    def get_available_resource(self) -> Resources:
        """Read the hypervisor, after connecting if necessary, and return Nova's resource dictionary.

        :raises HypervisorError: if it cannot be reached, or does not answer the calls that all others need
        """
        if self._next_config is not self._settings.hypervisor:
            # Only now, in the thread of the reading, so that each is by one configuration.
            self._identity.forget()
            self._go_by(replace(self._settings, hypervisor=self._next_config))
        refresh_timeout = RefreshTimeout(clock=self._clock)
        # If a call takes long, start the refresh's remaining calls in parallel.
        refresh_timeout.begin_others = lambda: self._begin_slow_calls(refresh_timeout)
        with self._recorder.step("connect, if need be"):
            is_new = self._connect()
        started = self._clock()
        try:
            reading = self._read(refresh_timeout)
        except ConnectionLostError:
            self._hypervisor.disconnect()
            if is_new or self._clock() - started > RETRY_SECONDS:
                raise
            # libvirtd was restarted since the last refresh. Try again.
            self._connect()
            reading = self._read(refresh_timeout)
        self._note_earlier()
        with self._recorder.step("compute Nova's numbers"):
            return get_available_resource(reading, self._settings.hypervisor, self._contributions)

    def get_stats(self) -> DriverStats:
        """Return the counters."""
        hung_openings = sum(each.hung_openings for each in self._connections)
        return DriverStats(
            libvirt_calls=sum(each.calls for each in self._connections),
            guests_read=self._guests.guests_read,
            events=self._hypervisor.events,
            connects=self._hypervisor.connects,
            hung=hung_openings + len(self._hung_reads) + sum(each.hung for each in self._sources),
        )

    def configure(self, *, resync_interval: float, stale_grace: float) -> None:
        """Use these times from now on; see `__init__`."""
        self._go_by(replace(self._settings, resync_interval=resync_interval, stale_grace=stale_grace))

    def reconfigure(self, config: HypervisorConfig) -> None:
        """Use these settings from the next refresh on. They have the same URI.

        What was read from libvirt is kept, and so are calls that wait for an answer: neither depends on the
        settings.
        """
        self._next_config = config

    def has_lost_connection(self) -> bool:
        """Whether libvirt reported that the connection is closed.

        Then everything that was read over it is outdated.
        """
        return self._hypervisor.is_lost

    def stop_commands(self) -> None:
        """Kill the commands that are running, and run none from now on. Does not block."""
        self._storage.close()

    def close(self) -> None:
        """Close the connections for good. A refresh or a job that is under way opens none after this.

        To close one may take for ever. So first all of them are forbidden to connect.
        """
        self._guest_use.close()
        for connection in self._connections:
            connection.forbid_connecting()
        for connection in self._connections:
            connection.close()

    def _go_by(self, settings: Settings) -> None:
        self._settings = settings
        for source in self._all_sources:
            source.configure(settings)
        self._sources = self._choose_sources()

    def _choose_sources(self) -> tuple[Source, ...]:
        """Return the needed sources, and those that these need."""
        needs = set(self._needs)
        config = self._settings.hypervisor
        if "guests" in needs and (config.flavors_from_guests or any(f.numa_cells for f in config.flavors)):
            # How many guests of such a flavor fit depends on the huge pages that are free.
            needs.add(self._numa_memory.name)
        for source in reversed(self._all_sources):
            if source.name in needs:
                needs |= source.needs
        return tuple(source for source in self._all_sources if source.name in needs)

    def _connect(self) -> bool:
        """Connect if necessary. Then read everything again, because events may have been missed."""
        if not self._hypervisor.connect():
            return False
        # At once: if a later step fails, the connection stays, and the next refresh finds no new one.
        self._identity.forget()
        for source in self._all_sources:
            source.note_reconnected()
        told = self._hypervisor.watch(self._guests.mark_changed, self._guests.events.note)
        self._guests.events.note_watched(told)
        self._lent.open()
        return True

    def _read(self, refresh_timeout: RefreshTimeout) -> Reading:
        needs, step = self._is_needed, self._recorder.step
        with step("read the host: identity, CPUs, memory"):
            identity = self._identity.get(self._settings.hypervisor)
            self._guests.note_libvirt_version(identity.libvirt_version)
            if needs(self._guests):
                self._guests.begin(refresh_timeout)  # libvirtd lists the domains beside these calls
            failed: dict[str, HypervisorError] = {}
            node = self._ask("virNodeGetInfo", self._hypervisor.get_node_info, failed)
            node_memory = self._ask(_MEMORY_STATISTICS, self._hypervisor.get_node_memory, failed)
            capabilities = self._capabilities.get(node) if needs(self._capabilities) else None
            free_numa_memory = self._read_numa_memory(capabilities)
        domains = self._read_domains(refresh_timeout)
        if needs(self._guest_choice):
            chosen = self._guest_choice.choose(domains)
            if needs(self._guest_statistics):
                self._guest_statistics.want(chosen)
            if needs(self._guest_use):
                with step("read what each guest uses"):
                    self._guest_use.read(chosen, refresh_timeout)
        if needs(self._common_group):
            with step("read what all guests use together"):
                self._common_group.read(domains, refresh_timeout)
        if capabilities is None:
            with step("read the capabilities, as they are not known or old"):
                capabilities = self._read_capabilities(refresh_timeout, node, domains)
                free_numa_memory = self._read_numa_memory(capabilities)
        with step("read storage"):
            storage = None
            if needs(self._storage):
                storage = self._storage.read(refresh_timeout, hostname=identity.hostname)
        for source in self._call_sources:
            with step(f"read {source.name}"):
                source.read(refresh_timeout)
        failed_calls = {call for call, error in failed.items() if not isinstance(error, UnsupportedError)}
        cpu_map = self._online_cpus.get() if needs(self._online_cpus) else None
        if self._online_cpus.has_failed:
            failed_calls |= {_CPU_MAP}
        return Reading(
            identity=identity,
            capabilities=capabilities,
            node=node,
            node_memory=node_memory,
            online_cpus=None if cpu_map is None else cpu_map.online,
            available_cpus=None if cpu_map is None else cpu_map.available,
            cpus_by_cell={} if cpu_map is None else cpu_map.by_cell,
            free_numa_memory=free_numa_memory,
            node_devices=self._node_devices.get() if needs(self._node_devices) else None,
            storage=storage,
            storage_identity=self._storage.get_identity(identity.hostname) if needs(self._storage) else None,
            domains=domains,
            failed_calls=frozenset(failed_calls),
            problems=(
                *self._identity.get_problems(),
                *_describe(failed),
                *(each for source in self._sources for each in source.get_problems()),
            ),
            image_cache_bytes=self._storage.image_cache.get(),
            parts={each.name: part for each in self._sources if (part := each.get_part()) is not None},
            ages={each.name: max(ages.values()) for each in self._sources if (ages := each.get_ages())},
        )

    @property
    def _call_sources(self) -> Sequence[CallSource[Any]]:
        return [source for source in self._sources if isinstance(source, CallSource)]

    def _is_needed(self, source: Source) -> bool:
        return source in self._sources

    def _note_earlier(self) -> None:
        """Record, during a recording, which earlier answers are used."""
        if self._recorder.is_recording:
            for source in self._sources:
                for name, age_seconds in source.get_ages().items():
                    if age_seconds:
                        self._recorder.note_earlier(name, age_seconds)

    def _begin_slow_calls(self, refresh_timeout: RefreshTimeout) -> None:
        sources: tuple[HostCapabilities | HostStorage | CallSource[Any], ...] = (
            self._capabilities,
            self._storage,
            *self._call_sources,
        )
        for source in sources:
            if self._is_needed(source):
                source.begin(refresh_timeout)

    def _ask(self, call: str, read: Callable[[], T], failed: dict[str, HypervisorError]) -> T | None:
        """Make a call about the host. If it fails, put its error to the others, and return None.

        :raises HypervisorError: if the connection is lost or cannot be opened
        """
        try:
            return read()
        except (ConnectError, ConnectionLostError):
            raise
        except HypervisorError as error:
            failed[call] = error
        return None

    def _read_domains(self, refresh_timeout: RefreshTimeout) -> DomainsReading | None:
        if not self._is_needed(self._guests):
            return None
        with self._recorder.step("read the list of domains, and new guests"):
            domains = self._guests.read(refresh_timeout)
        if domains is None:
            return None
        if self._is_needed(self._images):
            with self._recorder.step("read images", f"of {len(domains.guests)} guests"):
                return replace(domains, images=self._images.read(domains.guests, refresh_timeout))
        unknown = {each.uuid: [UnsizedImage(None)] * len(each.images) for each in domains.known_guests}
        return replace(domains, images=unknown)

    def _read_capabilities(
        self, refresh_timeout: RefreshTimeout, node: NodeInfo | None, domains: DomainsReading | None
    ) -> Capabilities | None:
        if not self._is_needed(self._capabilities):
            return None
        is_answering = domains is not None or not self._is_needed(self._guests)
        return self._capabilities.read(refresh_timeout, node, is_libvirt_answering=is_answering)

    def _read_numa_memory(self, capabilities: Capabilities | None) -> dict[int, FreeNumaMemory]:
        if not self._is_needed(self._numa_memory):
            return {}
        cells = () if capabilities is None else capabilities.cells
        free = self._numa_memory.read(cells)
        if has_outgrown(cells, free):
            self._capabilities.expire()
        return free


def _describe(failed: Mapping[str, HypervisorError]) -> Iterator[Problem]:
    """Yield the problem of each failed call. That a driver has no memory statistics is by design."""
    for call, error in failed.items():
        if call != _MEMORY_STATISTICS or not isinstance(error, UnsupportedError):
            yield make_failed_call(call, error)

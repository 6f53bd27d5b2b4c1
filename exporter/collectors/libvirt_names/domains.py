"""Rows of the tables: the guests that are shown, their disks, interfaces and vCPUs, with what is known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from exporter.collectors.guests.rows import describe
from exporter.guest_records import (
    AllGuestStatistics,
    AllGuestsUse,
    ChosenGuest,
    ChosenGuests,
    DiskCounters,
    GuestStatistics,
    GuestUse,
    InterfaceCounters,
    MemoryStatistics,
)
from exporter.model import Disk, Guest, Interface, NovaInstance, Snapshot

_KIB = 1024
_NS = 1e9
_UNKNOWN = NovaInstance()
_NO_USE = GuestUse()
_NO_MEMORY = MemoryStatistics()
_NO_STATISTICS = GuestStatistics(read_at=0)
# They have no series with those who are replaced, or not those of a disk.
_REMOVABLE = ("cdrom", "floppy")


@dataclass(frozen=True, kw_only=True, slots=True)
class Domain:
    """A guest that is shown, with all that is known of it."""

    chosen: ChosenGuest
    uuid: str
    name: str
    state: int  # virDomainState
    is_active: bool
    guest: Guest | None
    use: GuestUse
    cpu_ns: int | None
    interfaces: Mapping[str, InterfaceCounters]
    disks: Mapping[str, DiskCounters]
    memory: MemoryStatistics
    is_responsive: bool | None
    show_owner_names: bool
    series_labels: tuple[str, ...]  # labels of hypervisor_guest_info that all its series have

    @property
    def domain(self) -> Domain:
        """Itself, as with its disks."""
        return self

    @property
    def key(self) -> object:
        """Nothing: there is one row for it."""
        return None

    @property
    def more_labels(self) -> dict[str, str]:
        """The labels that the configuration adds to all its series."""
        identity = describe(self.chosen, show_owner_names=self.show_owner_names)
        return {name: identity[name] for name in self.series_labels}

    @property
    def instance(self) -> NovaInstance:
        """Who it is by Nova's metadata; empty without them."""
        return _UNKNOWN if self.guest is None else self.guest.nova_instance

    @property
    def flavor(self) -> str:
        """The name of its flavor; empty without Nova's metadata."""
        flavor = None if self.guest is None else self.guest.nova_flavor
        return "" if flavor is None else flavor.name

    @property
    def project_name(self) -> str:
        """The name of its project; empty where the names of owners are not to be shown."""
        return self.instance.project_name if self.show_owner_names else ""

    @property
    def user_name(self) -> str:
        """The name of its user; empty where the names of owners are not to be shown."""
        return self.instance.user_name if self.show_owner_names else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class DomainDisk:
    """A disk of a guest that runs."""

    domain: Domain
    disk: Disk
    counters: DiskCounters

    @property
    def key(self) -> object:
        """Which of the guest's disks it is."""
        return self.disk.target

    @property
    def file(self) -> str:
        """Its image; empty if it is not in a file."""
        return self.path if self.disk.source_type == "file" else ""

    @property
    def path(self) -> str:
        """Its image, or the path of its device; empty if it is a network disk."""
        return self.disk.path or ""

    @property
    def source(self) -> str:
        """Its path, or its name in the network: "vms/6f0c_disk"."""
        return self.path or self.disk.network_name

    @property
    def limits(self) -> Mapping[str, int]:
        """Its limits by libvirt's names: "read_bytes_sec"."""
        return dict(self.disk.limits)


@dataclass(frozen=True, kw_only=True, slots=True)
class DomainInterface:
    """A network interface of a guest that runs."""

    domain: Domain
    interface: Interface
    counters: InterfaceCounters | None

    @property
    def key(self) -> object:
        """Which of the guest's interfaces it is."""
        return self.interface.target

    @property
    def bridge(self) -> str:
        """Its bridge; empty if it is plugged into something else."""
        return self.interface.bridge if self.interface.type in ("bridge", "network") else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class DomainVcpu:
    """A vCPU of a guest that runs."""

    domain: Domain
    number: int
    run_ns: int | None
    delay_ns: int | None

    @property
    def key(self) -> object:
        """Which of the guest's vCPUs it is."""
        return self.number


def list_domains(snapshot: Snapshot) -> list[Domain]:
    """Return the guests that are shown, also those that do not run."""
    chosen = snapshot.get_part("chosen guests", ChosenGuests)
    return [] if chosen is None else list(_list_domains(snapshot, chosen))


def _list_domains(snapshot: Snapshot, chosen: ChosenGuests) -> Iterator[Domain]:
    uses = snapshot.get_part("guest use", AllGuestsUse)
    told = snapshot.get_part("guest statistics", AllGuestStatistics)
    for each in chosen.guests:
        record = each.record
        use = _NO_USE if uses is None else uses.use.get(record.uuid, _NO_USE)
        statistics = _NO_STATISTICS if told is None else told.statistics.get(record.uuid, _NO_STATISTICS)
        yield Domain(
            chosen=each,
            uuid=record.uuid,
            name=record.name,
            state=record.state.value,
            is_active=record.is_active,
            guest=each.guest,
            use=use,
            cpu_ns=statistics.cpu_ns if use.cpu_ns is None else use.cpu_ns,
            interfaces=use.interfaces or statistics.interfaces,
            disks=statistics.disks,
            memory=statistics.memory or _NO_MEMORY,
            is_responsive=None if told is None else told.is_responsive.get(record.uuid),
            show_owner_names=chosen.show_owner_names,
            series_labels=chosen.series_labels,
        )


def list_all(domains: Iterable[Domain]) -> Iterable[Domain]:
    """Return all guests that are shown."""
    return domains


def list_active(domains: Iterable[Domain]) -> Iterator[Domain]:
    """Yield the guests that run or are paused."""
    return (each for each in domains if each.is_active)


def list_disks(domains: Iterable[Domain]) -> Iterator[DomainDisk]:
    """Yield their disks, without CD-ROM drives and floppies; of two with one name only the first."""
    for domain in list_active(domains):
        seen: set[str] = set()
        for disk in () if domain.guest is None else domain.guest.disks:
            if disk.target and disk.target not in seen and disk.device not in _REMOVABLE:
                seen.add(disk.target)
                counters = domain.disks.get(disk.target, DiskCounters())
                yield DomainDisk(domain=domain, disk=disk, counters=counters)


def list_interfaces(domains: Iterable[Domain]) -> Iterator[DomainInterface]:
    """Yield their interfaces that have a device on the host."""
    for domain in list_active(domains):
        seen: set[str] = set()
        for interface in () if domain.guest is None else domain.guest.interfaces:
            if interface.target and interface.target not in seen:
                seen.add(interface.target)
                counters = domain.interfaces.get(interface.target)
                yield DomainInterface(domain=domain, interface=interface, counters=counters)


def list_vcpus(domains: Iterable[Domain]) -> Iterator[DomainVcpu]:
    """Yield their vCPUs of which something is known."""
    for domain in list_active(domains):
        run, delay = domain.use.vcpu_run_ns, domain.use.vcpu_delay_ns
        for number in sorted({*run, *delay}):
            yield DomainVcpu(domain=domain, number=number, run_ns=run.get(number), delay_ns=delay.get(number))


def from_kib(kib: int | None) -> int | None:
    """Return bytes."""
    return None if kib is None else kib * _KIB


def from_ns(nanoseconds: int | None) -> float | None:
    """Return seconds."""
    return None if nanoseconds is None else nanoseconds / _NS


def get_memory_bytes(domain: Domain) -> int | None:
    """Return the memory that the guest has now, by its balloon."""
    if domain.memory.balloon_kib is not None:
        return from_kib(domain.memory.balloon_kib)
    return None if domain.guest is None else from_kib(domain.guest.memory_kib)


def get_used_percent(domain: Domain) -> float | None:
    """Return which part of its memory the guest uses, by its own account."""
    available, usable = domain.memory.available_kib, domain.memory.usable_kib
    if available is None or usable is None or available <= 0:
        return None
    return 100 * (available - usable) / available

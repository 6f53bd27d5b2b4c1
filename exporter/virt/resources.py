"""Nova's get_available_resource as pure steps on what was read from a hypervisor.

Each step has the name of its function in Nova (nova/virt/libvirt/driver.py and host.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from exporter.config.settings import HypervisorConfig
from exporter.cpu_spec import format_cpu_spec, parse_cpu_spec
from exporter.model import (
    DomainsReading,
    DomainState,
    Flavor,
    FlavorSlots,
    HostNumaCell,
    Inventory,
    NodeDevices,
    NumaCell,
    Problem,
    Reading,
    ResourceClass,
    Resources,
    Severity,
    Storage,
)
from exporter.placement.cells import CellRoom, get_cell_rooms
from exporter.placement.claims import sum_claims
from exporter.placement.devices import (
    find_requested,
    get_device_inventories,
    get_pool_inventories,
    list_held_addresses,
)
from exporter.placement.flavors import get_flavor_slots, learn_flavors
from exporter.placement.holders import DeviceClaims, GuestClaim, make_guest_claim
from exporter.placement.inventory import get_inventories
from exporter.virt.guests.contribution import Contribution, Contributions
from exporter.virt.numa import get_host_numa_topology, has_numa_support

GIB = 2**30
# libvirt's drivers of containers, which have no virDomainGetVcpus.
_WITHOUT_VCPUS = ("LXC", "OpenVZ")
KIB_PER_MIB = 2**10


@dataclass(frozen=True, kw_only=True, slots=True)
class _Memory:
    """Nova's two numbers in MiB, and the bytes behind them."""

    memory_mb: int | None = None
    memory_mb_used: int | None = None
    size_bytes: int | None = None
    available_bytes: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _DiskOvercommit:
    bytes: int | None = None
    unsized_disks: int | None = None
    problems: tuple[Problem, ...] = ()


def get_available_resource(
    reading: Reading, options: HypervisorConfig, contributions: Contributions | None = None
) -> Resources:
    """Return Nova's resource dictionary for what was read. Unknown values are None, with a problem.

    :param contributions: a cache of what guests add; it changes no number
    """
    vcpus, cpu_problems = get_vcpu_total(reading, options)
    memory = _get_memory(reading, options)
    domains, storage = reading.domains, reading.storage
    guests = None
    if domains is not None:
        guests = (contributions or Contributions()).get(domains, dedicated_cpus=get_dedicated_cpus(options))
    overcommit = _DiskOvercommit() if guests is None else get_disk_over_committed_size_total(guests)
    local_gb = None if storage is None else storage.size_bytes // GIB
    totals = {
        ResourceClass.VCPU: vcpus,
        ResourceClass.PCPU: get_pcpu_total(reading, options),
        ResourceClass.MEMORY_MB: memory.memory_mb,
        ResourceClass.DISK_GB: local_gb,
    }
    is_placement_known = guests is not None and all(guest.is_placement_known for guest in guests)
    claims = None if guests is None else _sum_claims(guests, options, are_pins_known=is_placement_known)
    identity, capabilities, devices = reading.identity, reading.capabilities, reading.node_devices
    inventories = (
        *get_inventories(totals, claims, options, image_cache_bytes=reading.image_cache_bytes),
        *_get_device_inventories(devices, guests),
    )
    topology = get_host_numa_topology(
        _list_cells(reading),
        online=reading.online_cpus,
        shared=_get_vcpu_available(options),
        dedicated=_get_pcpu_available(options),
        free=reading.free_numa_memory,
        reserved=options.reserved_huge_pages,
        pinned=frozenset().union(*(guest.pinned_cpus for guest in guests or ()))
        if is_placement_known
        else None,
    )
    flavor_slots, flavor_problems = _get_flavor_slots(
        reading, guests, topology, inventories, options, is_placement_known=is_placement_known
    )
    return Resources(
        vcpus=vcpus,
        vcpus_used=None if domains is None else get_vcpu_used(domains, identity.hypervisor_type),
        memory_mb=memory.memory_mb,
        memory_mb_used=memory.memory_mb_used,
        local_gb=local_gb,
        local_gb_used=None if storage is None else storage.used_bytes // GIB,
        disk_available_least=_get_disk_available_least(storage, overcommit),
        hypervisor_type=identity.hypervisor_type,
        hypervisor_version=identity.hypervisor_version,
        hypervisor_hostname=identity.hostname,
        cpu_info=None if capabilities is None else capabilities.cpu_info,
        numa_topology=topology,
        pci_passthrough_devices=None if devices is None else devices.pci_devices,
        host_ip=identity.host_ip,
        uuid=None if capabilities is None else capabilities.uuid,
        libvirt_version=identity.libvirt_version,
        memory_size_bytes=memory.size_bytes,
        memory_available_bytes=memory.available_bytes,
        storage=storage,
        storage_identity=reading.storage_identity,
        storage_overcommitted_bytes=overcommit.bytes,
        unsized_disks=overcommit.unsized_disks,
        domains_by_state=None if domains is None else count_domains_by_state(domains),
        running_vms=None if domains is None else sum(domain.is_active for domain in domains.domains),
        domains_age_seconds=None if domains is None else domains.age_seconds,
        unread_guests=None if domains is None else domains.unread_guests,
        outdated_guests=None if domains is None else domains.outdated_guests,
        mdev_types=None if devices is None else devices.mdev_types,
        unread_devices=None if devices is None else devices.unread,
        held_pci_devices=_list_held_pci_devices(devices, guests),
        domains=domains,
        guest_claims={} if guests is None else _get_guest_claims(guests, devices, options),
        inventories=inventories,
        flavor_slots=flavor_slots,
        ages=reading.ages,
        parts=reading.parts,
        problems=(
            *reading.problems,
            *cpu_problems,
            *overcommit.problems,
            *(guest.metadata_problem for guest in guests or () if guest.metadata_problem is not None),
            *flavor_problems,
        ),
    )


def _get_device_inventories(
    devices: NodeDevices | None, guests: Sequence[Contribution] | None
) -> tuple[Inventory, ...]:
    if devices is None:
        return ()
    if guests is None or not _are_devices_known(guests):
        return get_device_inventories(devices, None)
    return get_device_inventories(devices, [(guest.devices, guest.requested_devices) for guest in guests])


def _are_devices_known(guests: Sequence[Contribution]) -> bool:
    """Whether it is known of each guest which of the host's devices it has."""
    return all(guest.devices.are_known for guest in guests)


def _list_held_pci_devices(
    devices: NodeDevices | None, guests: Sequence[Contribution] | None
) -> frozenset[str] | None:
    if devices is None or guests is None or not _are_devices_known(guests):
        return None
    return list_held_addresses(devices, [guest.devices for guest in guests])


def _list_cells(reading: Reading) -> Sequence[NumaCell]:
    """Return the NUMA cells. Under power management, with the CPUs that are offline at the moment.

    Nova asks libvirt for the cells once, while all dedicated CPUs are online (`_init_host_topology`).
    """
    cells = () if reading.capabilities is None else reading.capabilities.cells
    if reading.available_cpus is None or reading.online_cpus is None:
        return cells
    offline = reading.available_cpus - reading.online_cpus
    by_cell = {cells[0].id: offline} if len(cells) == 1 else reading.cpus_by_cell
    return [replace(cell, cpus=cell.cpus | offline & by_cell.get(cell.id, frozenset())) for cell in cells]


def _get_flavor_slots(
    reading: Reading,
    guests: Sequence[Contribution] | None,
    topology: tuple[HostNumaCell, ...] | None,
    inventories: tuple[Inventory, ...],
    options: HypervisorConfig,
    *,
    is_placement_known: bool,
) -> tuple[tuple[FlavorSlots, ...], tuple[Problem, ...]]:
    """Return how many more guests of each flavor fit.

    The flavors are configured, or also learnt if enabled. If it is not known whether the host has NUMA cells,
    or not of all, flavors that need one are left out; and so are those with devices while these are not
    known.

    :param is_placement_known: whether it is known in which cells all guests are; if not, as without cells
    """
    domains, capabilities = reading.domains, reading.capabilities
    hypervisor_type = reading.identity.hypervisor_type
    flavors = options.flavors
    if domains is None or guests is None or not (flavors or options.flavors_from_guests):
        return (), ()
    problems: tuple[Problem, ...] = ()
    are_devices_known = reading.node_devices is not None and _are_devices_known(guests)
    if reading.node_devices is not None and are_devices_known:
        own = [guest.devices for guest in guests]
        inventories = (*get_pool_inventories(reading.node_devices, own), *inventories)
    if options.flavors_from_guests:
        of_guests = [_find_flavor(guest, reading.node_devices) for guest in guests]
        learnt, problems = learn_flavors(of_guests, known=flavors)
        # A guest has it, so a class that is not offered here is offered by something that is not known.
        offered = {each.resource_class for each in inventories}
        flavors = (
            *flavors,
            *(each for each in learnt if offered.issuperset(name for name, _ in each.devices)),
        )
    if not are_devices_known:
        flavors = tuple(flavor for flavor in flavors if not flavor.devices)
    has_cells = capabilities is not None and capabilities.has_all_cells and is_placement_known
    if capabilities is None or hypervisor_type is None or not has_cells:
        flavors = tuple(flavor for flavor in flavors if not flavor.numa_cells)
        return get_flavor_slots(flavors, inventories, None), problems
    rooms = None
    if (
        topology is not None
        and any(flavor.numa_cells for flavor in flavors)
        and has_numa_support(hypervisor_type, arch=capabilities.cpu_info.arch)
    ):
        rooms = _get_cell_rooms(domains, guests, topology, options)
    return get_flavor_slots(flavors, inventories, rooms), problems


def _find_flavor(guest: Contribution, devices: NodeDevices | None) -> Flavor | None:
    """Return a guest's flavor with its devices; None if these are not known.

    Before Nova 32.0 the metadata do not name them. What the guest has then tells.
    """
    own = guest.devices
    if guest.flavor is None or guest.flavor.devices:
        return guest.flavor
    if not own.are_known:
        return None
    if not (own.hostdevs or own.mdev_uuids):
        return guest.flavor
    requested = None if devices is None else find_requested(devices, own)
    return None if requested is None else replace(guest.flavor, devices=requested)


def _sum_claims(
    guests: Sequence[Contribution], options: HypervisorConfig, *, are_pins_known: bool
) -> dict[ResourceClass, int | None]:
    """Return what all guests claim. Pins say whether vCPUs are VCPU or PCPU, if CPUs are dedicated."""
    claims: dict[ResourceClass, int | None] = dict(sum_claims([guest.claim for guest in guests]))
    if not are_pins_known and options.cpu_dedicated_set:
        claims |= {ResourceClass.VCPU: None, ResourceClass.PCPU: None}
    return claims


def _get_guest_claims(
    guests: Sequence[Contribution], devices: NodeDevices | None, options: HypervisorConfig
) -> dict[str, GuestClaim]:
    """Return what each guest claims, by UUID."""
    device_claims = DeviceClaims(devices)
    pinnable = (ResourceClass.VCPU, ResourceClass.PCPU) if options.cpu_dedicated_set else ()
    return {
        guest.uuid: make_guest_claim(
            guest.claim,
            device_claims.claim_of((guest.devices, guest.requested_devices)),
            unknown=() if guest.is_placement_known else pinnable,
        )
        for guest in guests
    }


def _get_cell_rooms(
    domains: DomainsReading,
    guests: Sequence[Contribution],
    topology: tuple[HostNumaCell, ...],
    options: HypervisorConfig,
) -> tuple[CellRoom, ...]:
    active = {domain.uuid for domain in domains.domains if domain.is_active}
    return get_cell_rooms(
        topology,
        options,
        claims=[claim for guest in guests for claim in guest.cell_claims],
        still_to_come=[claim for guest in guests if guest.uuid not in active for claim in guest.cell_claims],
        isolated_cpus=frozenset().union(*(guest.isolated_cpus for guest in guests)),
    )


def get_vcpu_total(reading: Reading, options: HypervisorConfig) -> tuple[int | None, tuple[Problem, ...]]:
    """Return how many CPUs guests may run on (`_get_vcpu_available`), or None and the problem.

    Without any CPU set these are the online CPUs. If libvirt does not tell which these are, or has not yet
    answered, their number in virNodeGetInfo counts. A hypervisor that has neither counts 0.
    """
    problems = tuple(_check_cpu_sets(reading, options))
    if problems:
        return None, problems
    available = _get_vcpu_available(options)
    if available is not None:
        return len(available), ()
    if reading.online_cpus is not None:
        return len(reading.online_cpus), ()
    if "virNodeGetCPUMap" in reading.failed_calls:
        return None, ()
    if reading.node is None:
        return None if "virNodeGetInfo" in reading.failed_calls else 0, ()
    return reading.node.online_cpus, ()


def _get_vcpu_available(options: HypervisorConfig) -> frozenset[int] | None:
    """Return the CPUs that guests share (`_get_vcpu_available`); None for all that are online."""
    shared = options.vcpu_pin_set or options.cpu_shared_set
    if shared:
        return parse_cpu_spec(shared)
    return frozenset() if options.cpu_dedicated_set else None


def _get_pcpu_available(options: HypervisorConfig) -> frozenset[int] | None:
    """Return the CPUs that vCPUs may be pinned to; None for all that are online.

    If cpu_dedicated_set is unset: those of vcpu_pin_set, or all CPUs (as Nova did before 20.0); none if
    cpu_shared_set is set (`_get_host_numa_topology`).
    """
    if options.cpu_dedicated_set:
        return parse_cpu_spec(options.cpu_dedicated_set)
    if options.cpu_shared_set and not options.vcpu_pin_set:
        return frozenset()
    return _get_vcpu_available(options)


def get_dedicated_cpus(options: HypervisorConfig) -> frozenset[int]:
    """Return the CPUs of cpu_dedicated_set; none if it is not set."""
    return parse_cpu_spec(options.cpu_dedicated_set) if options.cpu_dedicated_set else frozenset()


def get_pcpu_total(reading: Reading, options: HypervisorConfig) -> int | None:
    """Return how many CPUs guests may be pinned to (`_get_pcpu_available`); None if one is not there."""
    dedicated = get_dedicated_cpus(options)
    usable = _get_usable_cpus(reading, options, "cpu_dedicated_set")
    return None if usable is not None and not dedicated <= usable else len(dedicated)


def _get_usable_cpus(reading: Reading, options: HypervisorConfig, option: str) -> frozenset[int] | None:
    """Return the CPUs that a CPU set may name: those that are online; None if not known.

    With `[libvirt] cpu_power_management`, Nova takes dedicated CPUs offline while no guest uses them.
    """
    is_managed = options.cpu_power_management and option == "cpu_dedicated_set"
    return reading.available_cpus if is_managed else reading.online_cpus


def _check_cpu_sets(reading: Reading, options: HypervisorConfig) -> Iterator[Problem]:
    """Name every configured CPU that is not there (`_get_vcpu_available`, `_get_pcpu_available`)."""
    for option in ("vcpu_pin_set", "cpu_shared_set", "cpu_dedicated_set"):
        spec = getattr(options, option)
        is_overridden = option == "cpu_shared_set" and options.vcpu_pin_set
        usable = _get_usable_cpus(reading, options, option)
        if not spec or is_overridden or usable is None:
            continue
        missing = parse_cpu_spec(spec) - usable
        if missing:
            state = "online" if usable is reading.online_cpus else "available"
            yield Problem(
                severity=Severity.ERROR,
                reason="cpu_set",
                subject=option,
                message=f"{option} {spec!r} names CPUs that are not {state}: {format_cpu_spec(missing)}"
                f" ({state}: {format_cpu_spec(usable)})",
            )


def get_vcpu_used(reading: DomainsReading, hypervisor_type: str | None) -> int:
    """Return the active domains' current vCPUs (`_get_vcpu_used`); a domain without a record counts 1.

    Containers have no vCPUs. Nova counts 1 for each, because virDomainGetVcpus fails.
    """
    has_vcpus = hypervisor_type not in _WITHOUT_VCPUS
    return sum(
        guest.vcpus if guest is not None and has_vcpus else 1
        for domain in reading.domains
        if domain.is_active
        for guest in (reading.guests.get(domain.uuid),)
    )


def _get_memory(reading: Reading, options: HypervisorConfig) -> _Memory:
    """Return total and used memory (`get_memory_mb_total`, `get_memory_mb_used`).

    Nova subtracts the available memory in /proc/meminfo from the total of virNodeGetInfo. If the two have
    different totals (memory plugged in outside any NUMA cell), the result is below zero. Then the statistics'
    own total is used. Without memory statistics, the sum of the guests' memory is used. So it is, too, where
    guests' memory is in files: the total is then the option's, whatever the node has.
    """
    if options.file_backed_memory:
        guests_kib = None if reading.domains is None else _guests_kib(reading.domains)
        total_mib = options.file_backed_memory
        return _memory(total_mib=total_mib, total_kib=total_mib * KIB_PER_MIB, used_kib=guests_kib)
    if reading.node is None:
        return _Memory()
    total_mib, stats = reading.node.memory_mib, reading.node_memory
    if "virNodeGetMemoryStats" in reading.failed_calls:
        return _memory(total_mib=total_mib, total_kib=total_mib * KIB_PER_MIB, used_kib=None)
    if stats is None:
        guests_kib = None if reading.domains is None else _guests_kib(reading.domains)
        return _memory(total_mib=total_mib, total_kib=total_mib * KIB_PER_MIB, used_kib=guests_kib)
    if stats.total_kib // KIB_PER_MIB != total_mib:
        used_kib = stats.total_kib - stats.available_kib
        return _memory(total_mib=total_mib, total_kib=total_mib * KIB_PER_MIB, used_kib=used_kib)
    return _Memory(
        memory_mb=total_mib,
        memory_mb_used=max(0, total_mib - stats.available_kib // KIB_PER_MIB),
        size_bytes=stats.total_kib * 1024,
        available_bytes=stats.available_kib * 1024,
    )


def _memory(*, total_mib: int, total_kib: int, used_kib: int | None) -> _Memory:
    if used_kib is None:
        return _Memory(memory_mb=total_mib, size_bytes=total_kib * 1024)
    return _Memory(
        memory_mb=total_mib,
        memory_mb_used=max(0, used_kib // KIB_PER_MIB),
        size_bytes=total_kib * 1024,
        available_bytes=max(0, total_kib - used_kib) * 1024,
    )


def _guests_kib(reading: DomainsReading) -> int:
    """Return the active guests' memory in KiB (`_sum_domain_memory_mb`)."""
    return sum(
        guest.memory_kib
        for domain in reading.domains
        if domain.is_active and (guest := reading.guests.get(domain.uuid)) is not None
    )


def _get_disk_available_least(storage: Storage | None, overcommit: _DiskOvercommit) -> int | None:
    if storage is None or overcommit.bytes is None:
        return None
    return (storage.free_bytes - overcommit.bytes) // GIB


def get_disk_over_committed_size_total(guests: Sequence[Contribution]) -> _DiskOvercommit:
    """Return how much all guests' images, of shut-off guests too, can still grow.

    As in Nova, if one image of a guest could not be read, all images of this guest are left out.
    """
    return _DiskOvercommit(
        bytes=sum([guest.growth_bytes for guest in guests]),
        unsized_disks=sum([guest.unsized_disks for guest in guests]),
        problems=tuple([guest.image_problem for guest in guests if guest.image_problem is not None]),
    )


def count_domains_by_state(reading: DomainsReading) -> Mapping[DomainState, int]:
    """Return the number of domains in each of libvirt's states; 0 for a state without domains."""
    count = Counter(domain.state for domain in reading.domains)
    return {state: count[state] for state in DomainState}

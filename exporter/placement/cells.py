"""NUMA cells: the free room of each host cell, for guests that must fit into cells.

A guest with pinned vCPUs or huge pages is placed cell by cell. The free room of the whole host does not count
for it. The rules are Nova's (nova.virt.hardware._numa_fit_instance_cell).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from exporter.config.settings import HypervisorConfig
from exporter.model import (
    LARGE_PAGES,
    Flavor,
    Guest,
    HostNumaCell,
    ResourceClass,
)

KIB_PER_MIB = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class CellRoom:
    """The free room of one NUMA cell. A count is below zero if guests claim more than there is."""

    shared_cpus: int  # upper bound for the unpinned vCPUs of one guest here
    free_vcpus: int
    free_pcpus: int
    memory_kib: int  # upper bound for the memory of one guest here
    small_pages_kib: int | None  # the part of it in pages of the base size; None if not known
    free_memory_kib: int  # for pinned guests, whose memory is not over-committed
    free_overcommit_kib: int  # for the others
    free_pages_kib: Mapping[int, int]  # by the size of the pages in KiB


@dataclass(frozen=True, kw_only=True, slots=True)
class FittingInCells:
    """How many guests of a flavor fit into the host's cells."""

    guests: int
    by_class: Mapping[ResourceClass, int]  # how many would fit if only this resource were limited


@dataclass(frozen=True, kw_only=True, slots=True)
class CellClaim:
    """What a guest claims from one NUMA cell of its host."""

    host_cell: int | None  # its id; None if it is not fixed
    shared_vcpus: int  # vCPUs without a CPU of their own
    memory_kib: int
    page_size_kib: int | None  # None for pages of the usual size


def claims_in_cells(guest: Guest) -> tuple[CellClaim, ...]:
    """Return what the guest claims from each NUMA cell; nothing if it has no cells of its own."""
    pinned = {vcpu for vcpu, cpus in guest.vcpu_pins.items() if len(cpus) == 1}
    return tuple(
        CellClaim(
            host_cell=part.host_cell,
            shared_vcpus=len(part.vcpus - pinned),
            memory_kib=part.memory_kib,
            page_size_kib=part.page_size_kib,
        )
        for part in guest.numa_cells
    )


def get_cell_rooms(
    topology: Sequence[HostNumaCell],
    options: HypervisorConfig,
    *,
    claims: Sequence[CellClaim],
    still_to_come: Sequence[CellClaim],
    isolated_cpus: frozenset[int],
) -> tuple[CellRoom, ...]:
    """Return the free room of each cell after the claims of all defined guests.

    :param claims: of all guests
    :param still_to_come: the claims of guests that do not run; their pages are still free
    :param isolated_cpus: CPUs that are reserved for the guests' QEMU threads
    """
    return tuple(
        _room(
            cell,
            options,
            claims=[claim for claim in claims if claim.host_cell == cell.id],
            still_to_come=[claim for claim in still_to_come if claim.host_cell == cell.id],
            isolated_cpus=isolated_cpus,
        )
        for cell in topology
    )


def count_fitting_in_cells(flavor: Flavor, rooms: Sequence[CellRoom]) -> FittingInCells:
    """Return how many guests of a flavor fit into the cells."""
    parts = flavor.numa_cells
    classes: tuple[ResourceClass, ...] = tuple(
        each
        for each, amount in (
            (ResourceClass.VCPU, flavor.vcpus),
            (ResourceClass.PCPU, flavor.pcpus),
            (ResourceClass.MEMORY_MB, flavor.memory_mb),
        )
        if amount
    )
    by_room = [{each: _COUNT[each](room, flavor) for each in classes} for room in rooms]
    return FittingInCells(
        guests=_count_guests([min(counts.values()) for counts in by_room], parts),
        by_class={each: _count_guests([counts[each] for counts in by_room], parts) for each in classes},
    )


def _room(
    cell: HostNumaCell,
    options: HypervisorConfig,
    *,
    claims: Sequence[CellClaim],
    still_to_come: Sequence[CellClaim],
    isolated_cpus: frozenset[int],
) -> CellRoom:
    taken = isolated_cpus if cell.pinned_cpus is None else isolated_cpus | cell.pinned_cpus
    shared_vcpus = sum(claim.shared_vcpus for claim in claims)
    memory_kib = sum(claim.memory_kib for claim in claims)
    return CellRoom(
        shared_cpus=len(cell.cpuset),
        free_vcpus=int(len(cell.cpuset) * options.cpu_allocation_ratio) - shared_vcpus,
        free_pcpus=len(cell.pcpuset - taken),
        memory_kib=cell.memory_kib,
        small_pages_kib=_small_pages_kib(cell),
        free_memory_kib=cell.memory_kib - memory_kib,
        free_overcommit_kib=int(cell.memory_kib * options.ram_allocation_ratio) - memory_kib,
        free_pages_kib=_free_pages_kib(cell, claims=claims, still_to_come=still_to_come),
    )


def _small_pages_kib(cell: HostNumaCell) -> int | None:
    smallest = min(cell.mempages, key=lambda pages: pages.size_kib, default=None)
    return None if smallest is None else smallest.total * smallest.size_kib


def _free_pages_kib(
    cell: HostNumaCell, *, claims: Sequence[CellClaim], still_to_come: Sequence[CellClaim]
) -> dict[int, int]:
    """Return the KiB of pages that are neither claimed nor in use.

    A guest without a page size has pages of the smallest size. The scheduler subtracts what guests claim. But
    other programs use huge pages too. So the result is never more than the kernel's free pages minus the
    claims of guests that are shut off.
    """
    free: dict[int, int] = {}
    smallest = min((each.size_kib for each in cell.mempages), default=None)
    for pages in cell.mempages:
        size_kib = pages.size_kib
        left = pages.total * size_kib - _sum_kib(claims, size_kib)
        if size_kib == smallest:
            left -= _sum_kib(claims, None)
        elif pages.free is not None:
            left = min(left, pages.free * size_kib - _sum_kib(still_to_come, size_kib))
        free[size_kib] = left
    return free


def _sum_kib(claims: Sequence[CellClaim], size_kib: int | None) -> int:
    return sum(claim.memory_kib for claim in claims if claim.page_size_kib == size_kib)


def _count_vcpus(room: CellRoom, flavor: Flavor) -> int:
    amount = -(-flavor.vcpus // flavor.numa_cells)
    return max(0, room.free_vcpus) // amount if amount <= room.shared_cpus else 0


def _count_pcpus(room: CellRoom, flavor: Flavor) -> int:
    return room.free_pcpus // -(-flavor.pcpus // flavor.numa_cells)


def _count_memory(room: CellRoom, flavor: Flavor) -> int:
    """Return for how many parts of a guest the cell has memory. Huge pages are a part of its memory.

    A flavor without a page size uses small pages. With pinned vCPUs these are not over-committed.
    """
    amount_kib = -(-flavor.memory_mb * KIB_PER_MIB // flavor.numa_cells)
    if amount_kib > room.memory_kib:
        return 0
    free_kib = room.free_overcommit_kib
    if flavor.pcpus:
        free_kib = min(free_kib, room.free_memory_kib) if flavor.vcpus else room.free_memory_kib
    fitting = max(0, free_kib) // amount_kib
    if flavor.page_size_kib is not None:
        return min(fitting, _count_in_pages(room, flavor.page_size_kib, amount_kib))
    if room.small_pages_kib is None:
        return fitting
    if amount_kib > room.small_pages_kib:
        return 0
    return (
        min(fitting, _count_in_pages(room, min(room.free_pages_kib), amount_kib)) if flavor.pcpus else fitting
    )


def _count_in_pages(room: CellRoom, page_size_kib: int, amount_kib: int) -> int:
    return sum(
        max(0, free_kib) // amount_kib
        for size_kib, free_kib in room.free_pages_kib.items()
        if _is_wanted(size_kib, page_size_kib, room) and amount_kib % size_kib == 0
    )


def _is_wanted(size_kib: int, page_size_kib: int, room: CellRoom) -> bool:
    if page_size_kib == LARGE_PAGES:
        return size_kib != min(room.free_pages_kib)
    return size_kib == page_size_kib


_COUNT: Mapping[ResourceClass, Callable[[CellRoom, Flavor], int]] = {
    ResourceClass.VCPU: _count_vcpus,
    ResourceClass.PCPU: _count_pcpus,
    ResourceClass.MEMORY_MB: _count_memory,
}


def _count_guests(parts_by_cell: Sequence[int], parts: int) -> int:
    """Return how many guests with this number of parts fit. All parts of a guest are in different cells.

    k guests fit if the cells have room for parts * k parts, with at most one part of each guest in a cell.
    """
    low, high = 0, sum(parts_by_cell) // parts
    while low < high:
        guests = (low + high + 1) // 2
        if sum(min(count, guests) for count in parts_by_cell) >= parts * guests:
            low = guests
        else:
            high = guests - 1
    return low

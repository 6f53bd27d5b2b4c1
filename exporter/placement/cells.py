"""NUMA cells: the free room of each host cell, for guests that must fit into cells.

A guest with pinned vCPUs, huge pages or NUMA cells of its own is placed cell by cell. The free room of the
whole host does not count for it. The rules are Nova's (nova.virt.hardware._numa_fit_instance_cell), of Nova
30 and later where releases differ.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from exporter.config.settings import HypervisorConfig
from exporter.model import (
    LARGE_PAGES,
    Flavor,
    FlavorCell,
    Guest,
    HostNumaCell,
    ResourceClass,
)
from exporter.placement.claims import find_pinned_vcpus
from exporter.placement.packing import UNLIMITED, Cell, Limit, count_guests

KIB_PER_MIB = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class CellRoom:
    """The free room of one NUMA cell. A count is below zero if guests claim more than there is."""

    shared_cpus: int  # upper bound for the unpinned vCPUs of one guest here
    free_vcpus: int
    free_pcpus: int
    memory_kib: int  # upper bound for the memory of one guest here
    small_pages_kib: int | None  # the part of it in pages of the base size; None if the host tells no pages
    free_memory_kib: int  # for pinned guests, whose memory is not over-committed
    free_overcommit_kib: int  # for the others
    free_pages_kib: Mapping[int, int]  # by the size of the pages in KiB
    threads_per_core: int = 1
    free_cores: int = 0  # cores of which all threads are free for pinned vCPUs
    is_shared_and_dedicated: bool = False  # whether vCPUs may be pinned to any CPU that guests share


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


def claims_in_cells(guest: Guest, dedicated_cpus: frozenset[int] = frozenset()) -> tuple[CellClaim, ...]:
    """Return what the guest claims from each NUMA cell; nothing if it has no cells of its own.

    :param dedicated_cpus: the CPUs of cpu_dedicated_set
    """
    pinned = find_pinned_vcpus(guest, dedicated_cpus)
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
    # A guest whose cell is not fixed is in the only one. If there are several, nobody knows where it is.
    unfixed = (None,) if len(topology) == 1 else ()
    return tuple(
        _room(
            cell,
            options,
            claims=[claim for claim in claims if claim.host_cell in (cell.id, *unfixed)],
            still_to_come=[claim for claim in still_to_come if claim.host_cell in (cell.id, *unfixed)],
            isolated_cpus=isolated_cpus,
        )
        for cell in topology
    )


def count_fitting_in_cells(flavor: Flavor, rooms: Sequence[CellRoom]) -> FittingInCells:
    """Return how many guests of a flavor fit into the cells: none on a host without cells, as in Nova.

    Nova tries one guest after the other, and does not look for the best way. So it may refuse a guest with
    several cells although one more would fit.
    """
    shapes = Counter(flavor.cells)
    parts = tuple(shapes.values())
    classes = [each for each in _LIMITS if any(_AMOUNT[each](shape) for shape in shapes)]
    wanted = _Wanted(
        shapes=tuple(shapes),
        page_size_kib=flavor.page_size_kib,
        cpu_thread_policy=flavor.cpu_thread_policy,
        threads_per_core=max((room.threads_per_core for room in rooms), default=1),
    )
    limits = [_list_limits(room, wanted, classes) for room in rooms]
    by_class = {
        each: count_guests(parts, [tuple(way[each] for way in ways) for ways in limits]) for each in classes
    }
    whole: list[Cell] = [tuple(tuple(chain.from_iterable(way.values())) for way in ways) for ways in limits]
    return FittingInCells(guests=count_guests(parts, whole), by_class=by_class)


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
    total_kib = cell.memory_kib // KIB_PER_MIB * KIB_PER_MIB  # Nova's cells have whole MiB
    free_pcpus = cell.pcpuset - taken
    threads = max(map(len, cell.siblings), default=1)
    return CellRoom(
        shared_cpus=len(cell.cpuset),
        free_vcpus=int(len(cell.cpuset) * options.cpu_allocation_ratio) - shared_vcpus,
        free_pcpus=len(free_pcpus),
        memory_kib=total_kib,
        small_pages_kib=_small_pages_kib(cell),
        free_memory_kib=total_kib - memory_kib,
        free_overcommit_kib=int(total_kib * options.ram_allocation_ratio) - memory_kib,
        free_pages_kib=_free_pages_kib(cell, claims=claims, still_to_come=still_to_come),
        threads_per_core=threads,
        free_cores=sum(len(core & free_pcpus) == threads for core in cell.siblings),
        is_shared_and_dedicated=cell.pcpuset == cell.cpuset,
    )


def _small_pages_kib(cell: HostNumaCell) -> int | None:
    smallest = min(cell.mempages, key=lambda pages: pages.size_kib, default=None)
    return None if smallest is None else smallest.total * smallest.size_kib


def _free_pages_kib(
    cell: HostNumaCell, *, claims: Sequence[CellClaim], still_to_come: Sequence[CellClaim]
) -> dict[int, int]:
    """Return the KiB of pages that are neither reserved, nor claimed, nor in use.

    A guest without a page size has pages of the smallest size. The scheduler subtracts what guests claim. But
    other programs use huge pages too. So the result is never more than the kernel's free pages minus the
    claims of guests that are shut off.
    """
    free: dict[int, int] = {}
    smallest = min((each.size_kib for each in cell.mempages), default=None)
    for pages in cell.mempages:
        size_kib = pages.size_kib
        left = (pages.total - pages.reserved) * size_kib - _sum_kib(claims, size_kib)
        if size_kib == smallest:
            left -= _sum_kib(claims, None)
        elif pages.free is not None:
            left = min(left, pages.free * size_kib - _sum_kib(still_to_come, size_kib))
        free[size_kib] = left
    return free


def _sum_kib(claims: Sequence[CellClaim], size_kib: int | None) -> int:
    return sum(claim.memory_kib for claim in claims if claim.page_size_kib == size_kib)


class _Wanted(NamedTuple):
    """What the parts of a guest have in common, and what each kind of them needs."""

    shapes: tuple[FlavorCell, ...]
    page_size_kib: int | None
    cpu_thread_policy: str | None
    threads_per_core: int  # of the host


_Limits = Iterator[Limit]


def _list_limits(
    room: CellRoom, wanted: _Wanted, classes: Sequence[ResourceClass]
) -> list[dict[ResourceClass, tuple[Limit, ...]]]:
    """Return the limits of a cell by class; for large pages of any size, one set of them for each size."""
    ways = [wanted.page_size_kib]
    if wanted.page_size_kib == LARGE_PAGES and len(wanted.shapes) > 1:
        ways = [*sorted(room.free_pages_kib)[1:]] or ways
    return [
        {each: tuple(_LIMITS[each](room, wanted._replace(page_size_kib=size_kib))) for each in classes}
        for size_kib in ways
    ]


def _limit_vcpus(room: CellRoom, wanted: _Wanted) -> _Limits:
    """Yield the limits of shared CPUs. A guest that has some fits into no cell with too many claimed."""
    amounts = tuple(shape.vcpus for shape in wanted.shapes)
    yield Limit(room.free_vcpus, amounts)
    yield from _allow(vcpus <= room.shared_cpus and room.free_vcpus >= 0 for vcpus in amounts)


def _limit_pcpus(room: CellRoom, wanted: _Wanted) -> _Limits:
    """Yield the limits of CPUs for pinned vCPUs (Nova's _pack_instance_onto_cores).

    With the policy "require", a part has all threads of its cores, but for the last of them. With "isolate",
    it has one thread of each, and the others are left idle. Nova does that only where vCPUs may be pinned to
    any CPU that guests share: where cpu_dedicated_set is set, it wants a host without threads.
    """
    amounts = tuple(shape.pcpus for shape in wanted.shapes)
    yield Limit(room.free_pcpus, amounts)
    if wanted.cpu_thread_policy == "require":
        threads = wanted.threads_per_core
        cores = room.free_cores if room.threads_per_core > 1 else 0
        yield Limit(cores, tuple(-(-pcpus // threads) for pcpus in amounts))
    elif wanted.cpu_thread_policy == "isolate":
        may_isolate = room.threads_per_core == 1 or room.is_shared_and_dedicated
        yield Limit(room.free_cores if may_isolate else 0, amounts)


def _limit_memory(room: CellRoom, wanted: _Wanted) -> _Limits:
    """Yield the limits of memory. Huge pages are a part of it.

    A flavor without a page size uses small pages. With pinned vCPUs these are not over-committed.
    """
    shapes, page_size_kib = wanted.shapes, wanted.page_size_kib
    amounts = tuple(shape.memory_kib for shape in shapes)
    is_pinned = any(shape.pcpus for shape in shapes)
    if not is_pinned or any(shape.vcpus for shape in shapes):
        yield Limit(room.free_overcommit_kib, amounts)
    if page_size_kib is not None:
        yield from _limit_pages(room, amounts, page_size_kib)
        return
    page_kib, most_kib, free_kib = 1, room.memory_kib, room.free_memory_kib
    if room.small_pages_kib is not None:
        page_kib, most_kib = min(room.free_pages_kib), room.small_pages_kib
        free_kib = min(free_kib, room.free_pages_kib[page_kib])
    if is_pinned:
        yield Limit(free_kib, amounts)
    yield from _allow(kib <= most_kib and kib % page_kib == 0 for kib in amounts)


def _limit_pages(room: CellRoom, amounts: tuple[int, ...], page_size_kib: int) -> _Limits:
    """Yield the limits of pages of one size. Parts of one shape may be in large pages of all sizes."""
    if page_size_kib == LARGE_PAGES and len(amounts) == 1:
        (kib,) = amounts
        sizes = sorted(room.free_pages_kib)[1:]
        parts = sum(max(0, room.free_pages_kib[size]) // kib for size in sizes if kib % size == 0)
        yield Limit(parts * kib, amounts)
        return
    yield Limit(room.free_pages_kib.get(page_size_kib, 0), amounts)
    yield from _allow(kib % page_size_kib == 0 for kib in amounts)


def _allow(shapes: Iterable[bool]) -> _Limits:
    """Yield a limit for each shape: none, or that no such part fits."""
    for kind, is_allowed in enumerate(allowed := tuple(shapes)):
        one = tuple(int(other == kind) for other in range(len(allowed)))
        yield Limit(UNLIMITED if is_allowed else 0, one)


_LIMITS: Mapping[ResourceClass, Callable[[CellRoom, _Wanted], _Limits]] = {
    ResourceClass.VCPU: _limit_vcpus,
    ResourceClass.PCPU: _limit_pcpus,
    ResourceClass.MEMORY_MB: _limit_memory,
}

_AMOUNT: Mapping[ResourceClass, Callable[[FlavorCell], int]] = {
    ResourceClass.VCPU: lambda shape: shape.vcpus,
    ResourceClass.PCPU: lambda shape: shape.pcpus,
    ResourceClass.MEMORY_MB: lambda shape: shape.memory_kib,
}

"""Nova's NUMA topology of a host, from the capabilities and the free memory of each cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from exporter.model import FreeNumaMemory, HostNumaCell, MemoryPages, NumaCell, ReservedPages

# By these of libvirt's drivers Nova's guests have NUMA cells. "TEST" is libvirt's mock of one.
_NUMA_DRIVERS = ("QEMU", "TEST")
_NUMA_ARCHITECTURES = ("i686", "x86_64", "aarch64")
_ALWAYS_NUMA_ARCHITECTURES = ("ppc64", "ppc64le")


def has_numa_support(hypervisor_type: str, *, arch: str | None) -> bool:
    """Whether guests on this host can have NUMA cells (Nova's LibvirtDriver._has_numa_support).

    If not, Nova has no NUMA topology of the host, whatever libvirt says, and refuses guests that need one.
    """
    if arch in _ALWAYS_NUMA_ARCHITECTURES:
        return True
    return arch in _NUMA_ARCHITECTURES and hypervisor_type in _NUMA_DRIVERS


def get_host_numa_topology(
    cells: Sequence[NumaCell],
    *,
    online: frozenset[int] | None,
    shared: frozenset[int] | None,
    dedicated: frozenset[int] | None,
    free: Mapping[int, FreeNumaMemory],
    pinned: frozenset[int] | None,
    reserved: Sequence[ReservedPages] = (),
) -> tuple[HostNumaCell, ...] | None:
    """Return Nova's NUMATopology (`_get_host_numa_topology`), with what guests and pages use of it.

    :param online: the online CPUs; None if not known: then all that libvirt lists count
    :param shared: the CPUs that guests share, None for all that are online
    :param dedicated: the CPUs that guests' vCPUs may be pinned to, None for all that are online. Under power
        management, those that no guest uses are offline
    :param pinned: the CPUs that a guest's vCPU is pinned to, also for shut-off guests, because the scheduler
        keeps their place; None if the guests are not known
    :param reserved: of several for the same pages the last one counts; those of pages that are not there do
        not
    """
    counts = {(each.node, each.size_kib): each.count for each in reserved}
    return (
        tuple(
            _host_cell(cell, online, shared, dedicated, free.get(cell.id), pinned, counts) for cell in cells
        )
        or None
    )


def _host_cell(
    cell: NumaCell,
    online: frozenset[int] | None,
    shared: frozenset[int] | None,
    dedicated: frozenset[int] | None,
    free: FreeNumaMemory | None,
    pinned: frozenset[int] | None,
    reserved: Mapping[tuple[int, float], int],
) -> HostNumaCell:
    cpus = cell.cpus if online is None else cell.cpus & online
    cpuset = cpus if shared is None else cell.cpus & shared
    pcpuset = cpus if dedicated is None else cell.cpus & dedicated
    free_pages = {} if free is None else free.free_pages
    return HostNumaCell(
        id=cell.id,
        cpus=cpus,
        cpuset=cpuset,
        pcpuset=pcpuset,
        memory_kib=cell.memory_kib,
        memory_free_bytes=None if free is None else free.free_bytes,
        mempages=tuple(
            MemoryPages(
                size_kib=each.size_kib,
                total=each.total,
                free=free_pages.get(each.size_kib),
                reserved=reserved.get((cell.id, each.size_kib), 0),
            )
            for each in cell.pages
        ),
        pinned_cpus=None if pinned is None else pinned & pcpuset,
        siblings=tuple(
            sorted(
                (usable for threads in cell.siblings if (usable := threads & (cpuset | pcpuset))), key=sorted
            )
        ),
    )

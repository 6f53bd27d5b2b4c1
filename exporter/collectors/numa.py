"""NUMA cells: CPUs and memory of each cell, and how much of them is in use.

hypervisor_numa_cell_dedicated_cpus{hypervisor_hostname="kvm01",cell="0"} 16
hypervisor_numa_cell_pages_free{hypervisor_hostname="kvm01",cell="0",page_size_bytes="2097152"} 512
"""

from __future__ import annotations

from collections.abc import Iterator

from exporter.metric import Collector, Metric, Sample
from exporter.model import HostNumaCell, Snapshot

_CELL = ("hypervisor_hostname", "cell")
_PAGES = (*_CELL, "page_size_bytes")

CPUS = Metric(
    name="hypervisor_numa_cell_cpus",
    help="Online CPUs of the NUMA cell.",
    unit="CPUs",
    labels=_CELL,
    source="virConnectGetCapabilities (topology/cells)",
)
DEDICATED_CPUS = Metric(
    name="hypervisor_numa_cell_dedicated_cpus",
    help="CPUs of the NUMA cell that vCPUs may be pinned to: those in cpu_dedicated_set, if it is set.",
    unit="CPUs",
    labels=_CELL,
    source="virConnectGetCapabilities; Nova's LibvirtDriver._get_host_numa_topology (pcpuset)",
)
PINNED_CPUS = Metric(
    name="hypervisor_numa_cell_pinned_cpus",
    help="Dedicated CPUs of the NUMA cell with a vCPU pinned to them. Shut-off guests count too.",
    unit="CPUs",
    labels=_CELL,
    source="virDomainGetXMLDesc (cputune/vcpupin of a single CPU); Nova's NUMACell.pinned_cpus",
)
MEMORY_SIZE_BYTES = Metric(
    name="hypervisor_numa_cell_memory_size_bytes",
    help="Memory of the NUMA cell.",
    labels=_CELL,
    source="virConnectGetCapabilities (cell/memory)",
)
MEMORY_FREE_BYTES = Metric(
    name="hypervisor_numa_cell_memory_free_bytes",
    help="Free memory of the NUMA cell. Caches and memory set aside for huge pages are not free.",
    labels=_CELL,
    source="virNodeGetCellsFreeMemory",
)
PAGES = Metric(
    name="hypervisor_numa_cell_pages",
    help="Memory pages of the NUMA cell, by size. Huge pages are not counted as base pages.",
    unit="pages",
    labels=_PAGES,
    source="virConnectGetCapabilities (cell/pages)",
)
PAGES_FREE = Metric(
    name="hypervisor_numa_cell_pages_free",
    help="Free memory pages of the NUMA cell, by size.",
    unit="pages",
    labels=_PAGES,
    source="virNodeGetFreePages",
)
PAGES_RESERVED = Metric(
    name="hypervisor_numa_cell_pages_reserved",
    help="Memory pages of the NUMA cell that are kept for other programs than guests, by size.",
    unit="pages",
    labels=_PAGES,
    source="reserved_huge_pages; Nova's NUMAPagesTopology.reserved",
)


def _collect(snapshot: Snapshot) -> Iterator[Sample]:
    resources = snapshot.resources
    for cell in resources.numa_topology or ():
        yield from _collect_cell(cell, resources.hypervisor_hostname)


def _collect_cell(cell: HostNumaCell, hostname: str) -> Iterator[Sample]:
    labels = {"hypervisor_hostname": hostname, "cell": str(cell.id)}
    yield from CPUS.samples(len(cell.cpus), **labels)
    yield from DEDICATED_CPUS.samples(len(cell.pcpuset), **labels)
    if cell.pinned_cpus is not None:
        yield from PINNED_CPUS.samples(len(cell.pinned_cpus), **labels)
    yield from MEMORY_SIZE_BYTES.samples(cell.memory_kib * 1024, **labels)
    yield from MEMORY_FREE_BYTES.samples(cell.memory_free_bytes, **labels)
    for pages in cell.mempages:
        size = str(pages.size_kib * 1024)
        yield from PAGES.samples(pages.total, page_size_bytes=size, **labels)
        yield from PAGES_FREE.samples(pages.free, page_size_bytes=size, **labels)
        yield from PAGES_RESERVED.samples(pages.reserved, page_size_bytes=size, **labels)


COLLECTOR = Collector(
    name="numa",
    metrics=(
        CPUS,
        DEDICATED_CPUS,
        PINNED_CPUS,
        MEMORY_SIZE_BYTES,
        MEMORY_FREE_BYTES,
        PAGES,
        PAGES_FREE,
        PAGES_RESERVED,
    ),
    collect=_collect,
    needs=frozenset({"capabilities", "guests", "NUMA memory", "online CPUs"}),
)

"""Memory of the hypervisor: total, used and available.

hypervisor_memory_mb{hypervisor_hostname="kvm01"} 257555
hypervisor_memory_mb_used{hypervisor_hostname="kvm01"} 180211
"""

from __future__ import annotations

from collections.abc import Iterator

from exporter.metric import Collector, Metric, Sample
from exporter.model import Snapshot

MEMORY_MB = Metric(
    name="hypervisor_memory_mb",
    help="Physical memory in MiB.",
    labels=("hypervisor_hostname",),
    unit="MiB",
    source="virNodeGetInfo; Nova's Host.get_memory_mb_total",
)
MEMORY_MB_USED = Metric(
    name="hypervisor_memory_mb_used",
    help="Used memory in MiB: the total minus MemFree, Buffers and Cached.",
    labels=("hypervisor_hostname",),
    unit="MiB",
    source="virNodeGetMemoryStats; Nova's Host.get_memory_mb_used",
)
SIZE_BYTES = Metric(
    name="hypervisor_memory_size_bytes",
    help="Physical memory.",
    labels=("hypervisor_hostname",),
    source="virNodeGetMemoryStats (total), else virNodeGetInfo",
)
AVAILABLE_BYTES = Metric(
    name="hypervisor_memory_available_bytes",
    help="Memory that is free or can be reclaimed: MemFree, Buffers and Cached.",
    labels=("hypervisor_hostname",),
    source="virNodeGetMemoryStats (free, buffers, cached)",
)


def _collect(snapshot: Snapshot) -> Iterator[Sample]:
    resources = snapshot.resources
    hostname = resources.hypervisor_hostname
    yield from MEMORY_MB.samples(resources.memory_mb, hypervisor_hostname=hostname)
    yield from MEMORY_MB_USED.samples(resources.memory_mb_used, hypervisor_hostname=hostname)
    yield from SIZE_BYTES.samples(resources.memory_size_bytes, hypervisor_hostname=hostname)
    yield from AVAILABLE_BYTES.samples(resources.memory_available_bytes, hypervisor_hostname=hostname)


# The guests: where libvirt's driver has no memory statistics, theirs is what is used.
COLLECTOR = Collector(
    name="memory",
    metrics=(MEMORY_MB, MEMORY_MB_USED, SIZE_BYTES, AVAILABLE_BYTES),
    collect=_collect,
    needs=frozenset({"guests"}),
)

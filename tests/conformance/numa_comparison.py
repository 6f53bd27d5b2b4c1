"""What it means that Nova and the exporter agree on a host's CPU and NUMA cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from exporter.model import CpuInfo, HostNumaCell


def as_nova(cell: HostNumaCell) -> dict[str, Any]:
    """Return a cell with the names and units of Nova's NUMACell; sets are sorted, as JSON has none."""
    return {
        "id": cell.id,
        "socket": cell.socket,
        "cpuset": sorted(cell.cpuset),
        "pcpuset": sorted(cell.pcpuset),
        "siblings": sorted(map(sorted, cell.siblings)),
        "memory": cell.memory_kib // 1024,
        "mempages": [{"size_kb": pages.size_kib, "total": pages.total} for pages in cell.mempages],
    }


def simplify(cell: Mapping[str, Any]) -> dict[str, Any]:
    """Return Nova's NUMACell without what is 0 or empty in every answer of its driver: usage and reserves."""
    data = cell["nova_object.data"]
    assert (data["cpu_usage"], data["memory_usage"], data["pinned_cpus"]) == (0, 0, [])
    pages = [each["nova_object.data"] for each in data["mempages"]]
    assert all((each["used"], each["reserved"]) == (0, 0) for each in pages)
    return {
        "id": data["id"],
        "socket": data["socket"],
        "cpuset": sorted(data["cpuset"]),
        "pcpuset": sorted(data["pcpuset"]),
        "siblings": sorted(map(sorted, data["siblings"])),
        "memory": data["memory"],
        "mempages": [{"size_kb": each["size_kb"], "total": each["total"]} for each in pages],
    }


def cpu_info_as_nova(cpu: CpuInfo) -> dict[str, Any]:
    """Return what Nova calls cpu_info, with sorted features."""
    topology = {"cells": cpu.cells, "sockets": cpu.sockets, "cores": cpu.cores, "threads": cpu.threads}
    return {
        "arch": cpu.arch,
        "model": cpu.model,
        "vendor": cpu.vendor,
        "topology": topology,
        "features": sorted(cpu.features),
    }


def simplify_cpu_info(cpu_info: Mapping[str, Any]) -> dict[str, Any]:
    """Return Nova's cpu_info with sorted features, which come in any order.

    Nova 34 also says how many bits a guest's physical address may have, for its scheduler's traits; no number
    of the exporter's depends on it.
    """
    simple = {**cpu_info, "features": sorted(cpu_info["features"])}
    simple.pop("maxphysaddr", None)
    return simple

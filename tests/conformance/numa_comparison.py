"""What it means that Nova and the exporter agree on a host's CPU and NUMA cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from exporter.model import CpuInfo, HostNumaCell


def as_nova(cell: HostNumaCell) -> dict[str, Any]:
    """Return a cell with the names and units of Nova's NUMACell; sets are sorted, as JSON has none."""
    return {
        "id": cell.id,
        "cpuset": sorted(cell.cpuset),
        "pcpuset": sorted(cell.pcpuset),
        "memory": cell.memory_kib // 1024,
        "mempages": [
            {"size_kb": pages.size_kib, "total": pages.total, "reserved": pages.reserved}
            for pages in cell.mempages
        ],
    }


def simplify(cell: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of Nova's NUMACell the exporter shows; usage is 0 in every answer."""
    data = cell["nova_object.data"]
    assert (data["cpu_usage"], data["memory_usage"], data["pinned_cpus"]) == (0, 0, [])
    pages = [each["nova_object.data"] for each in data["mempages"]]
    assert all(each["used"] == 0 for each in pages)
    return {
        "id": data["id"],
        "cpuset": sorted(data["cpuset"]),
        "pcpuset": sorted(data["pcpuset"]),
        "memory": data["memory"],
        "mempages": [{name: each[name] for name in ("size_kb", "total", "reserved")} for each in pages],
    }


def cpu_info_as_nova(cpu: CpuInfo) -> dict[str, Any]:
    """Return it as Nova's cpu_info has it, as far as the exporter shows it."""
    topology = {"sockets": cpu.sockets, "cores": cpu.cores, "threads": cpu.threads}
    return {"arch": cpu.arch, "model": cpu.model, "vendor": cpu.vendor, "topology": topology}


def simplify_cpu_info(cpu_info: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of Nova's cpu_info the exporter shows: neither features nor the number of cells."""
    topology = {name: cpu_info["topology"][name] for name in ("sockets", "cores", "threads")}
    return {name: cpu_info[name] for name in ("arch", "model", "vendor")} | {"topology": topology}

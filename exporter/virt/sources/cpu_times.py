"""CPU times: what the host's CPUs have done so far, which each refresh asks for."""

from __future__ import annotations

from collections.abc import Mapping

from exporter.virt.call_source import CallSource
from exporter.virt.calls import WaitingHypervisor

# libvirt's names. Drivers that have only a percentage tell "utilization" instead, which is no counter.
MODES = ("kernel", "user", "idle", "iowait", "intr")


class CpuTimes(CallSource[Mapping[str, int]]):
    """virNodeGetCPUStats of all CPUs: {"kernel": 34678723400000, "user": 9797400000, …} in nanoseconds."""

    name = "CPU times"

    def ask(self, connection: WaitingHypervisor) -> Mapping[str, int]:
        """Return the nanoseconds by mode."""
        stats = connection.ask("virNodeGetCPUStats", lambda libvirt: dict(libvirt.getCPUStats(-1)))
        return {mode: int(stats[mode]) for mode in MODES if mode in stats}

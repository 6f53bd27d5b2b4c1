"""What it means that Nova and the exporter agree on a hypervisor."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.support.exporter_process import Scrape
from tests.support.sandbox import GIB

# Nova's field, and the metric that has to have the same value.
_STANDING_STILL = {
    "vcpus": "hypervisor_vcpus",
    "vcpus_used": "hypervisor_vcpus_used",
    "local_gb": "hypervisor_local_gb",
    "local_gb_used": "hypervisor_local_gb_used",
    "disk_available_least": "hypervisor_disk_available_least",
}
# cpu_info/topology has `cells` as well, which is no label.
_CPU_LABELS = ("arch", "model", "vendor")
_TOPOLOGY_LABELS = ("sockets", "cores", "threads")

_ATTEMPTS = 10
# Between two scrapes the machine's memory moves: Nova runs qemu-img for each image, and there are others on
# the machine. Three reads in a quarter of a second may differ by this much although nothing is amiss.
_MEMORY_SLACK_MIB = 8


@dataclass(frozen=True)
class Machine:
    """What libvirt itself says of the machine's memory: two totals, of which Nova takes only the first."""

    node_info_mib: int  # virNodeGetInfo: the memory of the NUMA cells
    statistics_mib: int  # virNodeGetMemoryStats: all memory

    @classmethod
    def read(cls, connection: Any) -> Machine:
        return cls(connection.getInfo()[1], connection.getMemoryStats(-1)["total"] // 1024)

    def expected_memory_mb_used(self, of_nova: int) -> int:
        """Return what the exporter has to say where Nova says `of_nova`.

        The same, wherever there is one total. Where memory was plugged in outside any NUMA cell, Nova
        subtracts what is available of all memory from the memory of the cells and gets a number that is too
        small by what was plugged in, often a negative one; the exporter takes the same statistics' total.
        """
        return of_nova + self.statistics_mib - self.node_info_mib


@dataclass(frozen=True)
class Sighting:
    """One look of both at the hypervisor: the exporter's before and after Nova's."""

    before: Scrape
    truth: Mapping[str, Any]
    after: Scrape
    machine: Machine | None  # None when the machine's totals moved meanwhile

    def list_differences(self) -> list[str]:
        """Return what they disagree on, a line each."""
        return [
            *self._list_differences_standing_still(self.before),
            *self._list_differences_standing_still(self.after),
            *self._list_differences_of_memory(),
        ]

    def _list_differences_standing_still(self, scrape: Scrape) -> list[str]:
        # The driver answers fractions, and Nova's database cuts them; the exporter floors (design.md, §2.1).
        expected = {metric: math.floor(self.truth[field]) for field, metric in _STANDING_STILL.items()}
        differences = [
            f"{metric}: Nova says {value}, the exporter {scrape.get(metric)}"
            for metric, value in expected.items()
            if scrape.get(metric) != value
        ]
        differences += [
            f"{what}: Nova makes it {expected}, the exporter {said}"
            for what, expected, said in self._pair_bytes(scrape)
            if expected != said
        ]
        ((info, _),) = scrape.series("hypervisor_info")
        return differences + [
            f"hypervisor_info {label}: Nova says {value!r}, the exporter {info.get(label)!r}"
            for label, value in _expected_info(self.truth).items()
            if info.get(label) != value
        ]

    def _pair_bytes(self, scrape: Scrape) -> Iterator[tuple[str, int, float]]:
        """Yield what the fractions of a GiB that Nova's driver answers are in bytes, for both."""
        size, used, free, overcommitted = (
            scrape.value(f"hypervisor_storage_{name}_bytes")
            for name in ("size", "used", "free", "overcommitted")
        )
        yield "storage size in bytes", round(self.truth["local_gb"] * GIB), size
        yield "storage used in bytes", round(self.truth["local_gb_used"] * GIB), used
        yield (
            "free less over-committed bytes",
            round(self.truth["disk_available_least"] * GIB),
            free - overcommitted,
        )

    def _list_differences_of_memory(self) -> list[str]:
        if self.machine is None:
            return ["the machine's total memory did not stand still"]
        differences = []
        used = self.machine.expected_memory_mb_used(self.truth["memory_mb_used"])
        for metric, expected, slack in (
            ("hypervisor_memory_mb", self.truth["memory_mb"], 0),
            ("hypervisor_memory_mb_used", used, _MEMORY_SLACK_MIB),
        ):
            said = [self.before.value(metric), self.after.value(metric)]
            if not min(said) - slack <= expected <= max(said) + slack:
                differences.append(f"{metric}: Nova makes it {expected}, the exporter said {said}")
        return differences


def find_differences(look: Callable[[], Sighting]) -> list[str]:
    """Look until both agree, a few times at most; return what they still disagree on.

    What does not move is the same each time; only memory may have moved between the looks.
    """
    for _ in range(_ATTEMPTS):
        differences = look().list_differences()
        if not any("memory" in difference for difference in differences):
            break
    return differences


def _expected_info(truth: Mapping[str, Any]) -> dict[str, str]:
    cpu = json.loads(truth["cpu_info"])
    names = ("hypervisor_hostname", "hypervisor_type", "hypervisor_version")
    return {
        **{name: str(truth[name]) for name in names},
        **{name: str(cpu[name]) for name in _CPU_LABELS},
        **{name: str(cpu["topology"][name]) for name in _TOPOLOGY_LABELS},
    }

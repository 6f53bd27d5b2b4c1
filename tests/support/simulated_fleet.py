"""A fleet that exists in numbers only: as many hypervisors, for as long, as one likes; as OpenMetrics.

What it says of a hypervisor at a moment follows from the hypervisor's number and the moment alone, so that
two runs give the same. Guests come step by step, each of one flavor; some hypervisors are larger than others,
some fuller.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.support.guest_samples import list_guests, list_together

Labels = tuple[tuple[str, str], ...]

_MIB, _GIB = 2**20, 2**30
_STATES = ("nostate", "running", "blocked", "paused", "shutdown", "shutoff", "crashed", "pmsuspended")
_REASONS = ("connect", "timeout", "storage", "duplicate")
_OF_TARGET = (
    "hypervisor_up",
    "hypervisor_refresh",
    "hypervisor_connects",
    "hypervisor_events",
    "hypervisor_cache_hits",
)
_INFO: Labels = (
    ("hypervisor_type", "QEMU"),
    ("hypervisor_version", "7002015"),
    ("libvirt_version", "9000000"),
    ("arch", "x86_64"),
    ("model", "EPYC-Milan"),
    ("sockets", "2"),
    ("cores", "16"),
    ("threads", "2"),
)
_NETWORK_CARD: Labels = (("vendor_id", "8086"), ("product_id", "154c"), ("dev_type", "type-VF"))
FLAVORS: Mapping[str, Mapping[str, int]] = {
    "m1.small": {"VCPU": 1, "MEMORY_MB": 2048, "DISK_GB": 20},
    "m1.large": {"VCPU": 4, "MEMORY_MB": 8192, "DISK_GB": 80},
    "m1.xlarge": {"VCPU": 8, "MEMORY_MB": 16384, "DISK_GB": 160},
}


_CPUS = (32, 64, 64, 96)

# Of each block of so many hypervisors, those whose number leaves one of these remainders share a storage.
_BLOCK = 100
_SHARERS = {0: "nfs:nfs{block:02}:/export/nova", 1: "rbd:0b1e9c6e-8d3f-4d7a-9b57-3f5e1c2d4a60:vms{block:02}"}
_REMAINDERS = 10
_SHARED_GB = 12000


@dataclass(frozen=True, kw_only=True)
class SimulatedFleet:
    """Hypervisors by number.

    :param ends: when the simulated time ends, in seconds since the epoch
    :param pinned_every: every how manieth hypervisor has dedicated CPUs too; 0 for none
    :param down: the numbers of those that stopped answering `down_seconds` before the end
    :param full: those that have no room left
    :param stale: hypervisors with old numbers that the exporter still shows
    :param guests_of: those with the collector `guests`, which shows each guest
    :param zones: how many groups they are spread over
    """

    hypervisors: int
    ends: int
    pinned_every: int = 0
    down: frozenset[int] = frozenset()
    full: frozenset[int] = frozenset()
    stale: frozenset[int] = frozenset()
    guests_of: frozenset[int] = frozenset()
    zones: int = 2
    down_seconds: int = 480
    stale_seconds: int = 300

    def write(self, path: Path, *, seconds: int, step: int) -> int:
        """Write the last `seconds` of all series, a sample every `step`, and return the number of series."""
        times = range(self.ends - seconds, self.ends + 1, step)
        count = 0
        with path.open("w", encoding="utf-8") as out:
            for number in range(self.hypervisors):
                lines: dict[tuple[str, Labels], list[str]] = {}
                for time in times:
                    for name, labels, value in self._series(number, time):
                        if value is not None:
                            lines.setdefault((name, labels), []).append(f"{value} {time}\n")
                for (name, labels), values in lines.items():
                    text = ",".join(f'{key}="{value}"' for key, value in self._labels(number, name, labels))
                    out.writelines(f"{name}{{{text}}} {value}" for value in values)
                count += len(lines)
            out.write("# EOF\n")
        return count

    def _labels(self, number: int, name: str, extra: Labels) -> Labels:
        host = f"kvm{number + 1:0{max(2, len(str(self.hypervisors)))}d}"
        base = (
            ("instance", f"{host}:9177"),
            ("job", "hypervisors"),
            ("zone", f"zone-{number % self.zones + 1}"),
        )
        of_target = name.startswith(_OF_TARGET)
        if name in ("up", "scrape_duration_seconds"):
            return (*base, *extra)
        whose: Labels = (("target", "qemu:///system"),) if of_target else (("hypervisor_hostname", host),)
        if name == "hypervisor_info":
            whose = (*whose, ("target", "qemu:///system"), ("host_ip", f"192.0.2.{number % 250 + 1}"))
        return (*whose, *base, *extra)

    def _series(self, number: int, time: int) -> Iterator[tuple[str, Labels, float | None]]:
        """Yield name, own labels and value of every sample of one hypervisor at one moment."""
        left = self.ends - time
        is_down = number in self.down and left <= self.down_seconds
        is_gone = number in self.down and left <= self.down_seconds - 120
        age = self.stale_seconds - left if number in self.stale and left <= self.stale_seconds else 0
        yield "up", (), 1
        yield "scrape_duration_seconds", (), round(0.008 + 0.004 * _noise(number, time), 4)
        yield "hypervisor_up", (), 0 if is_down or age else 1
        yield (
            "hypervisor_refresh_duration_seconds",
            (),
            round(0.004 + 0.003 * _noise(number, time), 4),
        )
        yield "hypervisor_refresh_libvirt_calls", (), 3
        yield "hypervisor_refresh_guests_read", (), int(3 * _noise(number, time))
        yield "hypervisor_refreshes_in_flight", (), 0
        since = time - self.ends + 10**6
        yield "hypervisor_events_total", (), since // 40
        yield "hypervisor_connects_total", (), 1
        yield "hypervisor_cache_hits_total", (), since // 30
        for reason in _REASONS:
            errors = max(0, (self.down_seconds - left) // 15) if is_down and reason == "connect" else 0
            yield "hypervisor_refresh_errors_total", (("reason", reason),), errors
        yield from self._resources(number, time - age, is_gone=is_gone)
        yield "hypervisor_snapshot_timestamp_seconds", (), None if is_gone else time - age

    def _resources(
        self, number: int, time: int, *, is_gone: bool
    ) -> Iterator[tuple[str, Labels, float | None]]:
        cpus = _CPUS[number % len(_CPUS)]
        memory_mb = cpus * 4096
        disk_gb = (2000, 4000)[number % 2]
        guests, shutoff = self._guests(number, time, cpus)
        claims = dict(_sum_claims(guests + shutoff))
        sharers = self._list_sharers(number)
        disk_gb = _SHARED_GB if sharers else disk_gb
        storage = (
            _SHARERS[number % _REMAINDERS].format(block=number // _BLOCK) if sharers else f"host:{number}"
        )
        totals = {"VCPU": cpus, "MEMORY_MB": memory_mb, "DISK_GB": disk_gb}
        # Some are full by their CPU ratio.
        ratios = {"VCPU": 1.6 if number % 7 == 3 else 4.0, "MEMORY_MB": 1.0, "DISK_GB": 1.0}
        reserved = {"VCPU": 0, "MEMORY_MB": 4096, "DISK_GB": 0}
        capacity = {each: int((totals[each] - reserved[each]) * ratios[each]) for each in totals}
        if number in self.full:
            claims["MEMORY_MB"] = capacity["MEMORY_MB"]
        running_vcpus = _sum_claims(guests)["VCPU"]
        used_memory = int(min(0.97, 0.05 + 0.8 * claims["MEMORY_MB"] / memory_mb) * memory_mb * _MIB)
        # Whoever looks at a shared storage sees what the guests of all take.
        disk_claims = sum(self._claimed_gb(each, time) for each in sharers) or claims["DISK_GB"]
        used_disk = int((0.02 * disk_gb + 0.55 * disk_claims) * _GIB)
        growth = int(0.35 * claims["DISK_GB"] * _GIB)
        values: list[tuple[str, Labels, float]] = [
            ("hypervisor_vcpus", (), cpus),
            ("hypervisor_vcpus_used", (), running_vcpus),
            ("hypervisor_memory_size_bytes", (), memory_mb * _MIB),
            ("hypervisor_memory_available_bytes", (), memory_mb * _MIB - used_memory),
            ("hypervisor_storage_size_bytes", (), disk_gb * _GIB),
            ("hypervisor_storage_used_bytes", (), used_disk),
            ("hypervisor_storage_free_bytes", (), disk_gb * _GIB - used_disk),
            ("hypervisor_storage_overcommitted_bytes", (), growth),
            (
                "hypervisor_storage_info",
                (("storage", storage), ("kind", storage.partition(":")[0]), ("source", "simulated")),
                1,
            ),
            ("hypervisor_unsized_disks", (), 0),
            ("hypervisor_disk_available_least", (), (disk_gb * _GIB - used_disk - growth) // _GIB),
            ("hypervisor_running_vms", (), guests),
            ("hypervisor_info", _INFO, 1),
        ]
        by_state = {"running": guests - guests // 12, "paused": guests // 12, "shutoff": shutoff}
        values += [("hypervisor_domains", (("state", state),), by_state.get(state, 0)) for state in _STATES]
        dedicated = cpus // 4 if self.pinned_every and number % self.pinned_every == 0 else 0
        if dedicated:
            totals["PCPU"], ratios["PCPU"], reserved["PCPU"] = dedicated, 1.0, 0
            capacity["PCPU"], claims["PCPU"] = dedicated, int(dedicated * _noise(number, 1))
            values += [
                ("hypervisor_pci_devices", _NETWORK_CARD, 8),
                ("hypervisor_mdev_available_instances", (("mdev_type", "nvidia-63"),), 6),
            ]
        for cell in ("0", "1"):
            label: Labels = (("cell", cell),)
            pages: Labels = (*label, ("page_size_bytes", str(2 * _MIB)))
            values += [
                ("hypervisor_numa_cell_cpus", label, cpus // 2),
                ("hypervisor_numa_cell_dedicated_cpus", label, dedicated // 2),
                ("hypervisor_numa_cell_pinned_cpus", label, claims.get("PCPU", 0) // 2),
                ("hypervisor_numa_cell_memory_size_bytes", label, memory_mb * _MIB // 2),
                ("hypervisor_numa_cell_memory_free_bytes", label, (memory_mb * _MIB - used_memory) // 2),
                ("hypervisor_numa_cell_pages", pages, 4096),
                ("hypervisor_numa_cell_pages_free", pages, 4096 - 64 * (guests // 2)),
            ]
        for each in totals:
            label = (("resource_class", each),)
            values += [
                ("hypervisor_inventory", label, totals[each]),
                ("hypervisor_reserved", label, reserved[each]),
                ("hypervisor_allocation_ratio", label, ratios[each]),
                ("hypervisor_capacity", label, capacity[each]),
                ("hypervisor_claimed", label, claims[each]),
            ]
        for flavor, needs in FLAVORS.items():
            slots = {each: max(0, capacity[each] - claims[each]) // need for each, need in needs.items()}
            scarcest = min(slots.values())
            values.append(("hypervisor_flavor_slots", (("flavor", flavor),), scarcest))
            values += [
                ("hypervisor_flavor_request", (("flavor", flavor), ("resource_class", each)), need)
                for each, need in needs.items()
            ]
            values += [
                (
                    "hypervisor_flavor_slots_limited_by",
                    (("flavor", flavor), ("resource_class", each)),
                    float(slots[each] == scarcest),
                )
                for each in needs
            ]
        for name, labels, value in values:
            yield name, labels, None if is_gone else value
        since = float(time - self.ends + 10**6)
        if not is_gone:
            claimed = _sum_claims(sum(self._guests(number, self.ends, cpus)))["VCPU"]
            yield from list_together(number, since, cpus=cpus, claimed=claimed, is_full=number in self.full)
        if number in self.guests_of and not is_gone:
            yield from list_guests(number, since, now=time, guests=guests, flavors=FLAVORS)

    def _list_sharers(self, number: int) -> Sequence[int]:
        """Return all hypervisors that have the same storage as this one; none if it has its own."""
        if number % _REMAINDERS not in _SHARERS:
            return ()
        first = number // _BLOCK * _BLOCK + number % _REMAINDERS
        sharers = range(first, min(first + _BLOCK, self.hypervisors), _REMAINDERS)
        return sharers if len(sharers) > 1 else ()

    def _claimed_gb(self, number: int, time: int) -> int:
        """Return what the guests of a hypervisor claim of the disk."""
        return _sum_claims(sum(self._guests(number, time, _CPUS[number % len(_CPUS)])))["DISK_GB"]

    def _guests(self, number: int, time: int, cpus: int) -> tuple[int, int]:
        """Return how many guests are active and how many shut off; they become more by and by."""
        fullness = 0.25 + 0.55 * _noise(number, 0)
        begun_days_ago = (self.ends - time) / 86400
        grown = fullness * (1 - 0.12 * begun_days_ago)
        guests = max(1, int(cpus * 4096 / 8192 * 1.05 * grown + 0.8 * _noise(number, time // 1800)))
        return guests - guests // 6, guests // 6


@cache
def _sum_claims(guests: int) -> dict[str, int]:
    """Return what so many guests claim, by resource class."""
    mix = [FLAVORS[name] for name in ("m1.large", "m1.small", "m1.large", "m1.xlarge")]
    return {
        each: sum(mix[guest % 4][each] for guest in range(guests))
        for each in ("VCPU", "MEMORY_MB", "DISK_GB")
    }


def _noise(number: int, time: int) -> float:
    """Return a number between 0 and 1 that follows from both, and looks like chance."""
    mixed = (number * 2654435761 + time * 40503 + 12345) & 0xFFFFFFFF
    mixed ^= mixed >> 15
    return ((mixed * 2246822519) & 0xFFFFFFFF) / 0xFFFFFFFF

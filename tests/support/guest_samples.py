"""The guests of a simulated hypervisor in numbers: all together, and each of them.

What is said of a guest at a moment follows from the hypervisor's number, the guest's and the moment alone.
Counters grow in waves. A few guests have a trouble each, so that whatever a board can show is there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from exporter.guest_records import ANSWER_BUCKETS_SECONDS

Labels = tuple[tuple[str, str], ...]
Sample = tuple[str, Labels, float | None]

_MIB, _GIB = 2**20, 2**30
_MODES = ("kernel", "user", "idle", "iowait", "intr")
_PROJECTS = ("shop", "analytics", "intranet", "build")
_NAMES = ("web", "db", "cache", "worker", "mail")
_DISKS = ("vda", "vdb")
_LIMITED_OPS = 500

# The numbers of the guests that have a trouble of that kind.
NOISY, WAITING, SLOW_DISK, LIMITED, PAUSED, FROZEN, FULL_MEMORY, SWAPPED, NO_BALLOON = range(9)


def list_together(number: int, time: float, *, cpus: int, claimed: int, is_full: bool) -> Iterator[Sample]:
    """Yield what all guests of a hypervisor use and how long they wait, and the time of its CPUs.

    :param time: seconds, from when the counters began
    :param claimed: vCPUs; at most half of them are used on average
    """
    used = min(0.7 if is_full else 0.12 + 0.4 * _share(number, 7), claimed / cpus / 2)
    guests = _counter(used * cpus, time, number)
    kernel = _counter(0.04 * cpus, time, number + 1)
    iowait = 0.01 * cpus * time
    spent = {"user": guests, "kernel": kernel, "iowait": iowait, "intr": 0.0}
    spent["idle"] = cpus * time - sum(spent.values())
    yield "hypervisor_guests_cpu_seconds_total", (), guests
    for mode in _MODES:
        yield "hypervisor_cpu_seconds_total", (("mode", mode),), spent[mode]
    waits = {
        "cpu": 0.16 if is_full else 0.002 + 0.02 * used,
        "io": 0.02 * _share(number, 8),
        "memory": 0.0005,
    }
    for resource, share in waits.items():
        label: Labels = (("resource", resource),)
        yield "hypervisor_guests_pressure_waiting_seconds_total", label, _counter(share, time, number)
        yield "hypervisor_guests_pressure_stalled_seconds_total", label, _counter(share / 8, time, number)


def list_guests(
    number: int, time: float, *, now: float, guests: int, flavors: Mapping[str, Mapping[str, int]]
) -> Iterator[Sample]:
    """Yield every series of each guest of a hypervisor.

    :param time: seconds, from when the counters began
    :param now: seconds since the epoch
    """
    mix = list(flavors)
    for guest in range(guests):
        flavor = mix[guest % len(mix)]
        domain: Labels = (("domain", domain_of(number, guest)),)
        for name, more, value in _list_guest(number, guest, time, now, flavor, flavors[flavor]):
            yield f"hypervisor_guest_{name}", domain + more, value
    yield "hypervisor_guests_unresponsive", (), float(guests > FROZEN)
    yield "hypervisor_guests_omitted", (), 0
    yield "hypervisor_guest_stats_suspended", (), 0
    for event, an_hour in (("io_error", 0.25), ("watchdog", 0.0), ("panic", 0.0), ("migrated_in", 3.0)):
        yield "hypervisor_guest_events_total", (("event", event),), int(an_hour * time / 3600)
    yield from _list_answer_times(guests * time / 30)


def _list_answer_times(answers: float) -> Iterator[Sample]:
    """Yield a histogram: half of the answers within 5 ms or so, a few in a second."""
    name = "hypervisor_guest_stats_duration_seconds"
    for limit in (*ANSWER_BUCKETS_SECONDS, math.inf):
        share = 1 - math.exp(-limit / 0.007) if limit < 0.2 else 1.0
        yield f"{name}_bucket", (("le", "+Inf" if limit == math.inf else repr(limit)),), int(answers * share)
    yield f"{name}_count", (), int(answers)
    yield f"{name}_sum", (), 0.007 * answers


def domain_of(number: int, guest: int) -> str:
    """Return libvirt's name of a guest."""
    return f"instance-{number * 1000 + guest:08x}"


def _list_guest(
    number: int, guest: int, time: float, now: float, flavor: str, size: Mapping[str, int]
) -> Iterator[Sample]:
    project = _PROJECTS[guest % len(_PROJECTS)]
    name = f"{project}-{_NAMES[guest % len(_NAMES)]}-{guest // len(_NAMES) + 1}"
    yield (
        "info",
        (
            ("uuid", f"00000000-0000-4000-8000-{number:06x}{guest:06x}"),
            ("instance_name", name),
            ("flavor", flavor),
            ("project_id", f"{guest % len(_PROJECTS):032x}"),
            ("project_name", project),
            ("user_id", f"{guest % 3:032x}"),
            ("user_name", ("anna", "bert", "chris")[guest % 3]),
            ("image_id", "6a1f8f0e-1a1c-4f3e-9d0d-7f7c5d2f1e11"),
        ),
        1,
    )
    is_paused = guest == PAUSED
    state = ("paused", "ioerror") if is_paused else ("running", "booted")
    yield "state_info", (("state", state[0]), ("reason", state[1])), 1
    yield "vcpus", (), size["VCPU"]
    yield "memory_size_bytes", (), size["MEMORY_MB"] * _MIB
    # A guest that is frozen or paused does not go on.
    halted = is_paused or guest == FROZEN
    runs = 3600.0 if halted else time
    yield from _list_cpu(number, guest, runs, size["VCPU"])
    yield from _list_memory(number, guest, runs, now, size["MEMORY_MB"] * _MIB)
    for device in _DISKS[: 1 + guest % 2]:
        yield from _list_disk(number, guest, runs, device, size["DISK_GB"] * _GIB)
    yield from _list_network(number, guest, runs)
    yield "responsive", (), float(guest != FROZEN)
    yield "stats_timestamp_seconds", (), now - (1500 if guest == FROZEN else 12)


def _list_cpu(number: int, guest: int, time: float, vcpus: int) -> Iterator[Sample]:
    share = 0.78 if guest in (NOISY, WAITING) else 0.02 + 0.45 * _share(number, 31 * guest) ** 2
    waits = 0.35 if guest == WAITING else 0.01 * _share(number, 17 * guest)
    yield "cpu_seconds_total", (), _counter(share * (1 - waits) * vcpus, time, guest)
    yield "vcpu_delay_seconds_total", (), _counter(share * waits * vcpus, time, guest)
    if guest == WAITING:
        yield "cpu_throttled_seconds_total", (), 0.02 * time
    stalls = {
        "cpu": waits,
        "io": 0.3 if guest == SLOW_DISK else 0.01,
        "memory": 0.05 if guest == SWAPPED else 0.0,
    }
    for resource, waiting in stalls.items():
        label: Labels = (("resource", resource),)
        yield "pressure_waiting_seconds_total", label, _counter(waiting, time, guest)
        yield "pressure_stalled_seconds_total", label, _counter(waiting / 2, time, guest)


def _list_memory(number: int, guest: int, time: float, now: float, size: int) -> Iterator[Sample]:
    used = 0.97 if guest == FULL_MEMORY else 0.15 + 0.6 * _share(number, 13 * guest)
    used += 0.02 * math.sin(time / 2500 + guest)
    available = int(0.97 * size)
    yield "memory_resident_bytes", (), min(size, int((used + 0.05) * size))
    yield "memory_balloon_bytes", (), size
    if guest == NO_BALLOON:
        return
    yield "memory_available_bytes", (), available
    yield "memory_usable_bytes", (), max(available // 50, int(available * (1 - used)))
    yield "memory_stats_timestamp_seconds", (), now - (1500 if guest == FROZEN else 15)
    yield "memory_swap_in_bytes_total", (), 0
    yield "memory_swap_out_bytes_total", (), 0
    yield "memory_major_faults_total", (), 0.05 * time


def _list_disk(number: int, guest: int, time: float, device: str, size: int) -> Iterator[Sample]:
    label: Labels = (("device", device),)
    volume = f"7c0e9d1a-5f3e-4b7e-8a53-{number:06x}{guest:06x}" if device != "vda" else ""
    yield (
        "disk_info",
        (
            *label,
            ("volume_id", volume),
            ("bus", "virtio"),
            ("type", "network" if volume else "file"),
            ("format", "raw" if volume else "qcow2"),
            ("cache", "none"),
        ),
        1,
    )
    operations = 490.0 if guest == LIMITED else 2 + 180 * _share(number, 7 * guest + len(volume)) ** 3
    latency = 0.12 if guest == SLOW_DISK else 0.0004 + 0.004 * _share(number, 5 * guest)
    if volume or guest == LIMITED:
        yield "disk_limit_ops_per_second", (*label, ("direction", "total")), _LIMITED_OPS
        yield "disk_limit_bytes_per_second", (*label, ("direction", "total")), 100 * _MIB
    for verb, kind, share in (("read", "reads", 0.3), ("written", "writes", 0.7)):
        # A limit holds at every moment.
        requests = (
            operations * share * time if guest == LIMITED else _counter(operations * share, time, guest)
        )
        yield f"disk_{kind}_completed_total", label, int(requests)
        yield f"disk_{verb}_bytes_total", label, int(requests * 16384)
        yield f"disk_{kind[:-1]}_time_seconds_total", label, requests * latency
    yield "disk_flush_requests_total", label, int(0.5 * time)
    yield "disk_flush_requests_time_seconds_total", label, 0.5 * time * latency
    yield "disk_size_bytes", label, size
    yield "disk_allocated_bytes", label, size // 3


def _list_network(number: int, guest: int, time: float) -> Iterator[Sample]:
    tap = f"tap{number:04x}{guest:03x}-0"
    label: Labels = (("device", tap),)
    port = f"2b7a6d3e-0c55-4b0b-a5e5-{number:06x}{guest:06x}"
    mac = f"fa:16:3e:{number % 256:02x}:00:{guest % 256:02x}"
    yield (
        "network_info",
        (*label, ("mac", mac), ("bridge", "br-int"), ("port_id", port), ("type", "bridge")),
        1,
    )
    packets = 20 + 9000 * _share(number, 3 * guest) ** 4
    for direction, share in (("receive", 0.7), ("transmit", 0.3)):
        count = int(_counter(packets * share, time, guest))
        yield f"network_{direction}_bytes_total", label, count * 900
        yield f"network_{direction}_packets_total", label, count
        yield f"network_{direction}_errs_total", label, 0
        yield f"network_{direction}_drop_total", label, int(0.002 * count) if guest == NOISY else 0


def _counter(rate: float, time: float, phase: int) -> float:
    """Return a counter of that mean rate. Its slope goes up and down by a quarter, once in three hours."""
    return round(rate * (time + 0.25 * 1700 * math.sin(time / 1700 + phase)), 3)


def _share(number: int, salt: int) -> float:
    """Return a number between 0 and 1 that looks like chance."""
    return (math.sin(12.9898 * (number + 1) + 78.233 * (salt + 1)) * 43758.5453) % 1

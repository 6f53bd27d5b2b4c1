"""Usage: what the host's CPUs do, what all guests together use, and how long they wait for it.

Whether over-commit hurts is seen here: guests that wait for CPUs are too many for them.

hypervisor_cpu_seconds_total{hypervisor_hostname="kvm01",mode="idle"} 87264.9
hypervisor_guests_pressure_waiting_seconds_total{hypervisor_hostname="kvm01",resource="cpu"} 214.5
"""

from __future__ import annotations

from collections.abc import Iterator

from exporter.guest_records import GuestsTogether
from exporter.metric import Collector, Metric, Sample
from exporter.model import Snapshot

_NANOSECONDS = 1e9
_MICROSECONDS = 1e6
_GROUP = "control group machine.slice or machine"

CPU_SECONDS_TOTAL = Metric(
    name="hypervisor_cpu_seconds_total",
    help="Seconds that the host's CPUs have spent, by mode, for all CPUs together. Guests count as user.",
    type="counter",
    labels=("hypervisor_hostname", "mode"),
    source="virNodeGetCPUStats",
)
GUESTS_CPU_SECONDS_TOTAL = Metric(
    name="hypervisor_guests_cpu_seconds_total",
    help="CPU time of all guests together, with that of QEMU itself; of this machine's hypervisor only.",
    type="counter",
    labels=("hypervisor_hostname",),
    source=f"{_GROUP}: cpu.stat, or cpuacct.usage of version 1",
)
WAITING_SECONDS_TOTAL = Metric(
    name="hypervisor_guests_pressure_waiting_seconds_total",
    help="Time in which at least one thread of a guest waited for the resource.",
    type="counter",
    labels=("hypervisor_hostname", "resource"),
    source=f"{_GROUP}: some of cpu.pressure, io.pressure and memory.pressure",
)
STALLED_SECONDS_TOTAL = Metric(
    name="hypervisor_guests_pressure_stalled_seconds_total",
    help="Time in which no thread of any guest ran, because all that would waited for the resource.",
    type="counter",
    labels=("hypervisor_hostname", "resource"),
    source=f"{_GROUP}: full of cpu.pressure, io.pressure and memory.pressure",
)


def _collect(snapshot: Snapshot) -> Iterator[Sample]:
    hostname = snapshot.resources.hypervisor_hostname
    for mode, nanoseconds in (snapshot.get_part("CPU times", dict) or {}).items():
        yield from CPU_SECONDS_TOTAL.samples(
            nanoseconds / _NANOSECONDS, hypervisor_hostname=hostname, mode=mode
        )
    together = snapshot.get_part("guests together", GuestsTogether)
    if together is None:
        return
    if together.cpu_ns is not None:
        seconds = together.cpu_ns / _NANOSECONDS
        yield from GUESTS_CPU_SECONDS_TOTAL.samples(seconds, hypervisor_hostname=hostname)
    for metric, totals in (
        (WAITING_SECONDS_TOTAL, together.waiting_us),
        (STALLED_SECONDS_TOTAL, together.stalled_us),
    ):
        for resource, microseconds in totals.items():
            yield from metric.samples(
                microseconds / _MICROSECONDS, hypervisor_hostname=hostname, resource=resource
            )


COLLECTOR = Collector(
    name="usage",
    metrics=(CPU_SECONDS_TOTAL, GUESTS_CPU_SECONDS_TOTAL, WAITING_SECONDS_TOTAL, STALLED_SECONDS_TOTAL),
    collect=_collect,
    needs=frozenset({"CPU times", "guests together"}),
)

"""The CPU time of guests: what they use, and how long they wait for it. The host's kernel counts it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from exporter.collectors.guests.rows import COMMON_LABELS, Row
from exporter.guest_records import GuestUse
from exporter.metric import LabelSet, Metric, Series

_NANOSECONDS = 1e9
_MICROSECONDS = 1e6
_GROUP = "the guest's control group"
_SCHEDSTAT = "/proc/TID/schedstat of its vCPUs' threads"

CPU_SECONDS_TOTAL = Metric(
    name="hypervisor_guest_cpu_seconds_total",
    help="CPU time of the guest: of its vCPUs, of QEMU's own threads, and of vhost's.",
    type="counter",
    labels=COMMON_LABELS,
    more_labels=True,
    source=f"{_GROUP}: cpu.stat, or cpuacct.usage of version 1",
)
DELAY_SECONDS_TOTAL = Metric(
    name="hypervisor_guest_vcpu_delay_seconds_total",
    help="Time in which vCPUs were ready to run and waited for a CPU, all together: the guest's steal.",
    type="counter",
    labels=COMMON_LABELS,
    more_labels=True,
    source=_SCHEDSTAT,
)
THROTTLED_SECONDS_TOTAL = Metric(
    name="hypervisor_guest_cpu_throttled_seconds_total",
    help="Time for which a quota (cputune/quota) kept the guest's threads from the CPUs; only with a quota.",
    type="counter",
    labels=COMMON_LABELS,
    more_labels=True,
    source=f"{_GROUP} and those of its vCPUs: cpu.stat",
)
WAITING_SECONDS_TOTAL = Metric(
    name="hypervisor_guest_pressure_waiting_seconds_total",
    help="Time in which at least one thread of the guest waited for the resource.",
    type="counter",
    labels=(*COMMON_LABELS, "resource"),
    more_labels=True,
    source=f"{_GROUP}: some of cpu.pressure, io.pressure and memory.pressure",
)
STALLED_SECONDS_TOTAL = Metric(
    name="hypervisor_guest_pressure_stalled_seconds_total",
    help="Time in which no thread of the guest ran, because all that would waited for the resource.",
    type="counter",
    labels=(*COMMON_LABELS, "resource"),
    more_labels=True,
    source=f"{_GROUP}: full of cpu.pressure, io.pressure and memory.pressure",
)
ONE_VCPU_SECONDS_TOTAL = Metric(
    name="hypervisor_guest_one_vcpu_seconds_total",
    help="CPU time of one vCPU; only with guests: per_vcpu.",
    type="counter",
    labels=(*COMMON_LABELS, "vcpu"),
    more_labels=True,
    source=_SCHEDSTAT,
)
ONE_VCPU_DELAY_SECONDS_TOTAL = Metric(
    name="hypervisor_guest_one_vcpu_delay_seconds_total",
    help="Time in which one vCPU was ready to run and waited for a CPU; only with guests: per_vcpu.",
    type="counter",
    labels=(*COMMON_LABELS, "vcpu"),
    more_labels=True,
    source=_SCHEDSTAT,
)
METRICS = (
    CPU_SECONDS_TOTAL,
    DELAY_SECONDS_TOTAL,
    THROTTLED_SECONDS_TOTAL,
    WAITING_SECONDS_TOTAL,
    STALLED_SECONDS_TOTAL,
    ONE_VCPU_SECONDS_TOTAL,
    ONE_VCPU_DELAY_SECONDS_TOTAL,
)


def collect(used: list[tuple[Row, GuestUse]], *, per_vcpu: bool) -> Iterator[Series]:
    """Yield the series of all guests.

    :param used: the guests that run, and what they use
    """
    yield from CPU_SECONDS_TOTAL.series((row.labels, _seconds(use.cpu_ns)) for row, use in used)
    yield from DELAY_SECONDS_TOTAL.series((row.labels, _seconds(use.delay_ns)) for row, use in used)
    yield from THROTTLED_SECONDS_TOTAL.series((row.labels, _seconds(use.throttled_ns)) for row, use in used)
    yield from WAITING_SECONDS_TOTAL.series(
        (row.extend(("resource", name)), total / _MICROSECONDS)
        for row, use in used
        for name, total in use.waiting_us.items()
    )
    yield from STALLED_SECONDS_TOTAL.series(
        (row.extend(("resource", name)), total / _MICROSECONDS)
        for row, use in used
        for name, total in use.stalled_us.items()
    )
    if per_vcpu:
        yield from ONE_VCPU_SECONDS_TOTAL.series(
            each for row, use in used for each in _list_vcpus(row, use.vcpu_run_ns)
        )
        yield from ONE_VCPU_DELAY_SECONDS_TOTAL.series(
            each for row, use in used for each in _list_vcpus(row, use.vcpu_delay_ns)
        )


def _list_vcpus(row: Row, times: Mapping[int, int]) -> Iterator[tuple[LabelSet, float]]:
    for vcpu, nanoseconds in times.items():
        yield row.extend(("vcpu", str(vcpu))), nanoseconds / _NANOSECONDS


def _seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / _NANOSECONDS

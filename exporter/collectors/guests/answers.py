"""Whether guests answer when libvirt is asked for their statistics, how quickly, and when they last did."""

from __future__ import annotations

from collections.abc import Iterator

from exporter.collectors.guests.rows import COMMON_LABELS, Row
from exporter.guest_records import ANSWER_BUCKETS_SECONDS, AllGuestStatistics
from exporter.metric import AnySample, Metric

_CALL = "virDomainListGetStats"

TIMESTAMP = Metric(
    name="hypervisor_guest_stats_timestamp_seconds",
    help="When QEMU last told the statistics of the guest's disks and memory, in seconds since the epoch.",
    labels=COMMON_LABELS,
    more_labels=True,
    source=_CALL,
)
RESPONSIVE = Metric(
    name="hypervisor_guest_responsive",
    help=(
        "0 while QEMU does not answer: its process is stopped or waits for its storage. 1 if it has answered."
        " Absent if it was not asked."
    ),
    labels=COMMON_LABELS,
    more_labels=True,
    source=f"{_CALL}, virDomainGetControlInfo, /proc/PID/stat",
)
UNRESPONSIVE = Metric(
    name="hypervisor_guests_unresponsive",
    help="Guests whose hypervisor_guest_responsive is 0.",
    unit="guests",
    labels=("hypervisor_hostname",),
    source=f"{_CALL}, virDomainGetControlInfo, /proc/PID/stat",
)
SUSPENDED = Metric(
    name="hypervisor_guest_stats_suspended",
    help=(
        "1 while no guest is asked for its statistics, because too many do not answer. Numbers that need no"
        " answer go on."
    ),
    labels=("hypervisor_hostname",),
    source="this exporter",
)
DURATION = Metric(
    name="hypervisor_guest_stats_duration_seconds",
    help="How long guests took to tell their statistics, one by one, between scrapes.",
    type="histogram",
    labels=("hypervisor_hostname",),
    source=_CALL,
)
METRICS = (TIMESTAMP, RESPONSIVE, UNRESPONSIVE, SUSPENDED, DURATION)


def collect(rows: list[Row], part: AllGuestStatistics, *, hostname: str) -> Iterator[AnySample]:
    """Yield the series of all guests, and those of their hypervisor."""
    statistics, responsive = part.statistics, part.is_responsive
    yield from TIMESTAMP.series(
        (row.labels, statistics[row.uuid].read_at) for row in rows if row.uuid in statistics
    )
    yield from RESPONSIVE.series(
        (row.labels, float(responsive[row.uuid])) for row in rows if row.uuid in responsive
    )
    unresponsive = sum(not each for each in responsive.values())
    yield from UNRESPONSIVE.samples(unresponsive, hypervisor_hostname=hostname)
    yield from SUSPENDED.samples(float(part.is_suspended), hypervisor_hostname=hostname)
    times = part.answer_times
    yield DURATION.histogram(
        ANSWER_BUCKETS_SECONDS, times.counts, times.total_seconds, hypervisor_hostname=hostname
    )

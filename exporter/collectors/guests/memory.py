"""The host's memory that guests have."""

from __future__ import annotations

from collections.abc import Iterator

from exporter.collectors.guests.rows import COMMON_LABELS, Row
from exporter.guest_records import GuestUse
from exporter.metric import Metric, Series

RESIDENT_BYTES = Metric(
    name="hypervisor_guest_memory_resident_bytes",
    help="The host's memory that the guest and its QEMU have, huge pages too, without the cache of files.",
    labels=COMMON_LABELS,
    more_labels=True,
    source="the guest's control group: memory.stat (anon, shmem); HugetlbPages of /proc/PID/status",
)
METRICS = (RESIDENT_BYTES,)


def collect(used: list[tuple[Row, GuestUse]]) -> Iterator[Series]:
    """Yield the series of all guests.

    :param used: the guests that run, and what they use
    """
    yield from RESIDENT_BYTES.series((row.labels, use.resident_bytes) for row, use in used)

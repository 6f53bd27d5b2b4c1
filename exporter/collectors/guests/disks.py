"""What guests' disks have done: QEMU's counters, which libvirt is asked for between scrapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice

from exporter.collectors.guests.rows import COMMON_LABELS, OTHER_DEVICES, Row
from exporter.guest_records import MAX_DEVICES, DiskCounters, GuestStatistics
from exporter.label import make_label_value
from exporter.metric import LabelSet, Metric, Series

_NANOSECONDS = 1e9
_LABELS = (*COMMON_LABELS, "device")
_CALL = "virDomainListGetStats"


def _metric(name: str, text: str, field: str, *, unit: str = "") -> Metric:
    return Metric(
        name=f"hypervisor_guest_disk_{name}",
        help=text,
        type="counter" if name.endswith("_total") else "gauge",
        labels=_LABELS,
        more_labels=True,
        unit=unit,
        source=f"{_CALL} (block.N.{field})",
    )


READ_BYTES = _metric("read_bytes_total", "Bytes that the guest has read from the disk.", "rd.bytes")
WRITTEN_BYTES = _metric("written_bytes_total", "Bytes that the guest has written to the disk.", "wr.bytes")
READS = _metric("reads_completed_total", "Reads that are completed.", "rd.reqs", unit="requests")
WRITES = _metric("writes_completed_total", "Writes that are completed.", "wr.reqs", unit="requests")
READ_TIME = _metric(
    "read_time_seconds_total",
    "Seconds that all reads took together; divided by their number, how long one took.",
    "rd.times",
)
WRITE_TIME = _metric(
    "write_time_seconds_total",
    "Seconds that all writes took together; divided by their number, how long one took.",
    "wr.times",
)
FLUSHES = _metric("flush_requests_total", "Flushes that are completed.", "fl.reqs", unit="requests")
FLUSH_TIME = _metric(
    "flush_requests_time_seconds_total", "Seconds that all flushes took together.", "fl.times"
)
SIZE = _metric("size_bytes", "Size of the disk as the guest sees it.", "capacity")
ALLOCATED = _metric(
    "allocated_bytes", "What the disk takes on the host's storage, without its backing files.", "physical"
)

# Each metric's value of a disk, in its base unit.
_VALUES: tuple[tuple[Metric, Callable[[DiskCounters], float | None]], ...] = (
    (READ_BYTES, lambda disk: disk.read_bytes),
    (WRITTEN_BYTES, lambda disk: disk.written_bytes),
    (READS, lambda disk: disk.read_requests),
    (WRITES, lambda disk: disk.write_requests),
    (READ_TIME, lambda disk: _to_seconds(disk.read_ns)),
    (WRITE_TIME, lambda disk: _to_seconds(disk.write_ns)),
    (FLUSHES, lambda disk: disk.flush_requests),
    (FLUSH_TIME, lambda disk: _to_seconds(disk.flush_ns)),
    (SIZE, lambda disk: disk.size_bytes),
    (ALLOCATED, lambda disk: disk.allocated_bytes),
)
METRICS = tuple(metric for metric, _ in _VALUES)


def collect(rows: list[Row], statistics: Mapping[str, GuestStatistics]) -> Iterator[Series]:
    """Yield the series of all guests whose statistics are known."""
    disks = [
        (row.extend(("device", device)), disk)
        for row in rows
        if row.uuid in statistics
        for device, disk in list_disks(statistics[row.uuid]).items()
    ]
    for metric, value in _VALUES:
        yield from metric.series(_list_values(disks, value))


def list_disks(statistics: GuestStatistics) -> dict[str, DiskCounters]:
    """Return the first disks by device, and the sum of the others. A name that is cut may be there twice."""
    shown: dict[str, DiskCounters] = {}
    for device, disk in islice(statistics.disks.items(), MAX_DEVICES):
        shown.setdefault(make_label_value(device), disk)
    if statistics.other_disks is not None:
        shown[OTHER_DEVICES] = statistics.other_disks
    return shown


def _list_values(
    disks: list[tuple[LabelSet, DiskCounters]], value: Callable[[DiskCounters], float | None]
) -> list[tuple[LabelSet, float | None]]:
    return [(labels, value(disk)) for labels, disk in disks]


def _to_seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / _NANOSECONDS

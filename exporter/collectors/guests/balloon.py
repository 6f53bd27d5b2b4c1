"""Guests' memory by their own account: what the driver of the balloon tells libvirt between scrapes.

Only the balloon's size is the host's. The rest is there if the guest tells it: libvirt asks guests with a
period (<memballoon><stats period='10'/>, Nova's mem_stats_period_seconds), and the guest needs the driver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from exporter.collectors.guests.rows import COMMON_LABELS, Row
from exporter.guest_records import GuestStatistics, MemoryStatistics
from exporter.metric import Metric, Series

_KIB = 1024
_CALL = "virDomainListGetStats"


def _metric(name: str, text: str, field: str, *, unit: str = "") -> Metric:
    return Metric(
        name=f"hypervisor_guest_memory_{name}",
        help=text,
        type="counter" if name.endswith("_total") else "gauge",
        labels=COMMON_LABELS,
        more_labels=True,
        unit=unit,
        source=f"{_CALL} (balloon.{field})",
    )


BALLOON = _metric(
    "balloon_bytes", "Memory that the guest has now: a balloon in it may have given some back.", "current"
)
AVAILABLE = _metric(
    "available_bytes", "Memory that the guest has, by its own account (Linux: MemTotal).", "available"
)
USABLE = _metric(
    "usable_bytes",
    "Memory that the guest could use without swapping, by its own account (Linux: MemAvailable).",
    "usable",
)
SWAP_IN = _metric("swap_in_bytes_total", "What the guest has read from its swap.", "swap_in")
SWAP_OUT = _metric("swap_out_bytes_total", "What the guest has written to its swap.", "swap_out")
MAJOR_FAULTS = _metric(
    "major_faults_total", "Page faults of the guest that read a disk.", "major_fault", unit="faults"
)
UPDATED = _metric(
    "stats_timestamp_seconds",
    "When the guest last told how it uses its memory, in seconds since the epoch.",
    "last-update",
)

# Each metric's value, in its base unit.
_VALUES: tuple[tuple[Metric, Callable[[MemoryStatistics], float | None]], ...] = (
    (BALLOON, lambda memory: _to_bytes(memory.balloon_kib)),
    (AVAILABLE, lambda memory: _to_bytes(memory.available_kib)),
    (USABLE, lambda memory: _to_bytes(memory.usable_kib)),
    (SWAP_IN, lambda memory: _to_bytes(memory.swap_in_kib)),
    (SWAP_OUT, lambda memory: _to_bytes(memory.swap_out_kib)),
    (MAJOR_FAULTS, lambda memory: memory.major_faults),
    (UPDATED, lambda memory: memory.updated_at),
)
METRICS = tuple(metric for metric, _ in _VALUES)


def collect(rows: list[Row], statistics: Mapping[str, GuestStatistics]) -> Iterator[Series]:
    """Yield the series of all guests whose statistics are known."""
    known = [
        (row.labels, memory)
        for row in rows
        if row.uuid in statistics and (memory := statistics[row.uuid].memory) is not None
    ]
    for metric, value in _VALUES:
        yield from metric.series([(labels, value(memory)) for labels, memory in known])


def _to_bytes(kib: int | None) -> int | None:
    return None if kib is None else kib * _KIB

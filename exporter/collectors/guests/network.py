"""The traffic of guests, as they see it: received is what came to the guest.

Each counter is the host's for the device that the interface has there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from operator import attrgetter

from exporter.collectors.guests.rows import COMMON_LABELS, OTHER_DEVICES, Row, list_interfaces
from exporter.guest_records import GuestUse, InterfaceCounters
from exporter.metric import LabelSet, Metric, Series

# The metric's part of the name, its help, and the counter of an interface.
_DECLARED = (
    ("receive_bytes", "Bytes that the guest received", "received_bytes"),
    ("receive_packets", "Packets that the guest received", "received_packets"),
    ("receive_errs", "Packets for the guest that had an error", "received_errors"),
    ("receive_drop", "Packets for the guest that were dropped", "received_dropped"),
    ("transmit_bytes", "Bytes that the guest sent", "transmitted_bytes"),
    ("transmit_packets", "Packets that the guest sent", "transmitted_packets"),
    ("transmit_errs", "Packets of the guest that had an error", "transmitted_errors"),
    ("transmit_drop", "Packets of the guest that were dropped", "transmitted_dropped"),
)


def _declare(name: str, what: str) -> Metric:
    return Metric(
        name=f"hypervisor_guest_network_{name}_total",
        help=f"{what}, by the host's device of the interface.",
        type="counter",
        unit="bytes" if name.endswith("_bytes") else "packets",
        labels=(*COMMON_LABELS, "device"),
        more_labels=True,
        source="/proc/net/dev",
    )


_COUNTERS = tuple((_declare(name, what), attrgetter(field)) for name, what, field in _DECLARED)
METRICS = tuple(metric for metric, _ in _COUNTERS)


def collect(used: list[tuple[Row, GuestUse]]) -> Iterator[Series]:
    """Yield the series of all guests.

    :param used: the guests that run, and what they use
    """
    shown = [(labels, each) for row, use in used for labels, each in _list_shown(row, use)]
    for metric, get in _COUNTERS:
        yield from metric.series((labels, get(each)) for labels, each in shown)


def _list_shown(row: Row, use: GuestUse) -> Iterator[tuple[LabelSet, InterfaceCounters]]:
    """Yield each interface that has series of its own, and the others together."""
    if not use.interfaces:
        return
    for name, labels in row.keep(_list_devices).items():
        if name in use.interfaces:
            yield labels, use.interfaces[name]
    if use.other_interfaces is not None:
        yield row.extend(("device", OTHER_DEVICES)), use.other_interfaces


def _list_devices(row: Row) -> Mapping[str, LabelSet]:
    """Return the labels of the devices that are shown one by one: those of hypervisor_guest_network_info."""
    shown = {} if row.guest is None else list_interfaces(row.guest)
    return {target: row.extend(("device", value)) for target, (value, _) in shown.items()}

"""Guests: who each one is, its state, what it was promised, and what it uses. Off by default.

hypervisor_guest_info{hypervisor_hostname="kvm01",domain="instance-2a",instance_name="web1",uuid="…",…} 1
hypervisor_guest_vcpus{hypervisor_hostname="kvm01",domain="instance-2a"} 4

Each file here has the metrics of one subject, and a function `collect` that yields their series.
"""

from __future__ import annotations

from collections.abc import Iterator

from exporter.collectors.guests import identity
from exporter.collectors.guests.rows import list_rows
from exporter.guest_use import ChosenGuests
from exporter.metric import Collector, Metric, Sample, Series
from exporter.model import Snapshot

OMITTED = Metric(
    name="hypervisor_guests_omitted",
    help="Guests without series of their own: include, exclude, project and max leave them out.",
    unit="guests",
    labels=("hypervisor_hostname",),
    source="this exporter",
)


def _collect(snapshot: Snapshot) -> Iterator[Sample | Series]:
    chosen = snapshot.get_part("chosen guests", ChosenGuests)
    if chosen is None:
        return
    hostname = snapshot.resources.hypervisor_hostname
    yield from OMITTED.samples(chosen.omitted, hypervisor_hostname=hostname)
    rows = list_rows(snapshot, chosen)
    yield from identity.collect(rows, show_owner_names=chosen.show_owner_names)


COLLECTOR = Collector(
    name="guests",
    metrics=(OMITTED, *identity.METRICS),
    collect=_collect,
    needs=frozenset({"guests", "chosen guests"}),
    is_default=False,
)

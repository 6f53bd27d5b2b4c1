"""Guests: who each one is, its state, what it was promised, and what it uses. Off by default.

hypervisor_guest_info{hypervisor_hostname="kvm01",domain="instance-2a",instance_name="web1",uuid="…",…} 1
hypervisor_guest_vcpus{hypervisor_hostname="kvm01",domain="instance-2a"} 4

Each file here has the metrics of one subject, and a function `collect` that yields their series.
"""

from __future__ import annotations

from collections.abc import Iterator

from exporter.collectors.guests import answers, balloon, cpu, disks, identity, memory, network
from exporter.collectors.guests.rows import Row, list_rows
from exporter.guest_records import AllGuestStatistics, AllGuestsUse, ChosenGuests, GuestUse
from exporter.metric import AnySample, Collector, Metric
from exporter.model import Snapshot

OMITTED = Metric(
    name="hypervisor_guests_omitted",
    help="Guests without series of their own: include, exclude, project and max leave them out.",
    unit="guests",
    labels=("hypervisor_hostname",),
    source="this exporter",
)


def _collect(snapshot: Snapshot) -> Iterator[AnySample]:
    chosen = snapshot.get_part("chosen guests", ChosenGuests)
    if chosen is None:
        return
    hostname = snapshot.resources.hypervisor_hostname
    yield from OMITTED.samples(chosen.omitted, hypervisor_hostname=hostname)
    rows = list_rows(snapshot, chosen)
    claims = snapshot.resources.guest_claims
    yield from identity.collect(rows, claims=claims, show_owner_names=chosen.show_owner_names)
    statistics = snapshot.get_part("guest statistics", AllGuestStatistics)
    used = list(_list_used(rows, snapshot.get_part("guest use", AllGuestsUse), statistics))
    yield from cpu.collect(used, per_vcpu=chosen.per_vcpu)
    yield from memory.collect(used)
    yield from network.collect(used)
    if statistics is not None:
        yield from disks.collect(rows, statistics.statistics)
        yield from balloon.collect(rows, statistics.statistics)
        yield from answers.collect(rows, statistics, hostname=hostname)


def _list_used(
    rows: list[Row], use: AllGuestsUse | None, statistics: AllGuestStatistics | None
) -> Iterator[tuple[Row, GuestUse]]:
    """Yield what each guest uses: by this machine's kernel; by libvirt where that does not tell it."""
    for row in rows:
        if use is not None:
            if row.uuid in use.use:
                yield row, use.use[row.uuid]
        elif statistics is not None and (told := statistics.statistics.get(row.uuid)) is not None:
            yield (
                row,
                GuestUse(
                    cpu_ns=told.cpu_ns, interfaces=told.interfaces, other_interfaces=told.other_interfaces
                ),
            )


COLLECTOR = Collector(
    name="guests",
    metrics=(
        OMITTED,
        *identity.METRICS,
        *cpu.METRICS,
        *memory.METRICS,
        *network.METRICS,
        *disks.METRICS,
        *balloon.METRICS,
        *answers.METRICS,
    ),
    collect=_collect,
    needs=frozenset({"guests", "chosen guests", "guest use", "guest statistics"}),
    is_default=False,
)

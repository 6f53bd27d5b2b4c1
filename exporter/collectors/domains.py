"""Domains: how many there are by state, and for how many libvirt gives no configuration.

hypervisor_running_vms{hypervisor_hostname="kvm01"} 23
hypervisor_domains{hypervisor_hostname="kvm01",state="running"} 22
"""

from __future__ import annotations

from collections.abc import Iterator

from exporter.metric import Collector, Metric, Sample
from exporter.model import Snapshot

RUNNING_VMS = Metric(
    name="hypervisor_running_vms",
    help="Active domains, such as running and paused ones. Shut-off domains do not count.",
    unit="domains",
    labels=("hypervisor_hostname",),
    source="virConnectGetAllDomainStats",
)
DOMAINS = Metric(
    name="hypervisor_domains",
    help="Domains by libvirt's state, active or not.",
    unit="domains",
    labels=("hypervisor_hostname", "state"),
    source="virConnectGetAllDomainStats (state.state)",
)

DOMAIN_LIST_TIMESTAMP_SECONDS = Metric(
    name="hypervisor_domain_list_timestamp_seconds",
    help="When libvirt last answered with the list of domains, in seconds since the epoch.",
    labels=("hypervisor_hostname",),
    source="virConnectGetAllDomainStats",
)
UNREAD_GUESTS = Metric(
    name="hypervisor_unread_guests",
    help="Guests whose configuration cannot be read, or was not yet; only their vCPUs and memory count.",
    unit="guests",
    labels=("hypervisor_hostname",),
    source="virDomainGetXMLDesc, virDomainGetInfo",
)
OUTDATED_GUESTS = Metric(
    name="hypervisor_outdated_guests",
    help="Guests counted by their last known configuration, because the current one cannot be read.",
    unit="guests",
    labels=("hypervisor_hostname",),
    source="virDomainGetXMLDesc",
)
GUEST_EVENTS_TOTAL = Metric(
    name="hypervisor_guest_events_total",
    help="What happened to guests since the exporter started: io_error (of a disk), watchdog (of the guest"
    " expired), panic, migrated_in and migrated_out (each migration once, at its end).",
    type="counter",
    unit="events",
    labels=("hypervisor_hostname", "event"),
    source="virConnectDomainEventRegisterAny (IO_ERROR_REASON, WATCHDOG, LIFECYCLE)",
)


def _collect(snapshot: Snapshot) -> Iterator[Sample]:
    resources = snapshot.resources
    hostname = resources.hypervisor_hostname
    yield from RUNNING_VMS.samples(resources.running_vms, hypervisor_hostname=hostname)
    for state, count in (resources.domains_by_state or {}).items():
        yield from DOMAINS.samples(count, hypervisor_hostname=hostname, state=state.name.lower())
    if resources.domains_age_seconds is not None:
        listed_at = snapshot.timestamp_seconds - resources.domains_age_seconds
        yield from DOMAIN_LIST_TIMESTAMP_SECONDS.samples(listed_at, hypervisor_hostname=hostname)
    yield from UNREAD_GUESTS.samples(resources.unread_guests, hypervisor_hostname=hostname)
    yield from OUTDATED_GUESTS.samples(resources.outdated_guests, hypervisor_hostname=hostname)
    for event, count in (snapshot.get_part("guests", dict) or {}).items():
        yield from GUEST_EVENTS_TOTAL.samples(count, hypervisor_hostname=hostname, event=event)


COLLECTOR = Collector(
    name="domains",
    metrics=(
        RUNNING_VMS,
        DOMAINS,
        DOMAIN_LIST_TIMESTAMP_SECONDS,
        UNREAD_GUESTS,
        OUTDATED_GUESTS,
        GUEST_EVENTS_TOTAL,
    ),
    collect=_collect,
    needs=frozenset({"guests"}),
)

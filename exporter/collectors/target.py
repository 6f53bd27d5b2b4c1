"""Target: whether a hypervisor can be reached, and its refreshes. Always on, even when it is down.

hypervisor_up{target="qemu:///system"} 1
hypervisor_refresh_errors_total{target="qemu:///system",reason="timeout"} 0
"""

from __future__ import annotations

from collections.abc import Iterator

from exporter.label import make_label_value
from exporter.metric import Metric, Sample
from exporter.model import HostView

UP = Metric(
    name="hypervisor_up",
    help="1 if the last refresh of the hypervisor succeeded in time, else 0.",
    labels=("target",),
    source="this exporter",
)
SNAPSHOT_TIMESTAMP_SECONDS = Metric(
    name="hypervisor_snapshot_timestamp_seconds",
    help="When the hypervisor's numbers were read, in seconds since the epoch.",
    labels=("hypervisor_hostname",),
    source="this exporter",
)
REFRESH_DURATION_SECONDS = Metric(
    name="hypervisor_refresh_duration_seconds",
    help="How long the last refresh took.",
    labels=("target",),
    source="this exporter",
)
REFRESH_ERRORS_TOTAL = Metric(
    name="hypervisor_refresh_errors_total",
    help="Problems in refreshes, by reason.",
    type="counter",
    labels=("target", "reason"),
    source="this exporter",
)
REFRESH_LIBVIRT_CALLS = Metric(
    name="hypervisor_refresh_libvirt_calls",
    help="Calls that the last refresh made to libvirt. The number does not grow with the number of guests.",
    unit="calls",
    labels=("target",),
    source="this exporter",
)
REFRESH_GUESTS_READ = Metric(
    name="hypervisor_refresh_guests_read",
    help="Guests whose XML the last refresh read: new, changed and outdated ones.",
    unit="guests",
    labels=("target",),
    source="virDomainGetXMLDesc",
)
REFRESHES_IN_FLIGHT = Metric(
    name="hypervisor_refreshes_in_flight",
    help="Refreshes under way, 0 or 1. If it stays 1, libvirt does not answer a call.",
    unit="refreshes",
    labels=("target",),
    source="this exporter",
)
HUNG_CALLS = Metric(
    name="hypervisor_hung_calls",
    help="Calls to libvirt or a file system that did not return in time. Each keeps a thread.",
    unit="calls",
    labels=("target",),
    source="this exporter",
)
CACHE_HITS_TOTAL = Metric(
    name="hypervisor_cache_hits_total",
    help="Scrapes answered from a snapshot younger than cache_ttl.",
    type="counter",
    unit="scrapes",
    labels=("target",),
    source="this exporter",
)
CONNECTS_TOTAL = Metric(
    name="hypervisor_connects_total",
    help="Connections opened to libvirt. Each after the first is a reconnection.",
    type="counter",
    unit="connections",
    labels=("target",),
    source="virConnectOpenAuth",
)
EVENTS_TOTAL = Metric(
    name="hypervisor_events_total",
    help="Domain events received from libvirt.",
    type="counter",
    unit="events",
    labels=("target",),
    source="virConnectDomainEventRegisterAny",
)
LIBVIRT_CALLS_TOTAL = Metric(
    name="hypervisor_libvirt_calls_total",
    help="Calls made to libvirt, in refreshes and between them.",
    type="counter",
    unit="calls",
    labels=("target",),
    source="this exporter",
)
GUESTS_READ_TOTAL = Metric(
    name="hypervisor_guests_read_total",
    help="Guests whose XML was read, in refreshes and between them.",
    type="counter",
    unit="guests",
    labels=("target",),
    source="virDomainGetXMLDesc",
)
NOVA_CONF_IGNORED_INFO = Metric(
    name="hypervisor_nova_conf_ignored_info",
    help="1 for each option, or file if option is empty, of nova-compute that does not count here: numbers"
    " may differ from Nova's.",
    type="info",
    labels=("target", "option", "file"),
    source="nova.conf",
)
METRICS = (
    UP,
    SNAPSHOT_TIMESTAMP_SECONDS,
    REFRESH_DURATION_SECONDS,
    REFRESH_LIBVIRT_CALLS,
    REFRESH_GUESTS_READ,
    REFRESHES_IN_FLIGHT,
    HUNG_CALLS,
    CACHE_HITS_TOTAL,
    CONNECTS_TOTAL,
    EVENTS_TOTAL,
    LIBVIRT_CALLS_TOTAL,
    GUESTS_READ_TOTAL,
    REFRESH_ERRORS_TOTAL,
    NOVA_CONF_IGNORED_INFO,
)


def collect(view: HostView) -> Iterator[Sample]:
    """Yield the samples of one target."""
    yield from UP.samples(float(view.is_up), target=view.target)
    if view.refresh is not None:
        cost = view.refresh
        yield from REFRESH_DURATION_SECONDS.samples(cost.duration_seconds, target=view.target)
        yield from REFRESH_LIBVIRT_CALLS.samples(cost.libvirt_calls, target=view.target)
        yield from REFRESH_GUESTS_READ.samples(cost.guests_read, target=view.target)
    yield from REFRESHES_IN_FLIGHT.samples(float(view.is_refreshing), target=view.target)
    yield from HUNG_CALLS.samples(view.hung_calls, target=view.target)
    yield from CACHE_HITS_TOTAL.samples(view.cache_hits, target=view.target)
    yield from CONNECTS_TOTAL.samples(view.driver.connects, target=view.target)
    yield from EVENTS_TOTAL.samples(view.driver.events, target=view.target)
    yield from LIBVIRT_CALLS_TOTAL.samples(view.driver.libvirt_calls, target=view.target)
    yield from GUESTS_READ_TOTAL.samples(view.driver.guests_read, target=view.target)
    for reason, count in view.errors.items():
        yield from REFRESH_ERRORS_TOTAL.samples(count, target=view.target, reason=reason)
    ignored = dict.fromkeys((each.option, make_label_value(each.file)) for each in view.ignored)
    for option, file in ignored:
        yield from NOVA_CONF_IGNORED_INFO.samples(1, target=view.target, option=option, file=file)
    if view.snapshot is not None:
        yield from SNAPSHOT_TIMESTAMP_SECONDS.samples(
            view.snapshot.timestamp_seconds,
            hypervisor_hostname=view.snapshot.resources.hypervisor_hostname,
        )

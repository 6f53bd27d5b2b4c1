"""Domains: how many there are, by state.

hypervisor_running_vms{hypervisor_hostname="kvm01"} 23
hypervisor_domains{hypervisor_hostname="kvm01",state="running"} 22
"""

from __future__ import annotations

from collections.abc import Iterator

from exporter.metric import Collector, Metric, Sample
from exporter.model import Snapshot

RUNNING_VMS = Metric(
    name="hypervisor_running_vms",
    help="Active domains: running, paused, and whatever lies between.",
    unit="domains",
    labels=("hypervisor_hostname",),
    source="virConnectGetAllDomainStats",
)
DOMAINS = Metric(
    name="hypervisor_domains",
    help="Domains, active or not, by libvirt's state.",
    unit="domains",
    labels=("hypervisor_hostname", "state"),
    source="virConnectGetAllDomainStats (state.state)",
)


def _collect(snapshot: Snapshot) -> Iterator[Sample]:
    resources = snapshot.resources
    hostname = resources.hypervisor_hostname
    yield from RUNNING_VMS.samples(resources.running_vms, hypervisor_hostname=hostname)
    for state, count in resources.domains_by_state.items():
        yield from DOMAINS.samples(count, hypervisor_hostname=hostname, state=state.name.lower())


COLLECTOR = Collector(name="domains", metrics=(RUNNING_VMS, DOMAINS), collect=_collect)

"""CPUs: how many CPUs guests may use, and how many vCPUs the guests have.

hypervisor_vcpus{hypervisor_hostname="kvm01"} 64
hypervisor_vcpus_used{hypervisor_hostname="kvm01"} 80
"""

from __future__ import annotations

from collections.abc import Iterator

from exporter.metric import Collector, Metric, Sample
from exporter.model import Snapshot

VCPUS = Metric(
    name="hypervisor_vcpus",
    help="CPUs that guests may share: all online CPUs, or the set in vcpu_pin_set or cpu_shared_set.",
    unit="CPUs",
    labels=("hypervisor_hostname",),
    source="virNodeGetCPUMap; Nova's LibvirtDriver._get_vcpu_available",
)
VCPUS_USED = Metric(
    name="hypervisor_vcpus_used",
    help="Current vCPUs of all active domains, paused ones too.",
    unit="vCPUs",
    labels=("hypervisor_hostname",),
    source="virDomainGetXMLDesc (vcpu/@current); Nova's LibvirtDriver._get_vcpu_used",
)


def _collect(snapshot: Snapshot) -> Iterator[Sample]:
    resources = snapshot.resources
    hostname = resources.hypervisor_hostname
    yield from VCPUS.samples(resources.vcpus, hypervisor_hostname=hostname)
    yield from VCPUS_USED.samples(resources.vcpus_used, hypervisor_hostname=hostname)


COLLECTOR = Collector(
    name="cpu",
    metrics=(VCPUS, VCPUS_USED),
    collect=_collect,
    needs=frozenset({"guests", "online CPUs"}),
)

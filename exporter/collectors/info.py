"""Info: what a hypervisor is, as labels.

hypervisor_info{hypervisor_hostname="kvm01",hypervisor_type="QEMU",hypervisor_version="7002015",…} 1
hypervisor_labels_info{hypervisor_hostname="kvm01",zone="a"} 1
"""

from __future__ import annotations

from collections.abc import Iterator

from exporter.metric import Collector, Metric, Sample
from exporter.model import CpuInfo, Snapshot

_CPU_LABELS = ("arch", "model", "vendor", "sockets", "cores", "threads")

INFO = Metric(
    name="hypervisor_info",
    help="Type, version, CPU and address of the hypervisor. Always 1. Version 7002015 means 7.2.15.",
    type="info",
    labels=(
        "hypervisor_hostname",
        "target",
        "hypervisor_type",
        "hypervisor_version",
        "libvirt_version",
        *_CPU_LABELS,
        "host_ip",
        "uuid",
    ),
    source="virConnectGetType, GetVersion, GetLibVersion, GetCapabilities; Nova's _get_cpu_info",
)
LABELS_INFO = Metric(
    name="hypervisor_labels_info",
    help="Labels that the configuration gives the hypervisor. Always 1. Absent if there are none.",
    type="info",
    labels=("hypervisor_hostname",),
    more_labels=True,
    source="hypervisors[].labels",
)


def _collect(snapshot: Snapshot) -> Iterator[Sample]:
    resources = snapshot.resources
    yield from INFO.samples(
        1,
        hypervisor_hostname=resources.hypervisor_hostname,
        target=snapshot.target,
        hypervisor_type=_text(resources.hypervisor_type),
        hypervisor_version=_text(resources.hypervisor_version),
        libvirt_version=_text(resources.libvirt_version),
        **_cpu_labels(resources.cpu_info),
        host_ip=_text(resources.host_ip),
        uuid=_text(resources.uuid),
    )
    if snapshot.labels:
        yield from LABELS_INFO.samples(
            1, hypervisor_hostname=resources.hypervisor_hostname, **dict(snapshot.labels)
        )


def _cpu_labels(cpu: CpuInfo | None) -> dict[str, str]:
    if cpu is None:
        return dict.fromkeys(_CPU_LABELS, "")
    return {
        "arch": _text(cpu.arch),
        "model": _text(cpu.model),
        "vendor": _text(cpu.vendor),
        "sockets": _text(cpu.sockets),
        "cores": _text(cpu.cores),
        "threads": _text(cpu.threads),
    }


def _text(value: int | str | None) -> str:
    return "" if value is None else str(value)


COLLECTOR = Collector(
    name="info",
    metrics=(INFO, LABELS_INFO),
    collect=_collect,
    needs=frozenset({"capabilities"}),
)

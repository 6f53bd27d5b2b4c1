"""Devices: PCI devices for guests, and mediated devices that can still be created.

hypervisor_pci_devices{hypervisor_hostname="kvm01",vendor_id="8086",product_id="154c",dev_type="type-VF"} 64
hypervisor_mdev_available_instances{hypervisor_hostname="kvm01",mdev_type="nvidia-35"} 12
hypervisor_unread_devices{hypervisor_hostname="kvm01"} 0
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from exporter.metric import Collector, Metric, Sample
from exporter.model import PciDevice, Snapshot
from exporter.placement.pci import find_free

PCI_DEVICES = Metric(
    name="hypervisor_pci_devices",
    help="PCI devices that device_spec allows for guests, in use or not.",
    unit="devices",
    labels=("hypervisor_hostname", "vendor_id", "product_id", "dev_type"),
    source="virNodeDeviceGetXMLDesc; Nova's LibvirtDriver._get_pci_passthrough_devices, [pci] device_spec",
)
PCI_DEVICES_CLAIMED = Metric(
    name="hypervisor_pci_devices_claimed",
    help="PCI devices that device_spec allows and that a guest has, running or not.",
    unit="devices",
    labels=("hypervisor_hostname", "vendor_id", "product_id", "dev_type"),
    source="virDomainGetXMLDesc (hostdev, interface)",
)
PCI_DEVICES_FREE = Metric(
    name="hypervisor_pci_devices_free",
    help="PCI devices that guests may still have. A card is not free while a guest has a part of it.",
    unit="devices",
    labels=("hypervisor_hostname", "vendor_id", "product_id", "dev_type"),
    source="as hypervisor_pci_devices_claimed; Nova's PciDeviceStats",
)
MDEV_AVAILABLE_INSTANCES = Metric(
    name="hypervisor_mdev_available_instances",
    help="Mediated devices of this type that can still be created. With enabled_mdev_types: as Nova does; "
    "else types of one card exclude each other.",
    unit="devices",
    labels=("hypervisor_hostname", "mdev_type"),
    source="virNodeDeviceGetXMLDesc (mdev_types); Nova's LibvirtDriver._get_gpu_inventories",
)
UNREAD_DEVICES = Metric(
    name="hypervisor_unread_devices",
    help="Node devices that could not be read, or not all of it. The metrics of devices lack them.",
    unit="devices",
    labels=("hypervisor_hostname",),
    source="virNodeDeviceGetXMLDesc",
)


def _count_kinds(devices: Iterable[PciDevice]) -> Counter[tuple[str, str, str]]:
    return Counter((each.vendor_id, each.product_id, each.dev_type) for each in devices)


def _collect(snapshot: Snapshot) -> Iterator[Sample]:
    resources = snapshot.resources
    hostname = resources.hypervisor_hostname
    devices, held = resources.pci_passthrough_devices or (), resources.held_pci_devices
    kinds = _count_kinds(devices)
    claimed = free = None
    if held is not None:
        claimed = _count_kinds(each for each in devices if each.address in held)
        may_be_claimed = find_free(devices, held)
        free = _count_kinds(each for each in devices if each.address in may_be_claimed)
    for kind, count in sorted(kinds.items()):
        labels = dict(zip(("vendor_id", "product_id", "dev_type"), kind, strict=True))
        yield from PCI_DEVICES.samples(count, hypervisor_hostname=hostname, **labels)
        if claimed is not None and free is not None:
            yield from PCI_DEVICES_CLAIMED.samples(claimed[kind], hypervisor_hostname=hostname, **labels)
            yield from PCI_DEVICES_FREE.samples(free[kind], hypervisor_hostname=hostname, **labels)
    yield from UNREAD_DEVICES.samples(resources.unread_devices, hypervisor_hostname=hostname)
    available: Counter[str] = Counter()
    for each in resources.mdev_types or ():
        available[each.name] += each.available_instances
    for mdev_type, count in sorted(available.items()):
        yield from MDEV_AVAILABLE_INSTANCES.samples(count, hypervisor_hostname=hostname, mdev_type=mdev_type)


COLLECTOR = Collector(
    name="devices",
    metrics=(
        PCI_DEVICES,
        PCI_DEVICES_CLAIMED,
        PCI_DEVICES_FREE,
        MDEV_AVAILABLE_INSTANCES,
        UNREAD_DEVICES,
    ),
    collect=_collect,
    needs=frozenset({"guests", "node devices"}),
)

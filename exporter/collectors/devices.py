"""Devices: PCI devices for guests, and mediated devices that can still be created.

hypervisor_pci_devices{hypervisor_hostname="kvm01",vendor_id="8086",product_id="154c",dev_type="type-VF"} 64
hypervisor_mdev_available_instances{hypervisor_hostname="kvm01",mdev_type="nvidia-35"} 12
hypervisor_unread_devices{hypervisor_hostname="kvm01"} 0
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from exporter.metric import Collector, Metric, Sample
from exporter.model import Snapshot

PCI_DEVICES = Metric(
    name="hypervisor_pci_devices",
    help="PCI devices that device_spec allows for guests, in use or not.",
    unit="devices",
    labels=("hypervisor_hostname", "vendor_id", "product_id", "dev_type"),
    source="virNodeDeviceGetXMLDesc; Nova's LibvirtDriver._get_pci_passthrough_devices, [pci] device_spec",
)
MDEV_AVAILABLE_INSTANCES = Metric(
    name="hypervisor_mdev_available_instances",
    help="Mediated devices of this type that can still be created. Types of one card exclude each other.",
    unit="devices",
    labels=("hypervisor_hostname", "mdev_type"),
    source="virNodeDeviceGetXMLDesc (mdev_types); Nova's LibvirtDriver._get_mdev_capable_devices",
)
UNREAD_DEVICES = Metric(
    name="hypervisor_unread_devices",
    help="Node devices that could not be read, or not all of it. The metrics of devices lack them.",
    unit="devices",
    labels=("hypervisor_hostname",),
    source="virNodeDeviceGetXMLDesc",
)


def _collect(snapshot: Snapshot) -> Iterator[Sample]:
    resources = snapshot.resources
    hostname = resources.hypervisor_hostname
    kinds = Counter(
        (device.vendor_id, device.product_id, device.dev_type)
        for device in resources.pci_passthrough_devices or ()
    )
    for (vendor_id, product_id, dev_type), count in sorted(kinds.items()):
        labels = {"vendor_id": vendor_id, "product_id": product_id, "dev_type": dev_type}
        yield from PCI_DEVICES.samples(count, hypervisor_hostname=hostname, **labels)
    yield from UNREAD_DEVICES.samples(resources.unread_devices, hypervisor_hostname=hostname)
    available: Counter[str] = Counter()
    for each in resources.mdev_types or ():
        available[each.name] += each.available_instances
    for mdev_type, count in sorted(available.items()):
        yield from MDEV_AVAILABLE_INSTANCES.samples(count, hypervisor_hostname=hostname, mdev_type=mdev_type)


COLLECTOR = Collector(
    name="devices",
    metrics=(PCI_DEVICES, MDEV_AVAILABLE_INSTANCES, UNREAD_DEVICES),
    collect=_collect,
    needs=frozenset({"node devices"}),
)

"""Storage: the file system or pools that hold the guests' images, and how much the images can still grow.

hypervisor_local_gb{hypervisor_hostname="kvm01"} 1750
hypervisor_disk_available_least{hypervisor_hostname="kvm01"} -12
hypervisor_storage_info{hypervisor_hostname="kvm01",storage="host:kvm01",kind="file system",…} 1
"""

from __future__ import annotations

from collections.abc import Iterator

from exporter.metric import Collector, Metric, Sample
from exporter.model import Snapshot, StorageIdentity

LOCAL_GB = Metric(
    name="hypervisor_local_gb",
    help="Size of the storage for images in GiB, rounded down.",
    labels=("hypervisor_hostname",),
    unit="GiB",
    source="statvfs, virStoragePoolGetInfo, vgs or ceph df; Nova's LibvirtDriver._get_local_gb_info",
)
LOCAL_GB_USED = Metric(
    name="hypervisor_local_gb_used",
    help="Used storage for images in GiB, rounded down.",
    labels=("hypervisor_hostname",),
    unit="GiB",
    source="statvfs, virStoragePoolGetInfo, vgs or ceph df; Nova's LibvirtDriver._get_local_gb_info",
)
DISK_AVAILABLE_LEAST = Metric(
    name="hypervisor_disk_available_least",
    help="Storage in GiB, rounded down, that is left if all images grow to full size. May be negative.",
    labels=("hypervisor_hostname",),
    unit="GiB",
    source="Nova's LibvirtDriver._get_disk_over_committed_size_total",
)
SIZE_BYTES = Metric(
    name="hypervisor_storage_size_bytes",
    help="Size of the storage for images.",
    labels=("hypervisor_hostname",),
    source="statvfs: f_frsize * f_blocks, a pool's capacity, vg_size, or Ceph's total_bytes",
)
USED_BYTES = Metric(
    name="hypervisor_storage_used_bytes",
    help="Used storage for images.",
    labels=("hypervisor_hostname",),
    source="statvfs: f_frsize * (f_blocks - f_bfree), a pool's allocation, vg_size - vg_free, or bytes_used",
)
FREE_BYTES = Metric(
    name="hypervisor_storage_free_bytes",
    help="Free storage for images, without the blocks reserved for root.",
    labels=("hypervisor_hostname",),
    source="statvfs: f_frsize * f_bavail, a pool's available, vg_free, or max_avail",
)
OVERCOMMITTED_BYTES = Metric(
    name="hypervisor_storage_overcommitted_bytes",
    help="How much all images can still grow. Images of shut-off domains count too.",
    labels=("hypervisor_hostname",),
    source="stat and header of each image; Nova's LibvirtDriver._get_disk_over_committed_size_total",
)
STORAGE_INFO = Metric(
    name="hypervisor_storage_info",
    help="Which storage the numbers are of. Always 1. The label storage is equal on all hypervisors that"
    " share it, and otherwise unique to the hypervisor.",
    type="info",
    labels=("hypervisor_hostname", "storage", "kind", "source"),
    source="mountinfo, virStoragePoolGetXMLDesc, vgs or ceph fsid; or storage_id of the configuration",
)
IS_RAW = Metric(
    name="hypervisor_storage_is_raw",
    help="Whether the free bytes are those of a Ceph cluster before replication (1): less can be written. As"
    " libvirt's storage pool tells them, where ceph df cannot be asked and images_rbd_replicas is not set.",
    labels=("hypervisor_hostname",),
    source="virStoragePoolGetInfo of a pool of type rbd",
)
UNSIZED_DISKS = Metric(
    name="hypervisor_unsized_disks",
    help="Images whose size could not be read. They are missing in the over-commit.",
    unit="images",
    labels=("hypervisor_hostname",),
    source="stat and header of each image",
)


def _collect(snapshot: Snapshot) -> Iterator[Sample]:
    resources, storage = snapshot.resources, snapshot.resources.storage
    hostname = resources.hypervisor_hostname
    yield from LOCAL_GB.samples(resources.local_gb, hypervisor_hostname=hostname)
    yield from LOCAL_GB_USED.samples(resources.local_gb_used, hypervisor_hostname=hostname)
    yield from DISK_AVAILABLE_LEAST.samples(resources.disk_available_least, hypervisor_hostname=hostname)
    if storage is not None:
        yield from SIZE_BYTES.samples(storage.size_bytes, hypervisor_hostname=hostname)
        yield from USED_BYTES.samples(storage.used_bytes, hypervisor_hostname=hostname)
        yield from FREE_BYTES.samples(storage.free_bytes, hypervisor_hostname=hostname)
        yield from IS_RAW.samples(storage.is_raw, hypervisor_hostname=hostname)
    yield from _collect_info(hostname, resources.storage_identity)
    yield from OVERCOMMITTED_BYTES.samples(
        resources.storage_overcommitted_bytes, hypervisor_hostname=hostname
    )
    yield from UNSIZED_DISKS.samples(resources.unsized_disks, hypervisor_hostname=hostname)


def _collect_info(hostname: str, identity: StorageIdentity | None) -> Iterator[Sample]:
    if identity is not None:
        yield from STORAGE_INFO.samples(
            1,
            hypervisor_hostname=hostname,
            storage=identity.id,
            kind=identity.kind,
            source=identity.source,
        )


COLLECTOR = Collector(
    name="storage",
    metrics=(
        LOCAL_GB,
        LOCAL_GB_USED,
        DISK_AVAILABLE_LEAST,
        SIZE_BYTES,
        USED_BYTES,
        FREE_BYTES,
        STORAGE_INFO,
        IS_RAW,
        OVERCOMMITTED_BYTES,
        UNSIZED_DISKS,
    ),
    collect=_collect,
    needs=frozenset({"images", "storage"}),
)

"""Builders of the exporter's records. Each record is complete; a test passes only the values it is about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from exporter.model import (
    Capabilities,
    CpuInfo,
    Disk,
    DomainRecord,
    DomainsReading,
    DomainState,
    DriverStats,
    FlavorSlots,
    Guest,
    HostIdentity,
    HostNumaCell,
    HostView,
    ImageSize,
    Inventory,
    MdevType,
    MemoryPages,
    NodeInfo,
    NodeMemory,
    NovaInstance,
    NumaCell,
    PageSize,
    PciDevice,
    Reading,
    RefreshCost,
    ResourceClass,
    Resources,
    Snapshot,
    Storage,
    StorageIdentity,
    StoragePool,
    UnsizedImage,
)
from exporter.virt.guests.guest_xml import is_image

KIB = 2**10
MIB = 2**20
GIB = 2**30


def make_uuid(number: int) -> str:
    """Return the UUID of the guest with that number."""
    return f"00000000-0000-4000-8000-{number:012x}"


def make_disk(**changes: Any) -> Disk:
    """Return a qcow2 image in a file."""
    disk = Disk(
        target="vda",
        source_type="file",
        path="/images/disk",
        driver_format="qcow2",
        serial=None,
        device="disk",
    )
    return replace(disk, **changes)


def make_guest(number: int = 1, **changes: Any) -> Guest:
    """Return a guest without disks; its images follow from the disks that it is given."""
    guest = replace(
        Guest(
            uuid=make_uuid(number),
            name=f"guest{number}",
            vcpus=2,
            maximum_vcpus=2,
            memory_kib=512 * KIB,
            maximum_memory_kib=512 * KIB,
            disks=(),
            images=(),
            has_nova_metadata=False,
            nova_flavor=None,
            metadata_error=None,
            is_volume_backed=False,
            numa_cells=(),
            emulator_pins=frozenset(),
            vcpu_pins={},
        ),
        **changes,
    )
    if "images" in changes:
        return guest
    from_nova = guest.has_nova_metadata
    return replace(
        guest, images=tuple(disk for disk in guest.disks if is_image(disk, has_nova_metadata=from_nova))
    )


def make_domain(number: int = 1, state: DomainState = DomainState.RUNNING, **changes: Any) -> DomainRecord:
    """Return the listed domain of the guest with that number: shut off, or else active."""
    domain = DomainRecord(
        uuid=make_uuid(number),
        name=f"guest{number}",
        id=-1 if state is DomainState.SHUTOFF else number,
        state=state,
    )
    return domain._replace(**changes)


def make_identity(**changes: Any) -> HostIdentity:
    """Return what a QEMU host says of itself."""
    identity = HostIdentity(
        hostname="kvm01.example",
        hypervisor_type="QEMU",
        hypervisor_version=7002015,
        libvirt_version=9000000,
        host_ip="192.0.2.7",
    )
    return replace(identity, **changes)


def make_cpu_info(**changes: Any) -> CpuInfo:
    """Return a CPU with all values that libvirt can give."""
    cpu_info = CpuInfo(
        arch="x86_64",
        model="Skylake-Server-IBRS",
        vendor="Intel",
        sockets=1,
        cores=18,
        threads=2,
    )
    return replace(cpu_info, **changes)


def make_cell(**changes: Any) -> NumaCell:
    """Return a NUMA cell of two CPUs."""
    cell = NumaCell(
        id=0,
        memory_kib=8 * GIB // KIB,
        pages=(PageSize(size_kib=4, total=2 * MIB),),
        cpus=frozenset({0, 1}),
    )
    return replace(cell, **changes)


def make_node(cells: Iterable[NumaCell]) -> NodeInfo:
    """Return virNodeGetInfo's result for a host with exactly these cells."""
    cells = tuple(cells)
    return NodeInfo(
        online_cpus=sum(len(cell.cpus) for cell in cells),
        memory_mib=sum(cell.memory_kib for cell in cells) // KIB,
    )


def make_host_cell(**changes: Any) -> HostNumaCell:
    """Return a NUMA cell as Nova describes it, with huge pages and a CPU to which a guest is pinned."""
    cell = HostNumaCell(
        id=1,
        cpus=frozenset({0, 1, 2, 3}),
        cpuset=frozenset({0}),
        pcpuset=frozenset({1, 2, 3}),
        memory_kib=8 * GIB // KIB,
        memory_free_bytes=2 * GIB,
        mempages=(
            MemoryPages(size_kib=4, total=MIB, free=MIB // 2),
            MemoryPages(size_kib=2048, total=2048, free=512),
        ),
        pinned_cpus=frozenset({2, 3}),
    )
    return replace(cell, **changes)


def make_pci_device(**changes: Any) -> PciDevice:
    """Return a virtual function of a network card."""
    device = PciDevice(
        address="0000:02:02.0",
        vendor_id="8086",
        product_id="154c",
        dev_type="type-VF",
        parent_address="0000:02:00.0",
        has_serial_number=False,
    )
    return replace(device, **changes)


def make_nova_instance(**changes: Any) -> NovaInstance:
    """Return who one of Nova's guests is."""
    instance = NovaInstance(
        instance_name="web1",
        project_id="7d1b3f5a9c8e4d2b6f0a1c3e5d7b9f8a",
        project_name="shop",
        user_id="0a6f1c3e5b8d4f7a9c2e4b6d8f0a1c3e",
        user_name="alice",
    )
    return replace(instance, **changes)


def make_capabilities(**changes: Any) -> Capabilities:
    """Return the capabilities of a host with one NUMA cell."""
    capabilities = Capabilities(
        uuid="4c4c4544-0042-4810-8051-b4c04f4d3132",
        cpu_info=make_cpu_info(),
        cells=(make_cell(),),
    )
    return replace(capabilities, **changes)


def make_storage(**changes: Any) -> Storage:
    """Return a file system of 100 GiB, half of it used, and a bit of the rest kept for root."""
    storage = Storage(size_bytes=100 * GIB, used_bytes=50 * GIB, free_bytes=45 * GIB)
    return replace(storage, **changes)


def make_storage_identity(**changes: Any) -> StorageIdentity:
    """Return the identity of an NFS export."""
    identity = StorageIdentity(id="nfs:nfs01:/export/nova", kind="nfs", source="nfs01:/export/nova")
    return replace(identity, **changes)


def make_pool(name: str = "vms", **changes: Any) -> StoragePool:
    """Return an active storage pool; an over-provisioned one, so that its three numbers do not add up."""
    pool = StoragePool(
        name=name, capacity_bytes=100 * GIB, allocation_bytes=70 * GIB, available_bytes=20 * GIB
    )
    return replace(pool, **changes)


def make_reading(
    *,
    guests: Sequence[Guest] = (),
    sizes: Sequence[Sequence[ImageSize | UnsizedImage]] | None = None,
    domains: Sequence[DomainRecord] | None = None,
    **changes: Any,
) -> Reading:
    """Return what was read of a hypervisor with these guests, which run unless `domains` says otherwise.

    :param sizes: for each guest, the sizes of its images; by default, nothing is known of any
    """
    reading = Reading(
        identity=make_identity(),
        capabilities=make_capabilities(),
        node=NodeInfo(online_cpus=8, memory_mib=16 * KIB),
        node_memory=NodeMemory(
            total_kib=16 * GIB // KIB, free_kib=6 * MIB, buffers_kib=1 * MIB, cached_kib=3 * MIB
        ),
        online_cpus=None,
        free_numa_memory={},
        node_devices=None,
        storage=make_storage(),
        storage_identity=make_storage_identity(),
        domains=make_domains_reading(guests, sizes=sizes, domains=domains),
    )
    return replace(reading, **changes)


def make_domains_reading(
    guests: Sequence[Guest] = (),
    *,
    sizes: Sequence[Sequence[ImageSize | UnsizedImage]] | None = None,
    domains: Sequence[DomainRecord] | None = None,
) -> DomainsReading:
    """Return the part of `make_reading` that depends on guests."""
    if sizes is None:
        sizes = [[UnsizedImage(None)] * len(guest.images) for guest in guests]
    if domains is None:
        domains = tuple(
            DomainRecord(uuid=guest.uuid, name=guest.name, id=number, state=DomainState.RUNNING)
            for number, guest in enumerate(guests, start=1)
        )
    return DomainsReading(
        domains=tuple(domains),
        guests={guest.uuid: guest for guest in guests},
        images={guest.uuid: each for guest, each in zip(guests, sizes, strict=True)},
    )


def make_inventory(
    resource_class: ResourceClass = ResourceClass.VCPU, total: int | None = 72, **changes: Any
) -> Inventory:
    """Return what is offered of a resource class, none of it reserved and none claimed."""
    inventory = Inventory(
        resource_class=resource_class, total=total, reserved=0, allocation_ratio=1.0, claimed=0
    )
    return replace(inventory, **changes)


def make_resources(**changes: Any) -> Resources:
    """Return the resources of a hypervisor. All numbers are different."""
    counts = dict(zip(DomainState, (51, 52, 53, 54, 55, 56, 57, 58), strict=True))
    resources = Resources(
        vcpus=11,
        vcpus_used=12,
        memory_mb=21,
        memory_mb_used=22,
        local_gb=31,
        local_gb_used=32,
        disk_available_least=-33,
        hypervisor_type="QEMU",
        hypervisor_version=7002015,
        hypervisor_hostname="kvm01.example",
        cpu_info=make_cpu_info(),
        numa_topology=(make_host_cell(),),
        pci_passthrough_devices=(make_pci_device(),),
        host_ip="192.0.2.7",
        uuid="4c4c4544-0042-4810-8051-b4c04f4d3132",
        libvirt_version=9000000,
        memory_size_bytes=23,
        memory_available_bytes=24,
        storage=Storage(size_bytes=34, used_bytes=35, free_bytes=36),
        storage_identity=make_storage_identity(),
        storage_overcommitted_bytes=37,
        unsized_disks=38,
        domains_by_state=counts,
        running_vms=41,
        domains_age_seconds=43.0,
        unread_guests=44,
        outdated_guests=45,
        inventories=(make_inventory(),),
        flavor_slots=(
            FlavorSlots(
                flavor="m1.large",
                slots=71,
                limited_by=frozenset({ResourceClass.MEMORY_MB}),
                request={ResourceClass.MEMORY_MB: 72},
            ),
        ),
        mdev_types=(MdevType(name="nvidia-35", available_instances=42),),
        unread_devices=46,
        held_pci_devices=frozenset(),
        domains=make_domains_reading((make_guest(vcpus=81, nova_instance=make_nova_instance()),)),
        guest_claims={make_uuid(1): {ResourceClass.VCPU: 82}},
    )
    return replace(resources, **changes)


def make_snapshot(*, target: str = "kvm01", timestamp_seconds: float = 1.75e9, **changes: Any) -> Snapshot:
    """Return a snapshot of a target, with these changes to its resources."""
    return Snapshot(
        target=target,
        resources=make_resources(**changes),
        timestamp_seconds=timestamp_seconds,
        labels=(("aggregate", "fast"), ("zone", "a")),
    )


def make_view(**changes: Any) -> HostView:
    """Return the view of a target that is up. All numbers are different."""
    view = HostView(
        target="kvm01",
        is_up=True,
        snapshot=make_snapshot(),
        refresh=RefreshCost(duration_seconds=0.25, libvirt_calls=61, guests_read=62),
        is_refreshing=False,
        errors={"timeout": 63, "connect": 64},
        cache_hits=65,
        driver=DriverStats(libvirt_calls=66, guests_read=67, events=68, connects=69),
        problems=(),
        age_seconds=71.0,
        seconds_since_success=72.0,
    )
    return replace(view, **changes)

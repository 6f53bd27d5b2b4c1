"""Fleets to look at: what each of some simulated hypervisors answers."""

from __future__ import annotations

from exporter.errors import ConnectError, HypervisorError
from exporter.model import (
    DomainState,
    FlavorSlots,
    Problem,
    ResourceClass,
    Resources,
    Severity,
    Storage,
)
from tests.support.records import GIB, make_inventory, make_resources, make_storage_identity
from tests.support.simulated_guests import add_guests

NFS = "nfs:nfs01.example.net:/export/nova"
KVM05 = "qemu+tls://kvm05.example.net/system"


def make_hypervisor(
    hostname: str,
    *,
    vcpus_used: int = 40,
    memory_used_gib: int = 300,
    disk_used_gib: int = 2100,
    growth_gib: int = 500,
    running: int = 21,
    disk_claimed_gib: int | None = None,
    storage_id: str | None = None,
    problems: tuple[Problem, ...] = (),
) -> Resources:
    """Return a host of 64 CPUs, 512 GiB of memory and 4000 GiB of disk, so much of which is used.

    :param disk_claimed_gib: otherwise what is used and what images can grow by
    :param storage_id: of storage that it shares; otherwise it has its own
    """
    if disk_claimed_gib is None:
        disk_claimed_gib = min(4000, disk_used_gib + growth_gib)
    return make_resources(
        hypervisor_hostname=hostname,
        vcpus=64,
        vcpus_used=vcpus_used,
        memory_mb=512 * 1024,
        memory_mb_used=memory_used_gib * 1024,
        local_gb=4000,
        local_gb_used=disk_used_gib,
        storage=Storage(
            size_bytes=4000 * GIB, used_bytes=disk_used_gib * GIB, free_bytes=(3980 - disk_used_gib) * GIB
        ),
        storage_identity=make_storage_identity(id=storage_id or f"host:{hostname}"),
        storage_overcommitted_bytes=growth_gib * GIB,
        unsized_disks=0,
        domains_by_state={
            **dict.fromkeys(DomainState, 0),
            DomainState.RUNNING: running,
            DomainState.SHUTOFF: 3,
        },
        running_vms=running,
        domains_age_seconds=0.0,
        unread_guests=0,
        outdated_guests=0,
        inventories=(
            make_inventory(ResourceClass.VCPU, 64, allocation_ratio=4.0, claimed=vcpus_used + 6),
            make_inventory(ResourceClass.MEMORY_MB, 512 * 1024, reserved=8192, claimed=memory_used_gib * 900),
            make_inventory(ResourceClass.DISK_GB, 4000, claimed=disk_claimed_gib),
        ),
        flavor_slots=tuple(
            FlavorSlots(
                flavor=flavor,
                slots=(512 - memory_used_gib) // gib,
                limited_by=frozenset({ResourceClass.MEMORY_MB}),
                request={ResourceClass.MEMORY_MB: gib * 1024},
            )
            for flavor, gib in (("m1.small", 4), ("m1.large", 16), ("r1.huge", 400))
        ),
        problems=problems,
    )


def mixed_fleet() -> dict[str, Resources | HypervisorError]:
    """Return six hypervisors: roomy and full ones, two on one storage, one down, one with a missing image.

    The guests of kvm01 are all there.
    """
    image = Problem(
        severity=Severity.NOTE,
        reason="image",
        subject="instance-0000a31f",
        message="domain instance-0000a31f: left out of the over-commit:"
        " /var/lib/nova/instances/6f0c/disk: No such file or directory",
    )
    return {
        "kvm01": add_guests(make_hypervisor("kvm01.example.net"), 24),
        "kvm02": make_hypervisor(
            "kvm02.example.net", vcpus_used=88, memory_used_gib=402, disk_used_gib=3300, growth_gib=900
        ),
        "kvm03": make_hypervisor(
            "kvm03.example.net",
            vcpus_used=12,
            memory_used_gib=96,
            disk_used_gib=800,
            growth_gib=100,
            running=6,
        ),
        "kvm04": make_hypervisor(
            "kvm04.example.net",
            vcpus_used=30,
            memory_used_gib=480,
            disk_used_gib=3400,
            growth_gib=400,
            disk_claimed_gib=1500,
            storage_id=NFS,
            problems=(image,),
        ),
        KVM05: ConnectError("unable to connect to server at 'kvm05.example.net:16514': Connection refused"),
        "kvm06": make_hypervisor(
            "kvm06.example.net",
            vcpus_used=20,
            memory_used_gib=220,
            disk_used_gib=3400,
            growth_gib=300,
            running=9,
            disk_claimed_gib=1900,
            storage_id=NFS,
        ),
    }


def many_hypervisors(count: int) -> dict[str, Resources | HypervisorError]:
    """Return so many, each used otherwise than the next."""
    return {
        f"kvm{number:04}": make_hypervisor(
            f"kvm{number:04}.rack{number % 20:02}.example.net",
            vcpus_used=number * 3 % 200,
            memory_used_gib=number * 7 % 512,
            disk_used_gib=number * 13 % 3900,
            growth_gib=number % 600,
            running=number % 40,
            storage_id=None if number % 3 else "rbd:9e2b1c1e-6f0a-4c2c-8a53-8a2f1a7b4a11:vms",
        )
        for number in range(count)
    }

"""Claims: what each guest takes of its hypervisor in the scheduler's books, whether it runs or not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from exporter.model import (
    Guest,
    ImageSize,
    NovaFlavor,
    Problem,
    Reading,
    ResourceClass,
    Severity,
    UnsizedImage,
)

GIB = 2**30
MIB_PER_GIB = 1024
KIB_PER_MIB = 1024

Claim = Mapping[ResourceClass, int]


def get_claims(reading: Reading, *, dedicated_cpus: Collection[int]) -> Claim:
    """Return the sum of all guests' claims, of shut-off ones too; a guest that could not be read adds none.

    :param dedicated_cpus: the CPUs of cpu_dedicated_set
    """
    total: Counter[ResourceClass] = Counter()
    for uuid, guest in reading.guests.items():
        if guest is not None:
            total.update(claim_of(guest, reading.images[uuid], dedicated_cpus=dedicated_cpus))
    return total


def list_metadata_problems(reading: Reading) -> list[Problem]:
    """Return a problem for each guest whose claim is not that of its flavor, because nobody can read it."""
    return [
        Problem(
            severity=Severity.ERROR,
            reason="metadata",
            subject=guest.name,
            message=f"domain {guest.name}: its claim is that of its libvirt configuration,"
            f" since Nova's metadata are broken: {guest.metadata_error}",
        )
        for guest in reading.guests.values()
        if guest is not None and guest.metadata_error is not None
    ]


def claim_of(
    guest: Guest, images: Sequence[ImageSize | UnsizedImage], *, dedicated_cpus: Collection[int]
) -> Claim:
    """Return what one guest claims: what its flavor says (nova.scheduler.utils.resources_from_flavor).

    A guest without a flavor claims what its libvirt configuration allows it to grow to.

    :param images: the sizes of `guest.images`, in the same order
    """
    flavor = guest.nova_flavor
    vcpus = guest.maximum_vcpus if flavor is None else flavor.vcpus
    pinned = min(vcpus, count_pinned_vcpus(guest, dedicated_cpus))
    return {
        ResourceClass.VCPU: vcpus - pinned,
        ResourceClass.PCPU: pinned + _isolated_emulator_cpus(guest, dedicated_cpus),
        ResourceClass.MEMORY_MB: _mib(guest.maximum_memory_kib) if flavor is None else flavor.memory_mb,
        ResourceClass.DISK_GB: _configured_disk_gb(guest, images)
        if flavor is None
        else flavor_disk_gb(flavor, is_volume_backed=guest.is_volume_backed),
    }


def count_pinned_vcpus(guest: Guest, dedicated_cpus: Collection[int]) -> int:
    """Return how many of the guest's vCPUs have a CPU of cpu_dedicated_set to themselves."""
    return sum(len(cpus) == 1 and cpus <= set(dedicated_cpus) for cpus in guest.vcpu_pins.values())


def flavor_disk_gb(flavor: NovaFlavor, *, is_volume_backed: bool = False) -> int:
    """Return the GiB that Nova asks for: ephemeral disk, swap rounded up, and root unless it is a volume."""
    root_gb = 0 if is_volume_backed else flavor.root_gb
    return root_gb + flavor.ephemeral_gb + convert_mb_to_ceil_gb(flavor.swap_mb)


def convert_mb_to_ceil_gb(mib: int) -> int:
    """Return GiB, rounded up (Nova's function of that name)."""
    return -(-mib // MIB_PER_GIB)


def _isolated_emulator_cpus(guest: Guest, dedicated_cpus: Collection[int]) -> int:
    """Return 1 for hw:emulator_threads_policy=isolate: QEMU's threads have a dedicated CPU, no vCPU's."""
    pins = guest.emulator_pins
    with_vcpus = frozenset().union(*guest.vcpu_pins.values())
    return int(len(pins) == 1 and pins <= set(dedicated_cpus) and not pins & with_vcpus)


def _mib(kib: int) -> int:
    return -(-kib // KIB_PER_MIB)


def _configured_disk_gb(guest: Guest, images: Sequence[ImageSize | UnsizedImage]) -> int:
    """Return the GiB of the guest's hard disks at their full size; an image of unknown size adds none."""
    virtual_bytes = sum(
        size.virtual_bytes
        for disk, size in zip(guest.images, images, strict=True)
        if isinstance(size, ImageSize) and disk.device not in ("cdrom", "floppy")
    )
    return -(-virtual_bytes // GIB)

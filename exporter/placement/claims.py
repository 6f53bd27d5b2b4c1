"""Claims: what the scheduler counts for each guest on its hypervisor, running or not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain

from exporter.model import (
    Guest,
    ImageSize,
    NovaFlavor,
    Problem,
    ResourceClass,
    Severity,
    UnsizedImage,
)

GIB = 2**30
MIB_PER_GIB = 1024
KIB_PER_MIB = 1024

Claim = Mapping[ResourceClass, int]


def sum_claims(claims: Sequence[Claim]) -> Claim:
    """Return the sum of the claims."""
    return {each: sum([claim.get(each, 0) for claim in claims]) for each in ResourceClass}


def describe_broken_metadata(guest: Guest) -> Problem | None:
    """Return a problem if the guest's flavor, or a part of it, cannot be read."""
    if guest.metadata_error is None:
        return None
    if guest.nova_flavor is None:
        effect = "its claim is taken from its libvirt configuration, because Nova's metadata cannot be read"
    else:
        effect = "left out of its claim, as in Nova"
    return Problem(
        severity=Severity.ERROR,
        reason="metadata",
        subject=guest.name,
        message=f"domain {guest.name}: {effect}: {guest.metadata_error}",
    )


def claim_of(
    guest: Guest, images: Sequence[ImageSize | UnsizedImage], *, dedicated_cpus: frozenset[int]
) -> Claim:
    """Return what one guest claims by its flavor (nova.scheduler.utils.resources_from_flavor).

    A guest without a flavor claims the maximum that its libvirt configuration allows.

    :param images: the sizes of `guest.images`, in the same order
    """
    if guest.nova_flavor is not None:
        return claim_of_flavor(
            guest.nova_flavor, guest, is_volume_backed=guest.is_volume_backed, dedicated_cpus=dedicated_cpus
        )
    return {
        **_claim_cpus(guest.maximum_vcpus, guest, dedicated_cpus),
        ResourceClass.MEMORY_MB: -(-guest.maximum_memory_kib // KIB_PER_MIB),
        ResourceClass.DISK_GB: _configured_disk_gb(guest, images),
    }


def claim_of_flavor(
    flavor: NovaFlavor, guest: Guest, *, is_volume_backed: bool, dedicated_cpus: frozenset[int]
) -> Claim:
    """Return what a flavor claims for a guest with the same pinning as this one, which was made from it.

    The flavor's extra specs come first (`ResourceRequest.from_request_spec`).

    :param is_volume_backed: whether the root disk is a volume (Nova's is_bfv)
    """
    root_gb = 0 if is_volume_backed else flavor.root_gb
    claim = {
        ResourceClass.MEMORY_MB: flavor.memory_mb,
        ResourceClass.DISK_GB: root_gb + flavor.ephemeral_gb + convert_mb_to_ceil_gb(flavor.swap_mb),
        **flavor.resources,
    }
    if ResourceClass.VCPU in claim or ResourceClass.PCPU in claim:
        return claim
    return {**_claim_cpus(flavor.vcpus, guest, dedicated_cpus), **claim}


def convert_mb_to_ceil_gb(mib: int) -> int:
    """Return GiB, rounded up (Nova's function of that name)."""
    return -(-mib // MIB_PER_GIB)


def find_isolated_emulator_cpus(guest: Guest, dedicated_cpus: frozenset[int]) -> frozenset[int]:
    """Return the dedicated CPU that is reserved for QEMU's own threads (hw:emulator_threads_policy)."""
    pins = guest.emulator_pins
    is_isolated = len(pins) == 1 and pins <= dedicated_cpus
    return pins if is_isolated and not any(pins & cpus for cpus in guest.vcpu_pins.values()) else frozenset()


def find_pinned_vcpus(guest: Guest, dedicated_cpus: frozenset[int]) -> frozenset[int]:
    """Return the guest's vCPUs that have a CPU of the host to themselves (hw:cpu_policy).

    Without cpu_dedicated_set, that may be any CPU. But vCPUs that share the only CPU of a set are not pinned.
    """
    users = Counter(chain.from_iterable(guest.vcpu_pins.values()))
    return frozenset(
        vcpu
        for vcpu, cpus in guest.vcpu_pins.items()
        if len(cpus) == 1 and (cpus <= dedicated_cpus if dedicated_cpus else users[min(cpus)] == 1)
    )


def _claim_cpus(vcpus: int, guest: Guest, dedicated_cpus: frozenset[int]) -> dict[ResourceClass, int]:
    """Divide the vCPUs: those pinned to one CPU of cpu_dedicated_set are PCPUs."""
    pinned = sum(len(cpus) == 1 and cpus <= dedicated_cpus for cpus in guest.vcpu_pins.values())
    pinned = min(vcpus, pinned)
    emulator = len(find_isolated_emulator_cpus(guest, dedicated_cpus)) if pinned else 0
    return {ResourceClass.VCPU: vcpus - pinned, ResourceClass.PCPU: pinned + emulator}


def _configured_disk_gb(guest: Guest, images: Sequence[ImageSize | UnsizedImage]) -> int:
    """Return the GiB of the guest's hard disks at their full size; an image of unknown size adds none."""
    virtual_bytes = sum(
        size.virtual_bytes
        for disk, size in zip(guest.images, images, strict=True)
        if isinstance(size, ImageSize) and disk.device not in ("cdrom", "floppy")
    )
    return -(-virtual_bytes // GIB)

"""What one guest adds to its hypervisor's numbers.

Few guests change from one scrape to the next. So a guest's contribution is computed when the guest is new or
changed, and kept. A scrape only adds up the contributions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from exporter.model import (
    DeviceClass,
    DomainsReading,
    Flavor,
    Guest,
    GuestDevices,
    ImageSize,
    Problem,
    Severity,
    UnsizedImage,
)
from exporter.placement.cells import CellClaim, claims_in_cells
from exporter.placement.claims import (
    Claim,
    claim_of,
    describe_broken_metadata,
    find_isolated_emulator_cpus,
)
from exporter.placement.flavors import flavor_of
from exporter.virt.guests.disks import overcommitted_bytes

Images = Sequence[ImageSize | UnsizedImage]


@dataclass(frozen=True, kw_only=True, slots=True)
class Contribution:
    """What one guest adds, running or not. It depends on its XML, its images' sizes and the settings."""

    uuid: str
    claim: Claim
    flavor: Flavor | None  # its flavor, which may be learnt
    cell_claims: tuple[CellClaim, ...]
    devices: GuestDevices
    requested_devices: tuple[tuple[DeviceClass, int], ...]  # by its flavor
    is_placement_known: bool  # whether its cells and pins are known
    pinned_cpus: frozenset[int]  # CPUs that its vCPUs are pinned to
    isolated_cpus: frozenset[int]  # CPUs that are reserved for QEMU's own threads
    growth_bytes: int  # how much its images can still grow; 0 if one has no known size, as in Nova
    unsized_disks: int
    image_problem: Problem | None
    metadata_problem: Problem | None


def contribution_of(guest: Guest, images: Images, *, dedicated_cpus: frozenset[int]) -> Contribution:
    """Return what a guest adds.

    :param images: the sizes of `guest.images`, in the same order
    :param dedicated_cpus: the CPUs of cpu_dedicated_set
    """
    unsized = [size for size in images if isinstance(size, UnsizedImage)]
    sizes = zip(guest.images, images, strict=True)
    return Contribution(
        uuid=guest.uuid,
        claim=claim_of(guest, images, dedicated_cpus=dedicated_cpus),
        flavor=flavor_of(guest, dedicated_cpus),
        cell_claims=claims_in_cells(guest, dedicated_cpus),
        devices=guest.devices,
        requested_devices=() if guest.nova_flavor is None else guest.nova_flavor.devices,
        # A guest that is frozen since the start. Without cpu_dedicated_set it counts as one without pins.
        is_placement_known=guest.is_placement_known or not (guest.is_read or dedicated_cpus),
        pinned_cpus=frozenset().union(*(cpus for cpus in guest.vcpu_pins.values() if len(cpus) == 1)),
        isolated_cpus=find_isolated_emulator_cpus(guest, dedicated_cpus),
        growth_bytes=0
        if unsized
        else sum(overcommitted_bytes(disk, size) for disk, size in sizes if isinstance(size, ImageSize)),
        unsized_disks=len(unsized),
        image_problem=_describe_unsized(guest, unsized),
        metadata_problem=describe_broken_metadata(guest),
    )


class _Known(NamedTuple):
    guest: Guest
    images: Images
    contribution: Contribution


class Contributions:
    """A cache of contributions. Each is kept while the guest's record and its images' sizes are the same.

    Not thread-safe.
    """

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self._dedicated_cpus: frozenset[int] = frozenset()

    def get(self, reading: DomainsReading, *, dedicated_cpus: frozenset[int]) -> list[Contribution]:
        """Return what each guest adds. A guest whose XML could not be read adds nothing.

        :param dedicated_cpus: the CPUs of cpu_dedicated_set; if they change, everything is computed again
        """
        before = self._known if dedicated_cpus == self._dedicated_cpus else {}
        self._dedicated_cpus = dedicated_cpus
        self._known = {}
        for uuid, guest in reading.guests.items():
            if guest is None:
                continue
            images, known = reading.images[uuid], before.get(uuid)
            if known is None or known.guest is not guest or known.images != images:
                known = _Known(guest, images, contribution_of(guest, images, dedicated_cpus=dedicated_cpus))
            self._known[uuid] = known
        return [known.contribution for known in self._known.values()]


def _describe_unsized(guest: Guest, unsized: Sequence[UnsizedImage]) -> Problem | None:
    """Return why a guest is left out of the over-commit, if that is known."""
    reasons = [image.reason for image in unsized if image.reason is not None]
    if not reasons:
        return None
    message = f"domain {guest.name}: left out of the over-commit: {'; '.join(reasons)}"
    return Problem(severity=Severity.NOTE, reason="image", subject=guest.name, message=message)

"""What a guest claims is what Nova would ask Placement for, or what libvirt lets it grow to."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.model import Guest, ImageSize, NovaFlavor, ResourceClass, Severity, UnsizedImage
from exporter.placement.claims import (
    claim_of,
    convert_mb_to_ceil_gb,
    describe_broken_metadata,
    sum_claims,
)
from tests.support.records import GIB, KIB, make_disk, make_guest

VCPU, PCPU, MEMORY_MB, DISK_GB = ResourceClass
NOTHING_DEDICATED = frozenset[int]()
DEDICATED = frozenset({4, 5, 6, 7})


def make_nova_flavor(**changes: Any) -> NovaFlavor:
    numbers = {"vcpus": 4, "memory_mb": 8192, "root_gb": 80, "ephemeral_gb": 0, "swap_mb": 0, "resources": {}}
    return NovaFlavor(name="m1.large", **{**numbers, **changes})


def claim(
    guest: Guest, *sizes: ImageSize | UnsizedImage, dedicated: frozenset[int] = NOTHING_DEDICATED
) -> dict[ResourceClass, int]:
    return dict(claim_of(guest, sizes, dedicated_cpus=dedicated))


def test_a_guest_of_novas_claims_its_flavor_whatever_libvirt_gives_it() -> None:
    guest = make_guest(nova_flavor=make_nova_flavor(), vcpus=1, maximum_vcpus=16, maximum_memory_kib=1)
    assert claim(guest) == {VCPU: 4, PCPU: 0, MEMORY_MB: 8192, DISK_GB: 80}


@pytest.mark.parametrize(("swap_mb", "gib"), [(0, 0), (1, 1), (1024, 1), (1025, 2)])
def test_ephemeral_disk_and_swap_count_swap_rounded_up(swap_mb: int, gib: int) -> None:
    flavor = make_nova_flavor(root_gb=10, ephemeral_gb=20, swap_mb=swap_mb)
    assert claim(make_guest(nova_flavor=flavor))[DISK_GB] == 30 + gib


def test_a_guest_that_boots_from_a_volume_claims_all_of_its_disk_but_root() -> None:
    flavor = make_nova_flavor(root_gb=80, ephemeral_gb=20, swap_mb=512)
    assert claim(make_guest(nova_flavor=flavor, is_volume_backed=True))[DISK_GB] == 21


def test_without_a_flavor_a_guest_claims_what_libvirt_lets_it_grow_to() -> None:
    """The most vCPUs, all of its memory in whole MiB, and its disks at their full size, in whole GiB."""
    guest = make_guest(
        vcpus=1,
        maximum_vcpus=8,
        memory_kib=1,
        maximum_memory_kib=2 * KIB + 1,
        disks=(make_disk(target="vda"), make_disk(target="vdb")),
    )
    sizes = [ImageSize(virtual_bytes=size, allocated_bytes=0) for size in (GIB, GIB + 1)]
    assert claim(guest, *sizes) == {VCPU: 8, PCPU: 0, MEMORY_MB: 3, DISK_GB: 3}


def test_neither_a_medium_in_a_drive_nor_an_image_of_unknown_size_is_claimed() -> None:
    disks = (
        make_disk(target="vda"),
        make_disk(target="hda", device="cdrom"),
        make_disk(target="fda", device="floppy"),
        make_disk(target="vdb"),
    )
    known = ImageSize(virtual_bytes=2 * GIB, allocated_bytes=0)
    assert claim(make_guest(disks=disks), known, known, known, UnsizedImage("gone"))[DISK_GB] == 2


def test_a_volume_claims_nothing() -> None:
    disks = (make_disk(target="vda"), make_disk(target="vdb", serial="fa37e7c0"))
    guest = make_guest(has_nova_metadata=True, disks=disks)
    assert claim(guest, ImageSize(virtual_bytes=3 * GIB, allocated_bytes=0))[DISK_GB] == 3


@pytest.mark.parametrize(
    ("pins", "vcpus", "pcpus"),
    [
        ({0: {4}, 1: {5}, 2: {6}, 3: {7}}, 0, 4),
        ({0: {4}, 1: {5}, 2: {0, 1}, 3: {0, 1}}, 2, 2),  # hw:cpu_policy=mixed
        ({0: {4, 5}, 1: {4, 5}, 2: {4, 5}, 3: {4, 5}}, 4, 0),  # not a CPU of its own
        ({0: {0}, 1: {1}, 2: {2}, 3: {3}}, 4, 0),  # by hand, to CPUs that others share
        ({0: {3}, 1: {4}}, 3, 1),
        ({}, 4, 0),
        ({vcpu: {4 + vcpu % 4} for vcpu in range(9)}, 0, 4),  # more pins than the flavor has vCPUs
    ],
)
def test_vcpus_with_a_dedicated_cpu_of_their_own_are_pcpus(
    pins: dict[int, set[int]], vcpus: int, pcpus: int
) -> None:
    guest = make_guest(
        nova_flavor=make_nova_flavor(vcpus=4),
        vcpu_pins={vcpu: frozenset(cpus) for vcpu, cpus in pins.items()},
    )
    found = claim(guest, dedicated=DEDICATED)
    assert (found[VCPU], found[PCPU]) == (vcpus, pcpus)


def test_without_cpu_dedicated_set_pinned_vcpus_are_vcpus() -> None:
    guest = make_guest(nova_flavor=make_nova_flavor(vcpus=1), vcpu_pins={0: frozenset({4})})
    assert claim(guest)[VCPU] == 1


@pytest.mark.parametrize(
    ("emulator", "pcpus"),
    [({5}, 2), ({4}, 1), ({4, 5}, 1), ({0}, 1), (set(), 1)],
    ids=["isolate", "with the vCPU", "over several", "share", "not tied"],
)
def test_an_emulator_with_a_dedicated_cpu_of_its_own_claims_one_more(emulator: set[int], pcpus: int) -> None:
    guest = make_guest(
        nova_flavor=make_nova_flavor(vcpus=1),
        vcpu_pins={0: frozenset({4})},
        emulator_pins=frozenset(emulator),
    )
    assert claim(guest, dedicated=DEDICATED)[PCPU] == pcpus


def test_extra_specs_claim_in_the_flavors_place() -> None:
    resources = {VCPU: 1, MEMORY_MB: 0, DISK_GB: 5}
    assert claim(make_guest(nova_flavor=make_nova_flavor(resources=resources))) == resources


def test_guests_claim_together_what_each_claims() -> None:
    claims = [claim(make_guest(number, nova_flavor=make_nova_flavor(vcpus=number))) for number in (1, 2)]
    assert sum_claims(claims) == {VCPU: 3, PCPU: 0, MEMORY_MB: 2 * 8192, DISK_GB: 160}
    assert sum_claims([{VCPU: 1}, {PCPU: 2}]) == {VCPU: 1, PCPU: 2, MEMORY_MB: 0, DISK_GB: 0}
    assert sum_claims([]) == {VCPU: 0, PCPU: 0, MEMORY_MB: 0, DISK_GB: 0}


def test_broken_metadata_cost_a_guest_its_flavor_and_are_told_once() -> None:
    problem = describe_broken_metadata(make_guest(1, metadata_error="<nova:vcpus> is 'x', not a number"))
    assert problem is not None
    assert describe_broken_metadata(make_guest(2)) is None
    assert (problem.severity, problem.reason, problem.subject) == (Severity.ERROR, "metadata", "guest1")
    assert "<nova:vcpus> is 'x'" in problem.message
    assert "its claim is taken from its libvirt configuration" in problem.message


def test_an_odd_extra_spec_is_told_as_what_it_is() -> None:
    problem = describe_broken_metadata(make_guest(1, nova_flavor=make_nova_flavor(), metadata_error="odd"))
    assert problem is not None
    assert problem.message == "domain guest1: left out of its claim, as in Nova: odd"


@given(st.integers(0, 10**9))
def test_mib_become_the_fewest_gib_that_hold_them(mib: int) -> None:
    gib = convert_mb_to_ceil_gb(mib)
    assert (gib - 1) * 1024 < mib <= gib * 1024

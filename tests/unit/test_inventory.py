"""Inventories are those that Nova reports to Placement, and their capacity is Placement's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config.settings import HypervisorConfig
from exporter.model import Inventory, NodeInfo, ResourceClass, Resources
from exporter.virt.resources import get_available_resource
from tests.support.records import GIB, make_guest, make_inventory, make_reading, make_storage

VCPU, PCPU, MEMORY_MB, DISK_GB = ResourceClass


def read(*, options: dict[str, Any] | None = None, **changes: Any) -> dict[ResourceClass, Inventory]:
    resources: Resources = get_available_resource(
        make_reading(**changes), HypervisorConfig(uri="test:///default", **(options or {}))
    )
    return {each.resource_class: each for each in resources.inventories}


def test_each_class_has_its_total_reserve_and_ratio() -> None:
    options = {
        "reserved_host_cpus": 2,
        "reserved_host_memory_mb": 1000,
        "reserved_host_disk_mb": 1025,
        "cpu_allocation_ratio": 8.0,
        "ram_allocation_ratio": 1.5,
        "disk_allocation_ratio": 2.0,
    }
    found = read(options=options, storage=make_storage(size_bytes=100 * GIB))
    assert found == {
        VCPU: Inventory(resource_class=VCPU, total=8, reserved=2, allocation_ratio=8.0, claimed=0),
        MEMORY_MB: Inventory(
            resource_class=MEMORY_MB, total=16384, reserved=1000, allocation_ratio=1.5, claimed=0
        ),
        DISK_GB: Inventory(resource_class=DISK_GB, total=100, reserved=2, allocation_ratio=2.0, claimed=0),
    }
    assert [each.capacity for each in found.values()] == [48, 23076, 196]
    assert [each.max_unit for each in found.values()] == [8, 16384, 100]


def test_dedicated_cpus_are_offered_without_over_commit_and_reserve() -> None:
    options = {"cpu_shared_set": "0-1", "cpu_dedicated_set": "2-7", "reserved_host_cpus": 1}
    found = read(options=options, online_cpus=frozenset(range(8)))
    assert found[PCPU] == Inventory(resource_class=PCPU, total=6, reserved=0, allocation_ratio=1.0, claimed=0)
    assert found[VCPU].total == 2


def test_a_class_of_which_there_is_nothing_is_not_offered_whatever_is_claimed_of_it() -> None:
    guest = make_guest(maximum_vcpus=3)
    found = read(
        options={"cpu_dedicated_set": "2-7"},
        online_cpus=frozenset(range(8)),
        guests=[guest],
        storage=make_storage(size_bytes=GIB - 1, used_bytes=0, free_bytes=0),
    )
    assert found.keys() == {PCPU, MEMORY_MB}


@pytest.mark.parametrize(
    ("changes", "unknown"),
    [
        ({"storage": None}, {DISK_GB}),
        ({"online_cpus": frozenset({0}), "options": {"cpu_shared_set": "0-1"}}, {VCPU}),
        ({"online_cpus": frozenset({0}), "options": {"cpu_dedicated_set": "0-1"}}, {VCPU, PCPU}),
        ({"node": None}, {MEMORY_MB}),
    ],
)
def test_what_could_not_be_told_has_no_total_and_no_capacity(
    changes: dict[str, Any], unknown: set[ResourceClass]
) -> None:
    found = read(**changes)
    assert {each for each, inventory in found.items() if inventory.total is None} == unknown
    assert {each for each, inventory in found.items() if inventory.capacity is None} == unknown


def test_what_guests_claim_is_put_to_its_class() -> None:
    guests = [make_guest(number, maximum_vcpus=3, maximum_memory_kib=2048) for number in (1, 2)]
    found = read(guests=guests)
    assert (found[VCPU].claimed, found[MEMORY_MB].claimed, found[DISK_GB].claimed) == (6, 4, 0)


def test_a_hypervisor_without_node_information_offers_disk_alone() -> None:
    found = read(node=NodeInfo(online_cpus=0, memory_mib=0), node_memory=None)
    assert found.keys() == {DISK_GB}


@given(
    total=st.integers(1, 10**7),
    reserved=st.integers(0, 10**7),
    ratio=st.floats(0.01, 100),
    used=st.integers(0, 10**9),
)
def test_capacity_is_the_most_that_placement_lets_be_used(
    total: int, reserved: int, ratio: float, used: int
) -> None:
    """Placement refuses what makes `used` exceed (total - reserved) * ratio, a fraction."""
    inventory = make_inventory(total=total, reserved=reserved, allocation_ratio=ratio)
    assert inventory.capacity is not None
    assert (used <= inventory.capacity) == (used <= (total - reserved) * ratio or used == 0)


def test_a_reserve_above_the_total_leaves_nothing() -> None:
    assert make_inventory(total=4, reserved=5).capacity == 0


@pytest.mark.parametrize(("cache", "reserved"), [(0, 2), (1, 3), (GIB, 3), (GIB + 1, 4)])
def test_the_image_cache_is_reserved_beside_what_is_reserved_for_the_host(cache: int, reserved: int) -> None:
    """Each is rounded up to GiB of its own, as in Nova."""
    found = read(options={"reserved_host_disk_mb": 1025}, image_cache_bytes=cache)
    assert found[DISK_GB].reserved == reserved


def test_of_an_image_cache_that_is_not_known_it_is_not_known_what_fits() -> None:
    found = read(image_cache_bytes=None)[DISK_GB]
    assert (found.reserved, found.capacity, found.total) == (None, None, make_storage().size_bytes // GIB)

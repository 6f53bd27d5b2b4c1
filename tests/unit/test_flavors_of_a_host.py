"""How many more guests of a flavor fit, from what was read of a host with NUMA cells to the number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from exporter.config.settings import HypervisorConfig
from exporter.model import (
    Flavor,
    Guest,
    GuestNumaCell,
    NodeInfo,
    NovaFlavor,
    NumaCell,
    PageSize,
    ResourceClass,
)
from exporter.placement.flavors import MAX_LEARNT_FLAVORS, flavor_of
from exporter.virt.resources import get_available_resource
from tests.support.records import (
    make_capabilities,
    make_cell,
    make_cpu_info,
    make_guest,
    make_identity,
    make_node,
    make_reading,
)

MIB_KIB = 2**10
GIB_KIB = 2**20
SMALL = PageSize(size_kib=4, total=4 * GIB_KIB // 4)
HUGE = PageSize(size_kib=2048, total=4 * GIB_KIB // 2048)
VCPU, PCPU, MEMORY_MB, DISK_GB = ResourceClass


def make_cells(*cells: Sequence[int], memory_kib: int = 8 * GIB_KIB, pages: Any = ()) -> tuple[NumaCell, ...]:
    """Return cells of these CPUs, each with so much memory."""
    return tuple(
        make_cell(id=number, cpus=frozenset(cpus), memory_kib=memory_kib, pages=tuple(pages))
        for number, cpus in enumerate(cells)
    )


FOUR_CPUS_EACH = (range(4), range(4, 8))


def list_slots(
    flavors: Sequence[Flavor], cells: Sequence[NumaCell], guests: Sequence[Guest] = (), **changes: Any
) -> dict[str, int]:
    """Return how many more guests of each flavor fit on a host with plenty of memory, by its name."""
    capabilities = make_capabilities(cells=tuple(cells))
    reading = make_reading(
        **{
            "guests": guests,
            "capabilities": capabilities,
            "node": NodeInfo(online_cpus=16, memory_mib=10**6),
            "node_memory": None,
            **changes,
        }
    )
    config = HypervisorConfig(
        uri="test:///default", flavors=tuple(flavors), cpu_dedicated_set="8-15", cpu_shared_set="0-7"
    )
    return {each.flavor: each.slots for each in get_available_resource(reading, config).flavor_slots}


def count_slots(
    flavor: Flavor, cells: Sequence[NumaCell], guests: Sequence[Guest] = (), **options: Any
) -> int:
    """Return how many more guests of the flavor fit on a host of these cells."""
    reading = make_reading(
        guests=guests,
        capabilities=make_capabilities(cells=tuple(cells)),
        node=make_node(cells),
        node_memory=None,
        online_cpus=frozenset().union(*(cell.cpus for cell in cells)),
    )
    options = {"reserved_host_memory_mb": 0, **options}
    config = HypervisorConfig(uri="test:///default", flavors=(flavor,), **options)
    (slots,) = get_available_resource(reading, config).flavor_slots
    return slots.slots


def make_flavor(**changes: Any) -> Flavor:
    return replace(Flavor(name="f", vcpus=0, memory_mb=1, disk_gb=0, numa_cells=1), **changes)


def test_cpus_of_two_cells_do_not_make_room_for_a_pinned_guest_of_one() -> None:
    """Shows that configured flavors are counted cell by cell, too: 4 CPUs and 4 are not 5 and 3."""
    pinned = make_flavor(pcpus=3)
    cells = make_cells(*FOUR_CPUS_EACH)
    assert count_slots(pinned, cells, cpu_dedicated_set="0-7") == 2
    assert count_slots(replace(pinned, numa_cells=0), cells, cpu_dedicated_set="0-7") == 2
    assert count_slots(replace(pinned, pcpus=5), cells, cpu_dedicated_set="0-7") == 0
    assert count_slots(replace(pinned, pcpus=5, numa_cells=0), cells, cpu_dedicated_set="0-7") == 1


PINNED = Flavor(name="pinned", vcpus=0, pcpus=1, memory_mb=1, disk_gb=0, numa_cells=1)
PAGED = Flavor(name="paged", vcpus=1, memory_mb=2, disk_gb=0, numa_cells=1, page_size_kib=2048)
SPREAD = Flavor(name="spread", vcpus=2, memory_mb=2, disk_gb=0, numa_cells=2)
PLAIN = Flavor(name="plain", vcpus=1, memory_mb=1, disk_gb=0)


@pytest.mark.parametrize("cells", [(), make_cells(range(8), range(8, 16))])
@pytest.mark.parametrize(
    ("hypervisor_type", "arch", "has_cells"),
    [
        ("QEMU", "x86_64", True),
        ("QEMU", "i686", True),
        ("QEMU", "aarch64", True),
        ("QEMU", "ppc64le", True),
        ("TEST", "i686", True),
        ("QEMU", "s390x", False),
        ("QEMU", None, False),
        ("LXC", "x86_64", False),
        ("Xen", "x86_64", False),
    ],
)
def test_a_host_without_numa_topology_takes_no_guest_that_needs_one(
    cells: tuple[NumaCell, ...], hypervisor_type: str, arch: str | None, has_cells: bool
) -> None:
    """Shows that Placement's numbers do not count then, and that cells count only where Nova has them."""
    capabilities = make_capabilities(cells=cells, cpu_info=make_cpu_info(arch=arch))
    identity = make_identity(hypervisor_type=hypervisor_type)
    slots = list_slots((PINNED, SPREAD, PLAIN), cells, capabilities=capabilities, identity=identity)
    assert slots["plain"] == 8 * 4
    if cells and has_cells:
        assert (slots["pinned"], slots["spread"]) == (8, 0)  # the second has no shared CPUs
    else:
        assert (slots["pinned"], slots["spread"]) == (0, 0)


def test_where_it_is_not_known_whether_the_host_has_cells_nothing_is_said_of_guests_that_need_one() -> None:
    for unknown in ({"capabilities": None}, {"identity": make_identity(hypervisor_type=None)}):
        assert list_slots((PINNED, PAGED, SPREAD, PLAIN), (), **unknown) == {"plain": 8 * 4}


@pytest.mark.parametrize(
    ("pinned", "numa_cells", "memory_mb", "slots"),
    [
        (False, 0, 16 * 1024, 3),  # Placement alone: 64 GiB less the reserved 512 MiB
        (False, 1, 16 * 1024, 0),  # more than there are small pages
        (False, 1, 8 * 1024, 7),  # each may have all small pages: they are over-committed
        (True, 1, 16 * 1024, 0),
        (True, 1, 4 * 1024, 2),  # these are not
    ],
)
def test_memory_in_huge_pages_is_not_for_guests_that_ask_for_none(
    pinned: bool, numa_cells: int, memory_mb: int, slots: int
) -> None:
    """Shows it for a cell of 64 GiB of which 56 are huge pages."""
    pages = (
        PageSize(size_kib=4, total=8 * GIB_KIB // 4),
        PageSize(size_kib=2048, total=56 * GIB_KIB // 2048),
    )
    cells = make_cells(range(64), memory_kib=64 * GIB_KIB, pages=pages)
    cpus = {"vcpus": 0, "pcpus": 1} if pinned else {"vcpus": 1}
    flavor = Flavor(name="f", memory_mb=memory_mb, disk_gb=0, numa_cells=numa_cells, **cpus)
    options = {"cpu_shared_set": "0-31", "cpu_dedicated_set": "32-63", "reserved_host_memory_mb": 512}
    assert count_slots(flavor, cells, **options) == slots


def test_huge_pages_of_two_cells_do_not_make_room_for_a_guest_of_one() -> None:
    cells = make_cells(*FOUR_CPUS_EACH, pages=(SMALL, HUGE))
    paged = make_flavor(vcpus=1, memory_mb=3 * 1024, page_size_kib=2048)
    assert count_slots(paged, cells, ram_allocation_ratio=1.0) == 2
    assert count_slots(replace(paged, memory_mb=5 * 1024), cells, ram_allocation_ratio=1.0) == 0


@pytest.mark.parametrize(
    ("memory_mb", "slots"), [(8 * 1024, 4), (8 * 1024 + 1, 0), (3 * 1024, 2 * 5), (6 * 1024, 2 * 2)]
)
def test_no_guest_may_have_more_memory_than_its_cell_whatever_the_ratio(memory_mb: int, slots: int) -> None:
    """Shows it for a host that tells no pages: 16 GiB may be claimed of each cell's 8."""
    flavor = make_flavor(vcpus=1, memory_mb=memory_mb)
    cells = make_cells(*FOUR_CPUS_EACH)
    assert count_slots(flavor, cells, ram_allocation_ratio=2.0, cpu_allocation_ratio=16.0) == slots


def test_no_guest_may_have_more_memory_than_its_cell_has_in_small_pages() -> None:
    cells = make_cells(*FOUR_CPUS_EACH, pages=(SMALL, HUGE))
    flavor = make_flavor(vcpus=1, memory_mb=4 * 1024)
    assert count_slots(flavor, cells, ram_allocation_ratio=1.0) == 2 * 2
    assert count_slots(replace(flavor, memory_mb=4 * 1024 + 1), cells, ram_allocation_ratio=1.0) == 0


@pytest.mark.parametrize(
    ("flavor", "slots"),
    [
        (make_flavor(vcpus=3, numa_cells=2), 2),  # 2 vCPUs of each cell's 5, not 1 and a half
        (make_flavor(vcpus=3, numa_cells=1), 2),
        (make_flavor(vcpus=2, numa_cells=2), 5),
    ],
)
def test_a_guest_that_cannot_be_halved_takes_the_larger_half_of_each_cell(flavor: Flavor, slots: int) -> None:
    cells = make_cells(range(5), range(5, 10))
    assert count_slots(flavor, cells, cpu_allocation_ratio=1.0) == slots


def test_a_pinned_guest_that_cannot_be_halved_takes_the_larger_half_of_each_cell() -> None:
    cells = make_cells(range(5), range(5, 10))
    assert count_slots(make_flavor(pcpus=3, numa_cells=2), cells, cpu_dedicated_set="0-9") == 2


def test_memory_that_cannot_be_divided_by_the_cells_is_rounded_up_to_kib() -> None:
    """1000 MiB over three cells are 341333 KiB and a third: three of these do not fit into 1000 MiB."""
    cells = make_cells(range(4), range(4, 8), range(8, 12), memory_kib=1000 * MIB_KIB)
    assert (
        count_slots(make_flavor(vcpus=3, memory_mb=1000, numa_cells=3), cells, ram_allocation_ratio=1.0) == 2
    )


@pytest.mark.parametrize(
    ("ratio", "vcpus", "slots"),
    [
        (2.0, 0, 2 * 8),  # pinned guests share no memory
        (2.0, 1, 2 * 8),  # nor does one with a pinned vCPU among its shared ones
        (0.5, 0, 2 * 4),
        (0.5, 1, 2 * 4),
    ],
)
def test_memory_of_guests_with_pinned_vcpus_is_not_over_committed(
    ratio: float, vcpus: int, slots: int
) -> None:
    cells = make_cells(range(32), range(32, 64))
    flavor = make_flavor(vcpus=vcpus, pcpus=1, memory_mb=1024)
    options = {"cpu_shared_set": "0-15,32-47", "cpu_dedicated_set": "16-31,48-63"}
    assert count_slots(flavor, cells, ram_allocation_ratio=ratio, **options) == slots


@pytest.mark.parametrize(("vcpus", "slots"), [(0, 8), (1, 4)])
def test_where_less_memory_may_be_claimed_than_there_is_pinned_guests_alone_may_have_all_of_their_cell(
    vcpus: int, slots: int
) -> None:
    """Shows it for a host with dedicated CPUs in one cell, and a ratio of 0.5: its 8 GiB, or 4 of them."""
    cells = make_cells(range(32), range(32, 64))
    flavor = make_flavor(vcpus=vcpus, pcpus=1, memory_mb=1024)
    options = {"cpu_shared_set": "0-15", "cpu_dedicated_set": "16-31"}
    assert count_slots(flavor, cells, ram_allocation_ratio=0.5, **options) == slots


@pytest.mark.parametrize(
    ("first", "second", "slots"), [(5, 1, 1), (8, 2, 2), (3, 3, 3), (2, 0, 0), (9, 4, 4)]
)
def test_of_a_guest_of_two_cells_each_has_one_part(first: int, second: int, slots: int) -> None:
    """Shows that the cell with the least room for parts decides."""
    cells = make_cells(range(first), range(first, first + second))
    dedicated = f"0-{first + second - 1}"
    assert count_slots(make_flavor(pcpus=2, numa_cells=2), cells, cpu_dedicated_set=dedicated) == slots


def test_a_cell_of_which_too_much_is_taken_has_room_for_none() -> None:
    """Shows that such a cell takes no part of a guest of two, though the host has 2 vCPUs left."""
    part = GuestNumaCell(host_cell=0, vcpus=frozenset(range(6)), memory_kib=GIB_KIB, page_size_kib=None)
    guest = make_guest(maximum_vcpus=6, maximum_memory_kib=GIB_KIB, numa_cells=(part,))
    cells = make_cells(*FOUR_CPUS_EACH)
    assert count_slots(make_flavor(vcpus=1), cells, [guest], cpu_allocation_ratio=1.0) == 2
    over_both = make_flavor(vcpus=2, numa_cells=2)
    assert count_slots(over_both, cells, [guest], cpu_allocation_ratio=1.0) == 0


def test_the_only_dedicated_cpu_may_be_that_of_an_emulator() -> None:
    guest = make_guest(emulator_pins=frozenset({5}))
    cells = make_cells(*FOUR_CPUS_EACH)
    pinned = make_flavor(pcpus=1)
    options = {"cpu_shared_set": "0-4", "cpu_dedicated_set": "5"}
    assert count_slots(pinned, cells, **options) == 1
    assert count_slots(pinned, cells, [guest], **options) == 0


def test_where_there_are_no_guests_none_of_anything_is_claimed() -> None:
    config = HypervisorConfig(uri="test:///default", cpu_shared_set="0-3", cpu_dedicated_set="4-7")
    resources = get_available_resource(make_reading(), config)
    assert {each.resource_class: each.claimed for each in resources.inventories} == dict.fromkeys(
        (VCPU, PCPU, MEMORY_MB, DISK_GB), 0
    )


def test_disk_limits_a_guest_of_one_cell_as_any_other() -> None:
    """100 GiB there are, and the cells have room for more than one of the guests."""
    flavor = make_flavor(vcpus=1, disk_gb=60)
    reading = make_reading(capabilities=make_capabilities(cells=make_cells(*FOUR_CPUS_EACH)))
    config = HypervisorConfig(uri="test:///default", flavors=(flavor,))
    (found,) = get_available_resource(reading, config).flavor_slots
    assert (found.slots, found.limited_by) == (1, {DISK_GB})
    assert found.request == {VCPU: 1, MEMORY_MB: 1, DISK_GB: 60}


def make_guests_of(flavors: int) -> list[Guest]:
    """Return a guest of each of so many flavors."""
    return [
        make_guest(
            number,
            nova_flavor=NovaFlavor(
                name=f"f{number:03}", vcpus=1, memory_mb=1, root_gb=1, ephemeral_gb=0, swap_mb=0, resources={}
            ),
        )
        for number in range(flavors)
    ]


@pytest.mark.parametrize(("flavors", "problems"), [(MAX_LEARNT_FLAVORS, 0), (MAX_LEARNT_FLAVORS + 1, 1)])
def test_more_flavors_than_are_shown_are_a_problem_of_the_host(flavors: int, problems: int) -> None:
    reading = make_reading(guests=make_guests_of(flavors))
    resources = get_available_resource(
        reading, HypervisorConfig(uri="test:///default", flavors_from_guests=True)
    )
    assert len(resources.flavor_slots) == MAX_LEARNT_FLAVORS
    assert [(each.reason, each.subject) for each in resources.problems] == [("flavors", "")] * problems


@pytest.mark.parametrize("has_flavor", [True, False])
@pytest.mark.parametrize("dedicated", ["4", "4-7"])
def test_a_vcpu_with_a_dedicated_cpu_to_itself_is_claimed_as_a_pcpu(dedicated: str, has_flavor: bool) -> None:
    """Whether Nova made the guest or libvirt alone knows it, and whether other dedicated CPUs are left."""
    flavor = NovaFlavor(name="f", vcpus=2, memory_mb=1, root_gb=1, ephemeral_gb=0, swap_mb=0, resources={})
    guest = make_guest(nova_flavor=flavor if has_flavor else None, vcpu_pins={0: frozenset({4})})
    config = HypervisorConfig(uri="test:///default", cpu_shared_set="0-3", cpu_dedicated_set=dedicated)
    resources = get_available_resource(make_reading(guests=[guest]), config)
    claimed = {each.resource_class: each.claimed for each in resources.inventories}
    assert (claimed[VCPU], claimed[PCPU]) == (1, 1)


def test_guests_that_are_not_pinned_claim_no_dedicated_cpu_for_their_emulator() -> None:
    guest = make_guest(emulator_pins=frozenset({5}))
    config = HypervisorConfig(uri="test:///default", cpu_shared_set="0-3", cpu_dedicated_set="4-7")
    resources = get_available_resource(make_reading(guests=[guest]), config)
    claimed = {each.resource_class: each.claimed for each in resources.inventories}
    assert (claimed[VCPU], claimed[PCPU]) == (2, 0)


def test_flavors_of_guests_are_laid_out_as_the_guests_are() -> None:
    """A learnt flavor whose guest has one dedicated CPU in one cell: 3 are left there, and 4 in the other."""
    flavor = NovaFlavor(name="f", vcpus=1, memory_mb=1, root_gb=1, ephemeral_gb=0, swap_mb=0, resources={})
    part = GuestNumaCell(host_cell=0, vcpus=frozenset({0}), memory_kib=MIB_KIB, page_size_kib=None)
    guest = make_guest(nova_flavor=flavor, vcpu_pins={0: frozenset({0})}, numa_cells=(part,))
    reading = make_reading(
        guests=[guest],
        capabilities=make_capabilities(cells=make_cells(*FOUR_CPUS_EACH)),
        online_cpus=frozenset(range(8)),
    )
    options = HypervisorConfig(uri="test:///default", cpu_dedicated_set="0-7", flavors_from_guests=True)
    resources = get_available_resource(reading, options)
    assert [(each.flavor, each.slots, each.limited_by) for each in resources.flavor_slots] == [
        ("f", 7, {PCPU})
    ]
    known = replace(options, flavors=(Flavor(name="f", vcpus=1, memory_mb=1, disk_gb=1),))
    assert [each.flavor for each in get_available_resource(reading, known).flavor_slots] == ["f"]


@pytest.mark.parametrize(
    ("policy", "options", "slots"),
    [
        (None, {"cpu_dedicated_set": "0-7"}, 2),  # 6 CPUs are left of two cells, for guests of 3
        ("require", {"cpu_dedicated_set": "0-7"}, 1),  # only one cell has two whole cores left
        ("isolate", {"cpu_dedicated_set": "0-7"}, 0),  # Nova wants a host without threads
        ("isolate", {"vcpu_pin_set": "0-7"}, 0),  # no cell has three whole cores
    ],
)
def test_a_learnt_flavor_keeps_its_thread_policy(
    policy: str | None, options: dict[str, str], slots: int
) -> None:
    """Shows it for two cells of two cores with two threads each; of one core a thread is taken."""
    flavor = NovaFlavor(
        name="f",
        vcpus=3,
        memory_mb=1,
        root_gb=1,
        ephemeral_gb=0,
        swap_mb=0,
        resources={},
        cpu_thread_policy=policy,
    )
    part = GuestNumaCell(host_cell=7, vcpus=frozenset(range(3)), memory_kib=MIB_KIB, page_size_kib=None)
    guest = make_guest(
        1, nova_flavor=flavor, vcpu_pins={n: frozenset({n + 10}) for n in range(3)}, numa_cells=(part,)
    )
    pinned = make_guest(2, vcpu_pins={0: frozenset({0})})
    cells = tuple(
        replace(cell, siblings=frozenset({frozenset({n, n + 1}), frozenset({n + 2, n + 3})}))
        for cell, n in zip(make_cells(*FOUR_CPUS_EACH), (0, 4), strict=True)
    )
    dedicated = frozenset(range(20)) if "cpu_dedicated_set" in options else frozenset[int]()
    learnt = flavor_of(guest, dedicated)
    assert learnt is not None
    assert learnt.cpu_thread_policy == policy
    assert count_slots(learnt, cells, [pinned], **options) == slots


def test_flavors_of_guests_are_not_shown_unless_wanted() -> None:
    resources = get_available_resource(
        make_reading(guests=make_guests_of(1)), HypervisorConfig(uri="test:///default")
    )
    assert resources.flavor_slots == ()

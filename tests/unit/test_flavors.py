"""As many guests of a flavor fit as can be put onto the hypervisor one by one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config.settings import HypervisorConfig
from exporter.label import MAX_LABEL_LENGTH
from exporter.model import (
    LARGE_PAGES,
    DomainState,
    Flavor,
    FlavorCell,
    FlavorSlots,
    GuestNumaCell,
    HostNumaCell,
    Inventory,
    MemoryPages,
    NovaFlavor,
    Problem,
    ResourceClass,
    Severity,
)
from exporter.placement.cells import CellRoom, claims_in_cells, get_cell_rooms
from exporter.placement.flavors import MAX_LEARNT_FLAVORS, flavor_of, get_flavor_slots, learn_flavors
from tests.support.records import make_guest, make_inventory

VCPU, PCPU, MEMORY_MB, DISK_GB = ResourceClass
NOTHING_DEDICATED = frozenset[int]()
OPTIONS = HypervisorConfig(uri="test:///default")


def make_flavor(**changes: Any) -> Flavor:
    return replace(Flavor(name="m1.large", vcpus=4, memory_mb=8192, disk_gb=80), **changes)


def slots_of(flavor: Flavor, *inventories: Inventory, rooms: Sequence[CellRoom] | None = None) -> FlavorSlots:
    (slots,) = get_flavor_slots([flavor], inventories, rooms)
    return slots


def make_host(**totals: int | None) -> list[Inventory]:
    """Return a host that has plenty of all but PCPUs, unless said otherwise."""
    plenty = {"VCPU": 1000, "MEMORY_MB": 10**7, "DISK_GB": 10**5}
    return [
        make_inventory(ResourceClass[name], total)
        for name, total in {**plenty, **totals}.items()
        if total != 0
    ]


def make_room(**changes: Any) -> CellRoom:
    """Return a cell with plenty of room."""
    room = CellRoom(
        shared_cpus=1000,
        free_vcpus=1000,
        free_pcpus=1000,
        memory_kib=10**9,
        small_pages_kib=10**9,
        free_memory_kib=10**9,
        free_overcommit_kib=10**9,
        free_pages_kib={4: 10**9, 2048: 2048 * 10**6},
    )
    return replace(room, **changes)


# One by one.


@dataclass
class Placement:
    """Guests put onto a host one by one, by Placement's inequality and a count of what each cell has left."""

    inventories: Mapping[ResourceClass, Inventory]
    used: dict[ResourceClass, int]
    cells: list[dict[str, int]] | None = None

    def place(self, flavor: Flavor) -> bool:
        wanted = {
            VCPU: flavor.vcpus,
            PCPU: flavor.pcpus,
            MEMORY_MB: flavor.memory_mb,
            DISK_GB: flavor.disk_gb,
        }
        for resource_class, amount in wanted.items():
            if amount and not self._has_room(resource_class, amount):
                return False
        if self.cells is not None and flavor.numa_cells and not self._take_cells(flavor):
            return False
        for resource_class, amount in wanted.items():
            self.used[resource_class] += amount
        return True

    def _has_room(self, resource_class: ResourceClass, amount: int) -> bool:
        inventory = self.inventories.get(resource_class)
        if inventory is None or inventory.total is None or amount > inventory.total:
            return False
        limit = (inventory.total - inventory.reserved) * inventory.allocation_ratio
        return self.used[resource_class] + amount <= limit

    def _take_cells(self, flavor: Flavor) -> bool:
        """Put each part into another cell, the ones that could take the most first."""
        assert self.cells is not None
        parts = flavor.numa_cells
        need = {"pcpus": math.ceil(flavor.pcpus / parts), "mib": math.ceil(flavor.memory_mb / parts)}
        fitting = [cell for cell in self.cells if all(cell[name] >= need[name] for name in need)]
        fitting.sort(
            key=lambda cell: min(cell[name] // need[name] for name in need if need[name]), reverse=True
        )
        if len(fitting) < parts:
            return False
        for cell in fitting[:parts]:
            for name in need:
                cell[name] -= need[name]
        return True


def count_one_by_one(
    flavor: Flavor, inventories: Sequence[Inventory], cells: list[dict[str, int]] | None = None
) -> int:
    placement = Placement(
        {each.resource_class: each for each in inventories},
        {**dict.fromkeys(ResourceClass, 0), **{each.resource_class: each.claimed for each in inventories}},
        cells,
    )
    count = 0
    while placement.place(flavor):
        count += 1
    return count


inventories = st.fixed_dictionaries(
    {},
    optional={
        each: st.builds(
            make_inventory,
            st.just(each),
            st.integers(1, 60),
            reserved=st.integers(0, 20),
            allocation_ratio=st.sampled_from([0.5, 0.7, 1.0, 1.1, 1.5, 2.9, 4.0]),
            claimed=st.integers(0, 80),
        )
        for each in ResourceClass
    },
).map(lambda by_class: list(by_class.values()))
flavors = st.builds(
    make_flavor,
    vcpus=st.integers(0, 8),
    pcpus=st.integers(0, 8),
    memory_mb=st.integers(1, 40),
    disk_gb=st.integers(0, 40),
)


@given(flavor=flavors, host=inventories)
def test_as_many_fit_as_can_be_placed_one_by_one(flavor: Flavor, host: list[Inventory]) -> None:
    assert slots_of(flavor, *host).slots == count_one_by_one(flavor, host)


@given(
    flavor=st.builds(
        make_flavor,
        vcpus=st.just(0),
        pcpus=st.integers(1, 6),
        memory_mb=st.integers(1, 20),
        disk_gb=st.integers(0, 20),
        numa_cells=st.integers(1, 3),
    ),
    cells=st.lists(
        st.fixed_dictionaries({"pcpus": st.integers(0, 30), "mib": st.integers(0, 80)}), max_size=4
    ),
    host=st.one_of(inventories, st.just(make_host(PCPU=1000))),
)
def test_pinned_guests_are_placed_cell_by_cell(
    flavor: Flavor, cells: list[dict[str, int]], host: list[Inventory]
) -> None:
    # A part's memory is in whole MiB on both sides.
    flavor = replace(flavor, memory_mb=flavor.memory_mb * flavor.numa_cells)
    rooms = [make_room(free_pcpus=cell["pcpus"], free_memory_kib=cell["mib"] * 1024) for cell in cells]
    expected = count_one_by_one(flavor, host, [dict(cell) for cell in cells])
    assert slots_of(flavor, *host, rooms=rooms).slots == expected


@given(flavor=flavors, host=inventories, extra=st.integers(1, 10**6))
def test_what_limits_is_what_has_to_grow_for_one_more_to_fit(
    flavor: Flavor, host: list[Inventory], extra: int
) -> None:
    """Growing only what does not limit is in vain; growing all that limits, by enough, is not."""
    found = slots_of(flavor, *host)
    others = [
        replace(each, claimed=each.claimed - extra) if each.resource_class not in found.limited_by else each
        for each in host
    ]
    assert slots_of(flavor, *others).slots == found.slots
    plenty = [make_inventory(each, 10**9) for each in found.limited_by]
    kept = [each for each in host if each.resource_class not in found.limited_by]
    assert slots_of(flavor, *kept, *plenty).slots > found.slots


# By example.


@pytest.mark.parametrize(
    ("totals", "slots", "limited_by"),
    [
        ({"VCPU": 11}, 2, {VCPU}),
        ({"MEMORY_MB": 3 * 8192}, 3, {MEMORY_MB}),
        ({"DISK_GB": 79}, 0, {DISK_GB}),
        ({"VCPU": 4, "DISK_GB": 80}, 1, {VCPU, DISK_GB}),
        ({"VCPU": 0}, 0, {VCPU}),
    ],
)
def test_the_scarcest_resource_limits(
    totals: dict[str, int], slots: int, limited_by: set[ResourceClass]
) -> None:
    found = slots_of(make_flavor(), *make_host(**totals))
    assert (found.slots, found.limited_by) == (slots, limited_by)


def test_over_commit_does_not_let_in_a_guest_that_is_larger_than_the_host() -> None:
    """max_unit: 16 vCPUs may be placed on 4 CPUs, by guests of up to 4."""
    cpus = make_inventory(VCPU, 4, allocation_ratio=4.0)
    others = [each for each in make_host() if each.resource_class is not VCPU]
    assert slots_of(make_flavor(vcpus=4), cpus, *others).slots == 4
    assert slots_of(make_flavor(vcpus=5), cpus, *others).slots == 0


def test_a_host_that_guests_claim_more_of_than_there_is_takes_no_more() -> None:
    cpus = make_inventory(VCPU, 4, claimed=9)
    others = [each for each in make_host() if each.resource_class is not VCPU]
    for vcpus in (1, 4):
        found = slots_of(make_flavor(vcpus=vcpus), cpus, *others)
        assert (found.slots, found.limited_by) == (0, {VCPU})


def test_a_flavor_that_needs_what_could_not_be_told_has_no_slots_and_others_have() -> None:
    host = make_host(DISK_GB=None)
    found = get_flavor_slots([make_flavor(), make_flavor(name="diskless", disk_gb=0)], host, None)
    assert [each.flavor for each in found] == ["diskless"]


def test_a_pinned_flavor_needs_pcpus_and_no_vcpus() -> None:
    pinned = make_flavor(vcpus=0, pcpus=4)
    assert slots_of(pinned, *make_host(PCPU=9)).slots == 2
    found = slots_of(pinned, *make_host())
    assert (found.slots, found.limited_by) == (0, {PCPU})


def test_free_cpus_of_two_cells_do_not_add_up() -> None:
    pinned = make_flavor(vcpus=0, pcpus=4, numa_cells=1)
    rooms = [make_room(free_pcpus=3), make_room(free_pcpus=5)]
    assert slots_of(pinned, *make_host(PCPU=8), rooms=rooms).slots == 1
    over_both = replace(pinned, numa_cells=2)
    assert slots_of(over_both, *make_host(PCPU=8), rooms=rooms).slots == 1


def test_a_host_without_cells_takes_no_guest_that_needs_one() -> None:
    """Shows it for pinned vCPUs and for pages, and that other guests are counted as ever."""
    for flavor in (
        make_flavor(vcpus=0, pcpus=4, numa_cells=1),
        make_flavor(numa_cells=1, page_size_kib=2048),
        make_flavor(numa_cells=2),
    ):
        for rooms in (None, ()):
            found = slots_of(flavor, *make_host(PCPU=8), rooms=rooms)
            assert found.slots == 0
            assert found.limited_by == {VCPU, PCPU, MEMORY_MB} & set(found.request)
    assert slots_of(make_flavor(), *make_host(VCPU=9), rooms=None).slots == 2


def test_where_one_cell_has_the_cpus_and_another_the_memory_both_limit() -> None:
    pinned = make_flavor(vcpus=0, pcpus=4, numa_cells=1)
    rooms = [make_room(free_pcpus=0), make_room(free_memory_kib=0)]
    found = slots_of(pinned, *make_host(PCPU=8), rooms=rooms)
    assert (found.slots, found.limited_by) == (0, {PCPU, MEMORY_MB})


@pytest.mark.parametrize(
    ("page_size_kib", "slots"),
    [(2048, 2), (2**20, 1), (LARGE_PAGES, 3), (4, 4), (64, 0)],
)
def test_pages_of_the_size_that_a_flavor_wants_are_what_is_free_for_it(
    page_size_kib: int, slots: int
) -> None:
    gib_kib = 2**20
    room = make_room(free_pages_kib={4: 4 * gib_kib, 2048: 2 * gib_kib + 2048, gib_kib: gib_kib})
    paged = make_flavor(memory_mb=1024, numa_cells=1, page_size_kib=page_size_kib)
    found = slots_of(paged, *make_host(), rooms=[room])
    assert (found.slots, found.limited_by) == (slots, {MEMORY_MB})


def test_a_flavor_without_a_page_size_has_small_pages_and_pinned_guests_share_none() -> None:
    """Shows that memory in huge pages is not for it: not for one guest, nor for as many pinned ones."""
    room = make_room(small_pages_kib=3 * 2**20, free_pages_kib={4: 2 * 2**20, 2048: 10**9})
    for flavor, slots in (
        (make_flavor(vcpus=1, memory_mb=4096, numa_cells=1), 0),
        (make_flavor(vcpus=0, pcpus=1, memory_mb=1024, numa_cells=1), 2),
    ):
        found = slots_of(flavor, *make_host(PCPU=100), rooms=[room])
        assert (found.slots, found.limited_by) == (slots, {MEMORY_MB})
    shared = make_flavor(vcpus=1, memory_mb=1024, numa_cells=1)
    assert slots_of(shared, *make_host(), rooms=[room]).slots > 2


def test_small_pages_of_guests_that_name_no_size_are_taken() -> None:
    """Shows it for a guest that runs in one cell of the host."""
    guest = make_numa_guest(1, page_size_kib=None, memory_kib=2**20)
    (room,) = get_cell_rooms(
        [make_host_cell()],
        OPTIONS,
        claims=claims_in_cells(guest),
        still_to_come=(),
        isolated_cpus=frozenset(),
    )
    assert room.free_pages_kib[4] == 3 * 2**20


def test_memory_that_is_no_whole_number_of_pages_does_not_fit() -> None:
    paged = make_flavor(memory_mb=1025, numa_cells=1, page_size_kib=2048)
    assert slots_of(paged, *make_host(), rooms=[make_room()]).slots == 0


def test_shared_vcpus_of_a_paged_guest_fit_into_its_cell() -> None:
    paged = make_flavor(vcpus=4, memory_mb=2, numa_cells=1, page_size_kib=2048)
    assert slots_of(paged, *make_host(), rooms=[make_room(shared_cpus=4, free_vcpus=9)]).slots == 2
    assert slots_of(paged, *make_host(), rooms=[make_room(shared_cpus=3, free_vcpus=9)]).slots == 0


def test_a_guest_whose_cell_is_not_fixed_is_in_the_only_one() -> None:
    guest = make_numa_guest(1, host_cell=None, page_size_kib=None)
    for topology, left in (
        ([make_host_cell()], 4 * 2**20 - 10 * 2048),
        ([make_host_cell(), make_host_cell(1)], 4 * 2**20),
    ):
        room, *_ = get_cell_rooms(
            topology, OPTIONS, claims=claims_in_cells(guest), still_to_come=(), isolated_cpus=frozenset()
        )
        assert room.free_pages_kib[4] == left


# What is left of a cell.


def make_host_cell(id: int = 0, **changes: Any) -> HostNumaCell:
    cpus = frozenset(range(8 * id, 8 * id + 8))
    cell = HostNumaCell(
        id=id,
        cpus=cpus,
        cpuset=frozenset(sorted(cpus)[:2]),
        pcpuset=frozenset(sorted(cpus)[2:]),
        memory_kib=16 * 2**20,
        memory_free_bytes=None,
        mempages=(
            MemoryPages(size_kib=4, total=2**20, free=1),
            MemoryPages(size_kib=2048, total=100, free=60),
        ),
        pinned_cpus=frozenset(),
    )
    return replace(cell, **changes)


def make_numa_guest(number: int, host_cell: int | None = 0, **changes: Any) -> Any:
    part = GuestNumaCell(
        host_cell=host_cell, vcpus=frozenset({0, 1, 2}), memory_kib=10 * 2048, page_size_kib=2048
    )
    return make_guest(number, numa_cells=(replace(part, **changes),), vcpu_pins={0: frozenset({2})})


def test_a_cell_has_left_what_guests_that_lie_in_it_do_not_claim() -> None:
    guests = [make_numa_guest(1), make_numa_guest(2, host_cell=1), make_numa_guest(3, host_cell=None)]
    topology = [make_host_cell(pinned_cpus=frozenset({2, 3})), make_host_cell(1)]
    options = replace(OPTIONS, cpu_allocation_ratio=2.0, ram_allocation_ratio=1.5)
    claims = [claim for guest in guests for claim in claims_in_cells(guest)]
    first, _ = get_cell_rooms(topology, options, claims=claims, still_to_come=(), isolated_cpus=frozenset())
    assert first == CellRoom(
        shared_cpus=2,
        free_vcpus=2 * 2 - 2,
        free_pcpus=4,
        memory_kib=16 * 2**20,
        small_pages_kib=4 * 2**20,
        free_memory_kib=16 * 2**20 - 10 * 2048,
        free_overcommit_kib=24 * 2**20 - 10 * 2048,
        free_pages_kib={4: 4 * 2**20, 2048: 60 * 2048},
    )


def test_an_isolated_emulator_takes_a_cpu_of_its_cell() -> None:
    (room,) = get_cell_rooms(
        [make_host_cell(pinned_cpus=frozenset({2}))],
        OPTIONS,
        claims=(),
        still_to_come=(),
        isolated_cpus=frozenset({5}),
    )
    assert room.free_pcpus == 4


@pytest.mark.parametrize(
    ("free", "states", "left"),
    [
        (90, [DomainState.RUNNING], 90),  # the running guest's 10 are no longer free
        (100, [DomainState.SHUTOFF], 90),  # those of one that is shut off are still
        (50, [DomainState.RUNNING], 50),  # somebody else took 40
        (95, [DomainState.RUNNING], 90),  # not all of the guest's pages are there yet
        (60, [DomainState.RUNNING, DomainState.SHUTOFF], 50),
        (None, [DomainState.RUNNING, DomainState.SHUTOFF], 80),
    ],
)
def test_of_a_cells_huge_pages_what_is_neither_claimed_nor_in_use_is_left(
    free: int | None, states: list[DomainState], left: int
) -> None:
    claims = [claims_in_cells(make_numa_guest(number))[0] for number, _ in enumerate(states, start=1)]
    pages = (MemoryPages(size_kib=4, total=1, free=0), MemoryPages(size_kib=2048, total=100, free=free))
    (room,) = get_cell_rooms(
        [make_host_cell(mempages=pages)],
        OPTIONS,
        claims=claims,
        still_to_come=[
            claim for claim, state in zip(claims, states, strict=True) if state is DomainState.SHUTOFF
        ],
        isolated_cpus=frozenset(),
    )
    assert room.free_pages_kib[2048] == left * 2048


@pytest.mark.parametrize(("free", "left"), [(None, 60), (90, 60), (70, 60), (50, 50)])
def test_reserved_pages_are_not_left_whoever_has_them_now(free: int | None, left: int) -> None:
    """Of 100 pages, 10 are claimed and 30 reserved. Those that others have already are no longer free."""
    (claim,) = claims_in_cells(make_numa_guest(1))
    pages = (
        MemoryPages(size_kib=4, total=1000, free=1000, reserved=900),
        MemoryPages(size_kib=2048, total=100, free=free, reserved=30),
    )
    (room,) = get_cell_rooms(
        [make_host_cell(mempages=pages)], OPTIONS, claims=[claim], still_to_come=[], isolated_cpus=frozenset()
    )
    assert room.free_pages_kib == {4: 100 * 4, 2048: left * 2048}


# Learnt from the guests.


def make_nova_flavor(name: str = "m1.large", **changes: Any) -> NovaFlavor:
    numbers = {
        "vcpus": 4,
        "memory_mb": 8192,
        "root_gb": 80,
        "ephemeral_gb": 1,
        "swap_mb": 1,
        "resources": {},
    }
    return NovaFlavor(name=name, **{**numbers, **changes})


def learn(
    *guests: Any, known: Sequence[Flavor] = (), dedicated: frozenset[int] = NOTHING_DEDICATED
) -> tuple[list[Flavor], tuple[Problem, ...]]:
    learnt, problems = learn_flavors([flavor_of(guest, dedicated) for guest in guests], known=known)
    return list(learnt), problems


def test_guests_teach_their_flavor_once() -> None:
    guests = [make_guest(number, nova_flavor=make_nova_flavor()) for number in (1, 2)]
    assert learn(*guests, make_guest(3)) == ([make_flavor(disk_gb=82)], ())


def test_a_flavor_whose_guests_all_boot_from_volumes_asks_for_no_root_disk() -> None:
    on_volume = [make_guest(n, nova_flavor=make_nova_flavor(), is_volume_backed=True) for n in (1, 2, 3)]
    assert learn(*on_volume) == ([make_flavor(disk_gb=2)], ())
    on_disk = make_guest(4, nova_flavor=make_nova_flavor())
    for guests in ([*on_volume, on_disk], [on_disk, *on_volume]):
        assert learn(*guests) == ([make_flavor(disk_gb=82)], ())


def test_a_guest_of_an_older_flavor_of_the_name_says_nothing_of_where_the_newer_ones_boot_from() -> None:
    newer = [make_guest(n, nova_flavor=make_nova_flavor(), is_volume_backed=True) for n in (1, 2)]
    older = make_guest(3, nova_flavor=make_nova_flavor(root_gb=40))
    assert learn(older, *newer) == ([make_flavor(disk_gb=2)], ())


def test_a_flavor_that_names_its_disk_asks_for_it_wherever_its_guests_boot_from() -> None:
    flavor = make_nova_flavor(resources={DISK_GB: 7})
    assert learn(make_guest(nova_flavor=flavor, is_volume_backed=True)) == ([make_flavor(disk_gb=7)], ())


def test_a_configured_flavor_is_not_learnt_again() -> None:
    assert learn(make_guest(nova_flavor=make_nova_flavor()), known=[make_flavor(vcpus=1)]) == ([], ())


def test_a_guest_shows_how_its_flavor_is_laid_out() -> None:
    guest = make_guest(
        nova_flavor=make_nova_flavor(vcpus=2),
        vcpu_pins={0: frozenset({4}), 1: frozenset({5})},
        numa_cells=(
            GuestNumaCell(host_cell=1, vcpus=frozenset({0, 1}), memory_kib=8192 * 1024, page_size_kib=2**20),
        ),
    )
    expected = make_flavor(vcpus=0, pcpus=2, disk_gb=82, numa_cells=1, page_size_kib=2**20)
    assert learn(guest, dedicated=frozenset({4, 5})) == ([expected], ())


def make_mixed_guest(number: int = 1) -> Any:
    """Return a guest with a shared vCPU in its first cell, and two pinned ones in the second."""
    parts = [((0,), 2**20), ((1, 2), 2 * 2**20)]
    return make_guest(
        number,
        nova_flavor=make_nova_flavor(vcpus=3, memory_mb=3 * 1024, root_gb=0, ephemeral_gb=0, swap_mb=0),
        vcpu_pins={0: frozenset({0, 1}), 1: frozenset({4}), 2: frozenset({5})},
        numa_cells=tuple(
            GuestNumaCell(host_cell=None, vcpus=frozenset(vcpus), memory_kib=kib, page_size_kib=None)
            for vcpus, kib in parts
        ),
    )


def test_a_flavor_is_laid_out_as_its_guests_are_and_not_in_equal_parts() -> None:
    ((found,), _) = learn(make_mixed_guest(), dedicated=frozenset(range(4, 8)))
    assert (found.vcpus, found.pcpus, found.numa_cells) == (1, 2, 2)
    assert found.cells == (FlavorCell(1, 0, 2**20), FlavorCell(0, 2, 2 * 2**20))


def test_the_cpu_of_an_isolated_emulator_is_in_the_first_cell() -> None:
    guest = replace(make_mixed_guest(), emulator_pins=frozenset({6}))
    ((found,), _) = learn(guest, dedicated=frozenset(range(4, 8)))
    assert [part.pcpus for part in found.cells] == [1, 2]
    assert found.pcpus == 3


@pytest.mark.parametrize(
    ("pins", "dedicated", "pinned"),
    [
        ({0: {4}, 1: {5}}, {4, 5}, 2),
        ({0: {4}, 1: {5}}, {5}, 1),  # 4 is the only CPU of the set that guests share
        ({0: {4}, 1: {5}}, set(), 2),  # vcpu_pin_set, or no set at all
        ({0: {4}, 1: {4}}, set(), 0),  # a set of one CPU
    ],
)
def test_a_vcpu_is_pinned_if_it_has_a_cpu_to_itself(
    pins: dict[int, set[int]], dedicated: set[int], pinned: int
) -> None:
    """Shows that a cell's claim and the flavor's layout say the same of it."""
    part = GuestNumaCell(host_cell=0, vcpus=frozenset(pins), memory_kib=2**20, page_size_kib=None)
    guest = make_guest(
        nova_flavor=make_nova_flavor(vcpus=2),
        vcpu_pins={vcpu: frozenset(cpus) for vcpu, cpus in pins.items()},
        numa_cells=(part,),
    )
    (claim,) = claims_in_cells(guest, frozenset(dedicated))
    assert claim.shared_vcpus == 2 - pinned
    flavor = flavor_of(guest, frozenset(dedicated))
    assert flavor is not None
    assert [(each.vcpus, each.pcpus) for each in flavor.cells] == [(2 - pinned, pinned)]


def test_parts_that_differ_fit_into_cells_that_differ() -> None:
    """Shows a mixed guest whose first cell has no pinned vCPU: Nova puts four there, two each way round."""
    ((flavor,), _) = learn(make_mixed_guest(), dedicated=frozenset(range(4, 8)))
    rooms = [make_room(free_pcpus=4, free_vcpus=2) for _ in range(2)]
    found = slots_of(flavor, *make_host(PCPU=8), rooms=rooms)
    assert (found.slots, found.limited_by) == (4, {VCPU, PCPU})
    assert slots_of(flavor, *make_host(PCPU=8), rooms=rooms[:1]).slots == 0
    uneven = [make_room(free_pcpus=0), make_room(free_pcpus=8)]
    assert slots_of(flavor, *make_host(PCPU=8), rooms=uneven).slots == 4


def test_a_mixed_guest_fits_into_no_cell_of_which_too_many_shared_cpus_are_claimed() -> None:
    """Shows it for a part without a shared vCPU, too: Nova looks at the limit all the same."""
    ((flavor,), _) = learn(make_mixed_guest(), dedicated=frozenset(range(4, 8)))
    assert slots_of(flavor, *make_host(PCPU=8), rooms=[make_room(), make_room(free_vcpus=-1)]).slots == 0
    assert slots_of(flavor, *make_host(PCPU=8), rooms=[make_room(), make_room(free_vcpus=0)]).slots > 0


def test_pinned_guests_in_huge_pages_are_not_hindered_by_small_pages_that_others_claim_too_much_of() -> None:
    room = make_room(free_memory_kib=-1, free_overcommit_kib=-1, free_pages_kib={4: -1, 2048: 4 * 2**20})
    paged = make_flavor(vcpus=0, pcpus=1, memory_mb=1024, numa_cells=1, page_size_kib=2048)
    assert slots_of(paged, *make_host(PCPU=100), rooms=[room]).slots == 4
    assert slots_of(replace(paged, vcpus=1), *make_host(PCPU=100), rooms=[room]).slots == 0


def test_parts_in_large_pages_of_any_size_are_in_one_size_of_each_cell() -> None:
    layout = (FlavorCell(1, 0, 2**20), FlavorCell(1, 0, 2 * 2**20))
    flavor = make_flavor(vcpus=2, memory_mb=3072, numa_cells=2, page_size_kib=LARGE_PAGES, layout=layout)
    pages = {4: 10**9, 2048: 3 * 2**20, 2**20: 2 * 2**20}
    assert slots_of(flavor, *make_host(), rooms=[make_room(free_pages_kib=pages)] * 2).slots == 2
    assert slots_of(flavor, *make_host(), rooms=[make_room(free_pages_kib={4: 10**9})] * 2).slots == 0


def test_where_as_many_guests_are_laid_out_differently_the_number_does_not_change_with_each_scrape() -> None:
    guest = make_mixed_guest()
    turned = replace(guest, uuid="other", numa_cells=guest.numa_cells[::-1])
    dedicated = frozenset(range(4, 8))
    assert learn(guest, turned, dedicated=dedicated) == learn(turned, guest, dedicated=dedicated)


def test_of_a_flavor_that_was_made_anew_what_most_guests_have_counts() -> None:
    guests = [make_guest(n, nova_flavor=make_nova_flavor(vcpus=vcpus)) for n, vcpus in enumerate((8, 2, 2))]
    assert [flavor.vcpus for flavor in learn(*guests)[0]] == [2]


@pytest.mark.parametrize("larger", [{"vcpus": 5}, {"memory_mb": 8193}, {"root_gb": 81}])
def test_where_as_many_guests_have_the_one_as_the_other_the_larger_counts(larger: dict[str, int]) -> None:
    """Whichever of the guests was read first: the number does not change with each scrape."""
    flavors = [make_nova_flavor(), make_nova_flavor(**larger)]
    guests = [make_guest(n, nova_flavor=flavor) for n, flavor in enumerate(flavors)]
    ((found,), _), ((again,), _) = learn(*guests), learn(*reversed(guests))
    assert found == again
    assert (found.vcpus, found.memory_mb, found.disk_gb) > (4, 8192, 82)


def test_where_as_many_guests_have_fewer_pcpus_the_larger_counts() -> None:
    flavors = [make_nova_flavor(resources={VCPU: 1, PCPU: pcpus}) for pcpus in (1, 2)]
    ((found,), _) = learn(*(make_guest(n, nova_flavor=flavor) for n, flavor in enumerate(flavors)))
    assert found.pcpus == 2


def test_where_as_many_guests_are_pinned_as_are_not_those_with_shared_vcpus_count() -> None:
    pinned = make_guest(1, nova_flavor=make_nova_flavor(), vcpu_pins={n: frozenset({n}) for n in range(4)})
    shared = make_guest(2, nova_flavor=make_nova_flavor())
    ((found,), _) = learn(pinned, shared, dedicated=frozenset(range(4)))
    assert (found.vcpus, found.pcpus) == (4, 0)


@pytest.mark.parametrize(
    ("resources", "vcpus", "pcpus"), [({VCPU: 3}, 3, 0), ({PCPU: 2}, 0, 2), ({VCPU: 3, PCPU: 2}, 3, 2)]
)
def test_of_a_flavor_that_says_what_it_asks_for_no_cpu_besides_counts(
    resources: dict[ResourceClass, int], vcpus: int, pcpus: int
) -> None:
    ((found,), _) = learn(make_guest(nova_flavor=make_nova_flavor(resources=resources)))
    assert (found.vcpus, found.pcpus) == (vcpus, pcpus)


def test_of_too_many_flavors_those_with_the_most_guests_are_kept_and_it_is_said() -> None:
    names = [f"f{number:03}" for number in range(MAX_LEARNT_FLAVORS + 1)]
    guests = [make_guest(n, nova_flavor=make_nova_flavor(name)) for n, name in enumerate([*names, names[-1]])]
    learnt, problems = learn(*guests)
    assert [flavor.name for flavor in learnt] == [names[-1], *names[:-2]]
    (problem,) = problems
    assert (problem.severity, problem.reason) == (Severity.NOTE, "flavors")
    assert str(len(names)) in problem.message


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("m1.large", "m1.large"),
        ("große Platte", "große Platte"),
        ("a\nb\x1b[31m", "a\ufffdb\ufffd[31m"),
        ("n" * 10_000, "n" * (MAX_LABEL_LENGTH - 1) + "…"),
    ],
)
def test_a_name_out_of_a_guest_is_short_and_printable(name: str, label: str) -> None:
    learnt, _ = learn(make_guest(nova_flavor=make_nova_flavor(name)))
    assert [flavor.name for flavor in learnt] == [label]


def test_a_flavor_that_asks_for_nothing_is_not_learnt() -> None:
    flavor = make_nova_flavor(vcpus=0, memory_mb=0, root_gb=0, ephemeral_gb=0, swap_mb=0)
    assert learn(make_guest(nova_flavor=flavor)) == ([], ())

"""What guests add is kept while they are the same, and the sum is always what it would be from scratch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.config.settings import HypervisorConfig
from exporter.model import (
    Disk,
    DomainInfo,
    DomainState,
    Flavor,
    FreeNumaMemory,
    Guest,
    GuestNumaCell,
    ImageSize,
    NovaFlavor,
    PageSize,
    Reading,
    ResourceClass,
    UnsizedImage,
)
from exporter.virt.guests.contribution import Contributions
from exporter.virt.guests.guest_xml import make_unread_guest
from exporter.virt.resources import get_available_resource
from tests.support.records import (
    GIB,
    make_capabilities,
    make_cell,
    make_disk,
    make_domain,
    make_domains_reading,
    make_guest,
    make_reading,
    make_uuid,
)

NOTHING_DEDICATED = frozenset[int]()
CPUS = 8
Sizes = tuple[ImageSize | UnsizedImage, ...]

# One guest that takes part in everything that depends on guests: a NUMA cell, pins, a flavor, an image.
LAID_OUT = make_guest(
    numa_cells=(
        GuestNumaCell(host_cell=0, vcpus=frozenset({0, 1}), memory_kib=4 * 2048, page_size_kib=2048),
    ),
    vcpu_pins={0: frozenset({2})},
    emulator_pins=frozenset({3}),
    disks=(make_disk(),),
)


def make_host(**changes: Any) -> Reading:
    """Return a host with a NUMA cell that has huge pages, all of them free."""
    cpus = frozenset(range(CPUS))
    cell = make_cell(pages=(PageSize(size_kib=4, total=2**20), PageSize(size_kib=2048, total=100)), cpus=cpus)
    return make_reading(
        capabilities=make_capabilities(cells=(cell,)),
        free_numa_memory={0: FreeNumaMemory(free_bytes=GIB, free_pages={4: 2**18, 2048: 100})},
        **changes,
    )


def make_config(**options: Any) -> HypervisorConfig:
    flavor = Flavor(name="paged", vcpus=0, pcpus=1, memory_mb=2, disk_gb=1, numa_cells=1, page_size_kib=2048)
    return HypervisorConfig(uri="test:///default", flavors=(flavor,), **options)


def test_what_a_guest_adds_is_worked_out_once() -> None:
    kept = Contributions()
    guests = [make_guest(number, disks=(make_disk(),)) for number in (1, 2)]
    sizes = [[ImageSize(virtual_bytes=9, allocated_bytes=1)] for _ in guests]
    first = kept.get(make_domains_reading(guests, sizes=sizes), dedicated_cpus=NOTHING_DEDICATED)
    grown = [[ImageSize(virtual_bytes=9, allocated_bytes=1)], [ImageSize(virtual_bytes=9, allocated_bytes=2)]]
    second = kept.get(make_domains_reading(guests, sizes=grown), dedicated_cpus=NOTHING_DEDICATED)
    assert second[0] is first[0]
    assert [each.growth_bytes for each in (*first, *second)] == [8, 8, 8, 7]


def test_a_guest_that_was_read_again_is_worked_out_again() -> None:
    kept = Contributions()
    for vcpus in (2, 4):
        (added,) = kept.get(
            make_domains_reading([make_guest(maximum_vcpus=vcpus)]), dedicated_cpus=NOTHING_DEDICATED
        )
        assert added.claim[ResourceClass.VCPU] == vcpus


def test_other_dedicated_cpus_change_what_every_guest_adds() -> None:
    kept = Contributions()
    reading = make_domains_reading([LAID_OUT], sizes=[[UnsizedImage(None)]])
    found = [kept.get(reading, dedicated_cpus=frozenset(cpus))[0] for cpus in ((), (2, 3), (2,), ())]
    assert [each.claim[ResourceClass.PCPU] for each in found] == [0, 2, 1, 0]
    assert [each.isolated_cpus for each in found] == [frozenset(), {3}, frozenset(), frozenset()]


def test_a_guest_that_is_gone_or_cannot_be_read_adds_nothing() -> None:
    kept = Contributions()
    reading = make_domains_reading([make_guest(1), make_guest(2)])
    assert len(kept.get(reading, dedicated_cpus=NOTHING_DEDICATED)) == 2
    reading = replace(make_domains_reading([make_guest(1)]), guests={make_uuid(1): None, make_uuid(3): None})
    assert kept.get(reading, dedicated_cpus=NOTHING_DEDICATED) == []


def test_pinned_and_isolated_cpus_are_taken_from_the_guests_cell() -> None:
    """Shows it for a guest that is shut off: they are kept for it."""
    domains = [make_domain(1, DomainState.SHUTOFF)]
    reading = make_host(guests=[LAID_OUT], sizes=[[UnsizedImage(None)]], domains=domains)
    resources = get_available_resource(reading, make_config(cpu_dedicated_set="2-7"))
    assert resources.numa_topology is not None
    assert resources.numa_topology[0].pinned_cpus == {2}
    (found,) = resources.flavor_slots
    assert (found.slots, found.limited_by) == (6 - 2, {ResourceClass.PCPU})


@pytest.mark.parametrize(("state", "slots"), [(DomainState.RUNNING, 20), (DomainState.SHUTOFF, 20 - 4)])
def test_huge_pages_of_a_guest_are_free_until_it_starts(state: DomainState, slots: int) -> None:
    flavor = Flavor(name="paged", vcpus=1, memory_mb=2, disk_gb=0, numa_cells=1, page_size_kib=2048)
    config = replace(make_config(), flavors=(flavor,))
    reading = replace(
        make_host(guests=[LAID_OUT], sizes=[[UnsizedImage(None)]], domains=[make_domain(1, state)]),
        free_numa_memory={0: FreeNumaMemory(free_bytes=GIB, free_pages={4: 2**18, 2048: 20})},
    )
    (found,) = get_available_resource(reading, config).flavor_slots
    assert (found.slots, found.limited_by) == (slots, {ResourceClass.MEMORY_MB})


# Whatever changes between two readings.

CPU = st.integers(0, CPUS - 1)


def draw_sizes(images: tuple[Disk, ...]) -> st.SearchStrategy[Sizes]:
    size = st.one_of(
        st.builds(ImageSize, virtual_bytes=st.integers(0, 3 * GIB), allocated_bytes=st.integers(0, 3 * GIB)),
        st.sampled_from([UnsizedImage(None), UnsizedImage("gone")]),
    )
    return st.tuples(*(size for _ in images))


@st.composite
def draw_guest(draw: st.DrawFn, number: int) -> Guest:
    flavor = st.builds(
        NovaFlavor,
        name=st.sampled_from(["small", "large"]),
        vcpus=st.integers(1, 4),
        memory_mb=st.integers(1, 4096),
        root_gb=st.integers(0, 9),
        ephemeral_gb=st.just(0),
        swap_mb=st.integers(0, 2048),
        resources=st.dictionaries(st.sampled_from(ResourceClass), st.integers(0, 3), max_size=1),
    )
    pins = st.frozensets(CPU, min_size=1, max_size=2)
    part = st.builds(
        GuestNumaCell,
        host_cell=st.sampled_from([0, 1, None]),
        vcpus=st.frozensets(st.integers(0, 3), max_size=3),
        memory_kib=st.integers(0, 20 * 2048),
        page_size_kib=st.sampled_from([4, 2048, None]),
    )
    return make_guest(
        number,
        vcpus=draw(st.integers(1, 4)),
        maximum_vcpus=draw(st.integers(1, 8)),
        maximum_memory_kib=draw(st.integers(1, 2**24)),
        disks=tuple(
            make_disk(driver_format=draw(st.sampled_from(["qcow2", "raw"])), device=device)
            for device in draw(st.lists(st.sampled_from(["disk", "cdrom"]), max_size=2))
        ),
        nova_flavor=draw(st.none() | flavor),
        metadata_error=draw(st.sampled_from([None, "broken"])),
        is_volume_backed=draw(st.booleans()),
        numa_cells=tuple(draw(st.lists(part, max_size=2))),
        emulator_pins=draw(st.frozensets(CPU, max_size=2)),
        vcpu_pins=draw(st.dictionaries(st.integers(0, 3), pins, max_size=2)),
    )


class Host:
    """A host on which a drawn change happens between two readings."""

    def __init__(self) -> None:
        self.guests: dict[int, Guest | None] = {}
        self.sizes: dict[int, Sizes] = {}
        self.states: dict[int, DomainState] = {}
        self.config = make_config()

    def change(self, draw: Any) -> None:
        """Have a guest come, go, start, stop, be read anew, or its images grow; or settings change."""
        what = draw(
            st.sampled_from(["come", "vanish", "state", "grow", "unread", "settings"]), label="change"
        )
        if what == "settings":
            self.config = make_config(
                cpu_dedicated_set=draw(st.sampled_from([None, "2-7", "2-3"])),
                flavors_from_guests=draw(st.booleans()),
                cpu_allocation_ratio=draw(st.sampled_from([1.0, 16.0])),
            )
        elif what == "come" or not self.guests:
            number = draw(st.integers(1, 3), label="guest")
            guest = draw(draw_guest(number))
            self.guests[number], self.states[number] = guest, DomainState.RUNNING
            self.sizes[number] = draw(draw_sizes(guest.images))
        else:
            self._change_guest(what, draw(st.sampled_from(sorted(self.guests)), label="guest"), draw)

    def _change_guest(self, what: str, number: int, draw: Any) -> None:
        guest = self.guests[number]
        if what == "vanish":
            del self.guests[number], self.states[number], self.sizes[number]
        elif what == "state":
            self.states[number] = draw(st.sampled_from(DomainState))
        elif what == "unread":
            self.guests[number] = None
        elif guest is not None:
            self.sizes[number] = draw(draw_sizes(guest.images))

    def read(self) -> Reading:
        """Return what a refresh would read now: lists of sizes are new ones each time."""
        reading = make_host()
        domains = make_domains_reading(
            domains=[make_domain(number, state) for number, state in self.states.items()]
        )
        known = {number: guest for number, guest in self.guests.items() if guest is not None}
        return replace(
            reading,
            domains=replace(
                domains,
                guests={make_uuid(number): guest for number, guest in self.guests.items()},
                images={make_uuid(number): list(self.sizes[number]) for number in known},
            ),
        )


@settings(max_examples=50)
@given(st.data())
def test_after_any_changes_the_numbers_are_those_from_scratch(data: st.DataObject) -> None:
    host, kept = Host(), Contributions()
    for _ in range(data.draw(st.integers(2, 10), label="readings")):
        host.change(data.draw)
        reading = host.read()
        assert get_available_resource(reading, host.config, kept) == get_available_resource(
            reading, host.config
        )


@pytest.mark.parametrize(("dedicated", "pinned"), [("", frozenset({2})), ("2-3", None)])
def test_a_guest_that_was_never_read_hides_pins_only_where_cpus_are_dedicated(
    dedicated: str, pinned: frozenset[int] | None
) -> None:
    """Shows that one that is frozen since the start costs no other guest's numbers on most hosts."""
    unread = make_unread_guest(make_domain(2), DomainInfo(vcpus=1, memory_kib=1024, maximum_memory_kib=1024))
    reading = make_host(guests=[LAID_OUT, unread], online_cpus=frozenset(range(CPUS)))
    resources = get_available_resource(reading, make_config(cpu_dedicated_set=dedicated or None))
    assert [cell.pinned_cpus for cell in resources.numa_topology or ()] == [pinned]

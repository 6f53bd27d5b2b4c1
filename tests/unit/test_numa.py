"""NUMA cells: how what is free is asked for, Nova's topology of them, and their series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from exporter.collectors import numa
from exporter.config.settings import HypervisorConfig
from exporter.errors import ConnectionLostError, ExporterError, HypervisorError, UnsupportedError
from exporter.model import (
    FreeNumaMemory,
    HostNumaCell,
    MemoryPages,
    NumaCell,
    PageSize,
    ReservedPages,
    Severity,
)
from exporter.virt.cpu_cells import read_cpu_cells
from exporter.virt.resources import get_available_resource
from exporter.virt.sources.numa import NumaMemory, has_outgrown
from tests.support.records import make_capabilities, make_guest, make_host_cell, make_reading, make_snapshot

SMALL_AND_HUGE = (PageSize(size_kib=4, total=1000), PageSize(size_kib=2048, total=8))


def make_cell(number: int, *cpus: int, pages: Sequence[PageSize] = SMALL_AND_HUGE) -> NumaCell:
    """Return a cell with these CPUs."""
    return NumaCell(
        id=number,
        memory_kib=4096,
        pages=tuple(pages),
        cpus=frozenset(cpus),
    )


@dataclass
class Cells:
    """A hypervisor whose every cell has 1000 bytes free for each of its number, and as many pages."""

    asked: list[tuple[object, ...]] = field(default_factory=list)
    memory_error: ExporterError | None = None
    pages_error: ExporterError | None = None

    def get_cells_free_memory(self, first_cell: int, cells: int) -> tuple[int, ...]:
        self.asked.append(("memory", first_cell, cells))
        if self.memory_error:
            raise self.memory_error
        return tuple(1000 * cell for cell in range(first_cell, first_cell + cells))

    def get_free_pages(
        self, sizes_kib: Sequence[int], first_cell: int, cells: int
    ) -> Mapping[int, Mapping[int, int]]:
        self.asked.append(("pages", tuple(sizes_kib), first_cell, cells))
        if self.pages_error:
            raise self.pages_error
        return {cell: dict.fromkeys(sizes_kib, 1000 * cell) for cell in range(first_cell, first_cell + cells)}


def test_all_cells_are_asked_for_in_two_calls() -> None:
    cells = Cells()
    memory = NumaMemory(cells)
    free = memory.read([make_cell(0), make_cell(1), make_cell(2)])
    assert cells.asked == [("memory", 0, 3), ("pages", (4, 2048), 0, 3)]
    assert free[2] == FreeNumaMemory(free_bytes=2000, free_pages={4: 2000, 2048: 2000})
    assert sorted(free) == [0, 1, 2]
    assert memory.get_problems() == ()


def test_cells_numbered_with_a_gap_or_with_other_pages_are_asked_for_apart() -> None:
    """libvirt refuses a range with a cell in it that is not there or lacks one of the page sizes."""
    cells = Cells()
    small = (PageSize(size_kib=4, total=1000),)
    free = NumaMemory(cells).read(
        [make_cell(8), make_cell(0), make_cell(9, pages=small), make_cell(10, pages=small)]
    )
    assert cells.asked == [
        ("memory", 0, 1),
        ("pages", (4, 2048), 0, 1),
        ("memory", 8, 1),
        ("pages", (4, 2048), 8, 1),
        ("memory", 9, 2),
        ("pages", (4,), 9, 2),
    ]
    assert {cell: each.free_bytes for cell, each in free.items()} == {0: 0, 8: 8000, 9: 9000, 10: 10000}


def test_a_host_without_cells_is_asked_nothing() -> None:
    cells = Cells()
    assert NumaMemory(cells).read([]) == {}
    assert cells.asked == []


def test_a_cell_without_page_sizes_is_not_asked_for_pages() -> None:
    cells = Cells()
    assert NumaMemory(cells).read([make_cell(1, pages=())]) == {
        1: FreeNumaMemory(free_bytes=1000, free_pages={})
    }
    assert cells.asked == [("memory", 1, 1)]


def test_what_libvirt_cannot_tell_is_asked_once_a_connection_and_is_no_problem() -> None:
    cells = Cells(pages_error=UnsupportedError("no such call"))
    memory = NumaMemory(cells)
    for _ in range(2):
        assert memory.read([make_cell(1)]) == {1: FreeNumaMemory(free_bytes=1000, free_pages={})}
    assert [call for call, *_ in cells.asked] == ["memory", "pages", "memory"]
    assert memory.get_problems() == ()
    memory.note_reconnected()
    memory.read([make_cell(1)])
    assert cells.asked[-1] == ("pages", (4, 2048), 1, 1)


def test_what_libvirt_fails_at_costs_its_own_numbers_and_is_told() -> None:
    memory = NumaMemory(Cells(memory_error=HypervisorError("no /sys")))
    free = memory.read([make_cell(1)])
    assert free == {1: FreeNumaMemory(free_bytes=None, free_pages={4: 1000, 2048: 1000})}
    (problem,) = memory.get_problems()
    assert (problem.severity, problem.reason) == (Severity.ERROR, "libvirt")
    assert problem.message == "virNodeGetCellsFreeMemory, cell 1: no /sys"


def test_a_lost_connection_ends_the_reading() -> None:
    with pytest.raises(ConnectionLostError):
        NumaMemory(Cells(pages_error=ConnectionLostError("broken pipe"))).read([make_cell(0)])


@pytest.mark.parametrize(
    ("free_pages", "outgrown"),
    [({4: 1000, 2048: 8}, False), ({4: 0, 2048: 9}, True), ({}, False)],
    ids=["all-free", "more-free-than-there-were", "unknown"],
)
def test_more_free_pages_than_there_are_mean_that_the_capabilities_are_old(
    free_pages: Mapping[int, int], outgrown: bool
) -> None:
    free = {0: FreeNumaMemory(free_bytes=1, free_pages=free_pages)}
    assert has_outgrown([make_cell(0), make_cell(1)], free) is outgrown


def configure(**options: str) -> HypervisorConfig:
    return HypervisorConfig(uri="test:///default", **options)


WITHOUT_CPU_SETS = configure()


def make_topology(
    *cells: NumaCell,
    options: HypervisorConfig = WITHOUT_CPU_SETS,
    free: Mapping[int, FreeNumaMemory] | None = None,
    pins: Mapping[int, frozenset[int]] | None = None,
    online: frozenset[int] = frozenset(range(8)),
) -> tuple[HostNumaCell, ...]:
    """Return the topology of a host with one guest."""
    reading = make_reading(
        capabilities=make_capabilities(cells=cells),
        guests=[make_guest(vcpu_pins=pins or {})],
        online_cpus=online,
        available_cpus=frozenset(range(8)) if options.cpu_power_management else None,
        free_numa_memory=free or {},
    )
    topology = get_available_resource(reading, options).numa_topology
    assert topology is not None
    return topology


@pytest.mark.parametrize(
    ("options", "cpuset", "pcpuset"),
    [
        ({}, {0, 1, 2, 3}, {0, 1, 2, 3}),
        ({"vcpu_pin_set": "1-5"}, {1, 2, 3}, {1, 2, 3}),
        ({"cpu_shared_set": "1-5"}, {1, 2, 3}, set()),
        ({"cpu_dedicated_set": "1-5"}, set(), {1, 2, 3}),
        ({"cpu_shared_set": "0-1", "cpu_dedicated_set": "3,7"}, {0, 1}, {3}),
        ({"vcpu_pin_set": "0,4", "cpu_shared_set": "1-5"}, {0}, {0}),
    ],
    ids=lambda value: str(value),
)
def test_the_cpus_of_a_cell_are_shared_and_dedicated_as_nova_has_it(
    options: dict[str, str], cpuset: set[int], pcpuset: set[int]
) -> None:
    (cell,) = make_topology(make_cell(0, 0, 1, 2, 3), options=configure(**options))
    assert cell.cpus == {0, 1, 2, 3}
    assert cell.cpuset == cpuset
    assert cell.pcpuset == pcpuset


@pytest.mark.parametrize(
    ("options", "cpuset", "pcpuset"),
    [
        ({}, {0, 2}, {0, 2}),
        ({"cpu_shared_set": "2"}, {2}, set()),
        ({"cpu_shared_set": "0", "cpu_dedicated_set": "1-3"}, {0}, {1, 2, 3}),
    ],
    ids=lambda value: str(value),
)
def test_the_cpus_of_a_cell_are_those_that_are_online_and_dedicated_ones_that_nova_powered_down(
    options: dict[str, str], cpuset: set[int], pcpuset: set[int]
) -> None:
    """Shows it for a cell of 0 to 3, of which libvirt lists all, and 1 and 3 are offline."""
    (cell,) = make_topology(
        make_cell(0, 0, 1, 2, 3),
        options=replace(configure(**options), cpu_power_management=True),
        online=frozenset({0, 2, 4}),
    )
    assert (cell.cpus, cell.cpuset, cell.pcpuset) == ({0, 2}, cpuset, pcpuset)


def test_dedicated_cpus_that_are_offline_are_in_the_cells_that_the_kernel_tells(tmp_path: Path) -> None:
    """Shows it where libvirt lists online CPUs only; with one cell, it needs no telling."""
    for cell, cpus in {0: (0, 1, 2), 1: (3, 4, 5)}.items():
        for cpu in cpus:
            (tmp_path / f"node{cell}" / f"cpu{cpu}").mkdir(parents=True)
        (tmp_path / f"node{cell}" / "cpumap").touch()
    (tmp_path / "possible").touch()
    by_cell = read_cpu_cells(tmp_path)
    assert by_cell == {0: {0, 1, 2}, 1: {3, 4, 5}}
    assert read_cpu_cells(tmp_path / "none") == {}
    options = replace(configure(cpu_shared_set="0", cpu_dedicated_set="1-5"), cpu_power_management=True)
    reading = make_reading(
        capabilities=make_capabilities(cells=(make_cell(0, 0), make_cell(1, 3))),
        online_cpus=frozenset({0, 3}),
        available_cpus=frozenset(range(6)),
        cpus_by_cell=by_cell,
    )
    first, second = get_available_resource(reading, options).numa_topology or ()
    assert (first.cpus, first.cpuset, first.pcpuset) == ({0}, {0}, {1, 2})
    assert (second.cpus, second.cpuset, second.pcpuset) == ({3}, set(), {3, 4, 5})
    single = replace(reading, capabilities=make_capabilities(cells=(make_cell(0, 0, 3),)), cpus_by_cell={})
    (cell,) = get_available_resource(single, options).numa_topology or ()
    assert (cell.cpus, cell.pcpuset) == ({0, 3}, {1, 2, 3, 4, 5})


def test_of_the_threads_of_a_core_those_that_guests_may_use_are_its_siblings() -> None:
    cell = replace(
        make_cell(0, 0, 1, 2, 3, 6),
        siblings=frozenset({frozenset({0, 2}), frozenset({1, 3}), frozenset({6})}),
    )
    options = configure(cpu_shared_set="0", cpu_dedicated_set="1,3,2")
    (found,) = make_topology(cell, options=options)
    assert found.siblings == ({0, 2}, {1, 3})


def test_a_cpu_is_pinned_where_a_vcpu_may_run_there_only_and_on_dedicated_cpus_alone() -> None:
    pins = {0: frozenset({2}), 1: frozenset({6}), 2: frozenset({3, 7}), 3: frozenset({0})}
    options = configure(cpu_shared_set="0-1", cpu_dedicated_set="2-7")
    cells = make_topology(make_cell(0, 0, 1, 2, 3), make_cell(1, 4, 5, 6, 7), options=options, pins=pins)
    assert [cell.pinned_cpus for cell in cells] == [{2}, {6}]


def test_what_is_free_is_put_to_its_cell() -> None:
    free = {1: FreeNumaMemory(free_bytes=77, free_pages={2048: 5})}
    unknown, known = make_topology(make_cell(0, 0), make_cell(1, 1), free=free)
    assert (known.memory_free_bytes, unknown.memory_free_bytes) == (77, None)
    assert known.mempages == (
        MemoryPages(size_kib=4, total=1000, free=None),
        MemoryPages(size_kib=2048, total=8, free=5),
    )
    assert {each.free for each in unknown.mempages} == {None}


def test_a_cells_series_are_in_cpus_bytes_and_pages() -> None:
    samples = {
        (sample.metric.name, sample.labels.get("page_size_bytes")): sample.value
        for sample in numa.COLLECTOR.collect(make_snapshot(numa_topology=(make_host_cell(),)))
    }
    assert samples == {
        ("hypervisor_numa_cell_cpus", None): 4,
        ("hypervisor_numa_cell_dedicated_cpus", None): 3,
        ("hypervisor_numa_cell_pinned_cpus", None): 2,
        ("hypervisor_numa_cell_memory_size_bytes", None): 8 * 2**30,
        ("hypervisor_numa_cell_memory_free_bytes", None): 2 * 2**30,
        ("hypervisor_numa_cell_pages", "4096"): 2**20,
        ("hypervisor_numa_cell_pages_free", "4096"): 2**19,
        ("hypervisor_numa_cell_pages_reserved", "4096"): 0,
        ("hypervisor_numa_cell_pages", "2097152"): 2048,
        ("hypervisor_numa_cell_pages_free", "2097152"): 512,
        ("hypervisor_numa_cell_pages_reserved", "2097152"): 0,
    }


def test_reserved_pages_are_those_of_their_cell_and_size_and_the_last_count_holds() -> None:
    """As in Nova, what is reserved of a cell or of pages that are not there changes nothing."""
    reserved = [(1, 2048, 3), (1, 2048, 5), (0, 4, 7), (9, 4, 1), (0, 2**20, 1), (0, 0.5, 1)]
    pages = tuple(ReservedPages(node=node, size_kib=size, count=count) for node, size, count in reserved)
    options = replace(WITHOUT_CPU_SETS, reserved_huge_pages=pages)
    cells = make_topology(make_cell(0, 0), make_cell(1, 1), options=options)
    assert [[(each.size_kib, each.reserved) for each in cell.mempages] for cell in cells] == [
        [(4, 7), (2048, 0)],
        [(4, 0), (2048, 5)],
    ]


def test_a_host_without_cells_has_no_series() -> None:
    assert list(numa.COLLECTOR.collect(make_snapshot(numa_topology=None))) == []

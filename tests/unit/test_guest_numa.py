"""A guest's NUMA cells, out of what Nova and others write to lay a guest out on its host."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from exporter.cpu_spec import CpuSpecs
from exporter.model import LARGE_PAGES, GuestNumaCell
from exporter.virt.guests.numa import parse_guest_numa_cells

TWO_CELLS = """<cpu><numa>
  <cell id='0' cpus='0-1' memory='2097152' unit='KiB'/><cell id='1' cpus='2' memory='1' unit='GiB'/>
</numa></cpu>"""


def parse(*parts: str, vcpus: int = 3) -> tuple[GuestNumaCell, ...]:
    xml = f"<domain><memory unit='GiB'>3</memory><vcpu>{vcpus}</vcpu>{''.join(parts)}</domain>"
    return parse_guest_numa_cells(ElementTree.fromstring(xml), CpuSpecs())


def backed_by(*pages: str) -> str:
    return f"<memoryBacking><hugepages>{''.join(pages)}</hugepages></memoryBacking>"


def test_a_guest_without_cells_and_huge_pages_has_no_layout() -> None:
    assert parse("<numatune><memory nodeset='0'/></numatune>") == ()


def test_each_cell_is_tied_to_the_hosts_cell_and_pages_that_nova_chose() -> None:
    tune = """<numatune><memory mode='strict' nodeset='0-1'/>
      <memnode cellid='0' mode='strict' nodeset='1'/>
      <memnode cellid='1' mode='strict' nodeset='0'/></numatune>"""
    pages = backed_by("<page size='2048' unit='KiB' nodeset='0'/>", "<page size='1' unit='G' nodeset='1'/>")
    assert parse(TWO_CELLS, tune, pages) == (
        GuestNumaCell(host_cell=1, vcpus=frozenset({0, 1}), memory_kib=2 * 2**20, page_size_kib=2048),
        GuestNumaCell(host_cell=0, vcpus=frozenset({2}), memory_kib=2**20, page_size_kib=2**20),
    )


def test_pages_without_a_nodeset_are_those_of_all_other_cells() -> None:
    pages = backed_by("<page size='1' unit='G'/>", "<page size='2' unit='M' nodeset='1'/>")
    assert [cell.page_size_kib for cell in parse(TWO_CELLS, pages)] == [2**20, 2048]


@pytest.mark.parametrize(
    ("tune", "host_cell"),
    [
        ("", None),
        ("<numatune><memory nodeset='1'/></numatune>", 1),
        ("<numatune><memory nodeset='0-1'/></numatune>", None),
        ("<numatune><memory placement='auto'/></numatune>", None),
    ],
)
def test_cells_lie_where_all_of_the_memory_has_to_lie(tune: str, host_cell: int | None) -> None:
    assert [cell.host_cell for cell in parse(TWO_CELLS, tune)] == [host_cell, host_cell]


def test_cells_without_ids_are_numbered_and_need_no_vcpus() -> None:
    cells = "<cpu><numa><cell cpus='0' memory='4'/><cell memory='8'/></numa></cpu>"
    tune = "<numatune><memnode cellid='1' nodeset='3'/></numatune>"
    assert parse(cells, tune) == (
        GuestNumaCell(host_cell=None, vcpus=frozenset({0}), memory_kib=4, page_size_kib=None),
        GuestNumaCell(host_cell=3, vcpus=frozenset(), memory_kib=8, page_size_kib=None),
    )


def test_a_guest_without_cells_in_huge_pages_is_one_cell() -> None:
    """Of which size they are is up to the host, if the guest does not say."""
    (cell,) = parse(backed_by("<page size='2048' unit='KiB'/>"), "<numatune><memory nodeset='1'/></numatune>")
    assert cell == GuestNumaCell(
        host_cell=1, vcpus=frozenset({0, 1, 2}), memory_kib=3 * 2**20, page_size_kib=2048
    )
    (cell,) = parse(backed_by())
    assert (cell.host_cell, cell.page_size_kib) == (None, LARGE_PAGES)

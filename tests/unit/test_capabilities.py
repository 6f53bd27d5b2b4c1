"""A host's capabilities: its CPU, its NUMA cells, its UUID."""

from __future__ import annotations

import pytest

from exporter.errors import HypervisorError
from exporter.virt.capabilities import parse_capabilities

CELLS = """<capabilities><host><uuid>4c4c4544-0042-4810-8051-b4c04f4d3132</uuid>
  <cpu><arch>x86_64</arch><vendor>Intel</vendor><topology sockets='1' dies='1' cores='2' threads='2'/></cpu>
  <topology><cells num='2'>
    <cell id='0'><memory unit='KiB'>8388608</memory>
      <pages unit='KiB' size='4'>1572864</pages><pages unit='KiB' size='2048'>1024</pages>
      <cpus num='2'>
        <cpu id='0' socket_id='0' siblings='0,2'/><cpu id='2' socket_id='0' siblings='0,2'/>
      </cpus>
    </cell>
    <cell id='1'><memory unit='KiB'>4194304</memory><cpus num='1'><cpu id='1'/></cpus></cell>
  </cells></topology></host>
</capabilities>"""


def test_cells_are_told_with_their_cpus_and_pages() -> None:
    capabilities = parse_capabilities(CELLS)
    first, second = capabilities.cells
    assert (first.id, first.memory_kib, second.id, second.memory_kib) == (0, 8 * 2**20, 1, 4 * 2**20)
    assert [(pages.size_kib, pages.total) for pages in first.pages] == [(4, 1572864), (2048, 1024)]
    assert (first.cpus, second.cpus) == ({0, 2}, {1})
    assert (first.siblings, second.siblings) == ({frozenset({0, 2})}, frozenset())
    cpu = capabilities.cpu_info
    assert (cpu.sockets, cpu.cores, cpu.threads) == (1, 2, 2)
    assert (cpu.arch, cpu.model, cpu.vendor) == ("x86_64", None, "Intel")


@pytest.mark.parametrize("siblings", ["", "0-", "2-0", "0,x", "0-99999999999"])
def test_odd_siblings_cost_nothing_else(siblings: str) -> None:
    """They are named, but for an offline CPU, which has none."""
    capabilities = parse_capabilities(CELLS.replace("siblings='0,2'", f"siblings='{siblings}'"))
    first, _ = capabilities.cells
    assert (first.cpus, first.siblings) == ({0, 2}, frozenset())
    assert ("siblings in NUMA cell '0': " in capabilities.odd_parts) == bool(siblings)
    assert capabilities.has_all_cells == (not siblings), "what fits by whole cores is not known"


def test_of_a_host_that_tells_nothing_nothing_is_known() -> None:
    capabilities = parse_capabilities("<capabilities/>")
    assert (capabilities.uuid, capabilities.cells) == (None, ())
    assert capabilities.cpu_info.arch is None


@pytest.mark.parametrize(
    "xml",
    ["", "<capabilities>", "<!DOCTYPE a><capabilities/>"],
    ids=["nothing", "cut off", "a document type"],
)
def test_odd_capabilities_are_an_error_in_one_line(xml: str) -> None:
    with pytest.raises(HypervisorError, match=r"\Aunexpected (capabilities )?XML: [^\n]+\Z"):
        parse_capabilities(xml)


@pytest.mark.parametrize(
    ("before", "after", "part"),
    [
        ("cell id='0'", "cell", "NUMA cell None: no 'id'"),
        ("cell id='0'", "cell id='zero'", "NUMA cell 'zero': 'zero' is not a whole number"),
        ("cpu id='0'", "cpu id='0-'", "NUMA cell '0': '0-' is not a whole number"),
        ("cpu id='0'", "cpu id='-1'", "NUMA cell '0': '-1' is not a whole number"),
        ("8388608", "much", "NUMA cell '0': 'much' is not a whole number"),
        ("8388608", "-1", "NUMA cell '0': '-1' is not a whole number"),
        ("1572864", "", "NUMA cell '0': '' is not a whole number"),
        ("size='2048'", "", "NUMA cell '0': no 'size'"),
        ("<pages unit='KiB' size='4'", "<pages unit='ells' size='4'", "NUMA cell '0': 'ells' is not a unit"),
    ],
)
def test_an_odd_cell_is_left_out_and_named(before: str, after: str, part: str) -> None:
    healthy = parse_capabilities(CELLS)
    capabilities = parse_capabilities(CELLS.replace(before, after))
    assert capabilities.cells == healthy.cells[1:]
    assert (capabilities.uuid, capabilities.cpu_info) == (healthy.uuid, healthy.cpu_info)
    assert not capabilities.has_all_cells
    assert capabilities.odd_parts.startswith(part)


def test_of_two_cells_with_one_number_neither_is_known() -> None:
    capabilities = parse_capabilities(CELLS.replace("cell id='1'", "cell id='0'"))
    assert (capabilities.cells, capabilities.has_all_cells) == ((), False)
    assert capabilities.odd_parts == "NUMA cell 0: 2 cells of this number, expected 1"


def test_more_cells_than_linux_has_are_not_read() -> None:
    capabilities = parse_capabilities(
        CELLS.replace("<cell id='1'>", "<cell id='1'/>" * 1024 + "<cell id='1'>")
    )
    assert (capabilities.cells, capabilities.has_all_cells) == ((), False)
    assert capabilities.odd_parts == "<cells>: 1026 NUMA cells, 1024 at most are read"


def test_an_odd_number_of_the_cpu_costs_its_label() -> None:
    capabilities = parse_capabilities(CELLS.replace("cores='2'", "cores='two'"))
    cpu = capabilities.cpu_info
    assert (cpu.sockets, cpu.cores, cpu.threads, cpu.vendor) == (1, None, 2, "Intel")
    assert capabilities.has_all_cells
    assert capabilities.odd_parts.startswith("the CPU's topology, cores: 'two' is not a whole number")

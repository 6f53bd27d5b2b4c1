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
    cpu = capabilities.cpu_info
    assert (cpu.sockets, cpu.cores, cpu.threads) == (1, 2, 2)
    assert (cpu.arch, cpu.model, cpu.vendor) == ("x86_64", None, "Intel")


def test_of_a_host_that_tells_nothing_nothing_is_known() -> None:
    capabilities = parse_capabilities("<capabilities/>")
    assert (capabilities.uuid, capabilities.cells) == (None, ())
    assert capabilities.cpu_info.arch is None


@pytest.mark.parametrize(
    "xml",
    [
        "",
        "<capabilities>",
        CELLS.replace("cell id='0'", "cell"),
        CELLS.replace("cpu id='0'", "cpu id='0-'"),
        CELLS.replace("8388608", "much"),
    ],
    ids=["nothing", "cut off", "a cell without id", "a CPU's number", "memory"],
)
def test_odd_capabilities_are_an_error_in_one_line(xml: str) -> None:
    with pytest.raises(HypervisorError, match=r"\Aunexpected (capabilities )?XML: [^\n]+\Z"):
        parse_capabilities(xml)

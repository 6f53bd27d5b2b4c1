"""A host's capabilities: which features its CPU has."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from exporter.errors import ConnectionLostError, ExporterError, HypervisorError, UnsupportedError
from exporter.virt.capabilities import get_capabilities, parse_capabilities

EXPANDED = """<cpu mode='custom'><model>Skylake</model><feature policy='require' name='aes'/>
  <feature policy='require' name='vmx'/><feature policy='disable' name='mpx'/></cpu>"""


def make_xml(cpu: str) -> str:
    return f"<capabilities><host><cpu>{cpu}<feature name='vmx'/></cpu></host></capabilities>"


@dataclass
class Cpu:
    """A hypervisor with this CPU."""

    xml: str
    error: ExporterError | None = None
    expanded: list[str] = field(default_factory=list)

    def get_capabilities_xml(self) -> str:
        return self.xml

    def expand_cpu_features(self, cpu_xml: str) -> str:
        self.expanded.append(cpu_xml)
        if self.error:
            raise self.error
        return EXPANDED


def test_a_cpu_has_all_the_features_that_its_model_stands_for() -> None:
    cpu = Cpu(make_xml("<arch>x86_64</arch><model>Skylake</model>"))
    capabilities = get_capabilities(cpu)
    assert capabilities.cpu_info.features == {"aes", "vmx"}
    assert capabilities.cpu_info.model == "Skylake"
    (asked,) = cpu.expanded
    assert asked.startswith("<cpu>")
    assert '<feature name="vmx" />' in asked


@pytest.mark.parametrize("cpu", ["<arch>x86_64</arch>", "<arch>aarch64</arch><model>Neoverse-N1</model>"])
def test_a_cpu_without_a_model_or_of_arm_is_not_expanded(cpu: str) -> None:
    hypervisor = Cpu(make_xml(cpu))
    assert get_capabilities(hypervisor).cpu_info.features == {"vmx"}
    assert hypervisor.expanded == []


def test_what_libvirt_cannot_expand_stays_as_the_capabilities_have_it() -> None:
    cpu = Cpu(make_xml("<model>Skylake</model>"), error=UnsupportedError("no such call"))
    assert get_capabilities(cpu).cpu_info.features == {"vmx"}


def test_a_connection_lost_meanwhile_is_not_taken_for_a_cpu_that_cannot_be_expanded() -> None:
    with pytest.raises(ConnectionLostError):
        get_capabilities(Cpu(make_xml("<model>Skylake</model>"), error=ConnectionLostError("gone")))


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
  <guest><os_type>HVM</os_type>
    <arch name='amd64'><domain type='kvm'/><domain type='qemu'/></arch>
    <arch name='i386'><domain type='xapi'/></arch>
    <arch name='quantum'><domain type='kvm'/></arch>
  </guest>
  <guest><os_type>baremetal</os_type><arch name='aarch64'><domain type='qemu'/></arch></guest>
</capabilities>"""


def test_cells_are_told_with_their_cpus_and_pages() -> None:
    """A CPU that is not online has neither socket nor siblings."""
    capabilities = parse_capabilities(CELLS)
    first, second = capabilities.cells
    assert (first.id, first.memory_kib, second.id, second.memory_kib) == (0, 8 * 2**20, 1, 4 * 2**20)
    assert [(pages.size_kib, pages.total) for pages in first.pages] == [(4, 1572864), (2048, 1024)]
    assert [(cpu.id, cpu.socket_id, cpu.siblings) for cpu in (*first.cpus, *second.cpus)] == [
        (0, 0, frozenset({0, 2})),
        (2, 0, frozenset({0, 2})),
        (1, None, frozenset()),
    ]
    cpu = capabilities.cpu_info
    assert (cpu.cells, cpu.sockets, cpu.cores, cpu.threads) == (2, 1, 2, 2)
    assert (cpu.arch, cpu.model, cpu.vendor) == ("x86_64", None, "Intel")


def test_instances_bear_the_names_that_nova_has_for_them() -> None:
    """Older names are translated, and architectures that Nova does not know are left out."""
    assert parse_capabilities(CELLS).supported_instances == (
        ("x86_64", "kvm", "hvm"),
        ("x86_64", "qemu", "hvm"),
        ("i686", "xen", "hvm"),
        ("aarch64", "qemu", "hvm"),
    )


def test_a_host_that_tells_nothing_is_one_cell_of_nothing_known() -> None:
    capabilities = parse_capabilities("<capabilities/>")
    assert (capabilities.uuid, capabilities.cells, capabilities.supported_instances) == (None, (), ())
    assert (capabilities.cpu_info.cells, capabilities.cpu_info.arch) == (1, None)


@pytest.mark.parametrize(
    "xml",
    [
        "",
        "<capabilities>",
        CELLS.replace("id='0'", ""),
        CELLS.replace("siblings='0,2'", "siblings='0-'"),
        CELLS.replace("8388608", "much"),
        CELLS.replace("type='kvm'", ""),
    ],
    ids=["nothing", "cut off", "a cell without id", "siblings", "memory", "a domain without type"],
)
def test_odd_capabilities_are_an_error_in_one_line(xml: str) -> None:
    with pytest.raises(HypervisorError, match=r"\Aunexpected (capabilities )?XML: [^\n]+\Z"):
        parse_capabilities(xml)

"""A host's capabilities: which features its CPU has."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from exporter.errors import ConnectionLostError, ExporterError, UnsupportedError
from exporter.virt.capabilities import get_capabilities

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

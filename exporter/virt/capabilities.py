"""virConnectGetCapabilities, parsed to Nova's cpu_info, supported_instances and host NUMA cells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol
from xml.etree import ElementTree

from exporter.cpu_spec import CpuSpecError, CpuSpecs
from exporter.errors import ConnectionLostError, HypervisorError
from exporter.label import make_label_value
from exporter.model import Capabilities, CpuInfo, HostCpu, NumaCell, PageSize
from exporter.virt.libvirt_xml import parse_xml, whole_number

# nova.objects.fields.Architecture, HVType and VMMode: the names Nova knows, and the older ones it translates.
_ARCHITECTURE_NAMES = """
    aarch64 alpha armv6 armv7l armv7b cris i686 ia64 lm32 m68k microblaze microblazeel mips mipsel mips64
    mips64el openrisc parisc parisc64 ppc ppcle ppc64 ppc64le ppcemb s390 s390x sh4 sh4eb sparc sparc64
    unicore32 x86_64 xtensa xtensaeb
"""
_ARCHITECTURES = frozenset(_ARCHITECTURE_NAMES.split())
_ARCHITECTURE_ALIASES = {
    "i386": "i686",
    "i486": "i686",
    "i586": "i686",
    "x86_32": "i686",
    "x86_32p": "i686",
    "amd64": "x86_64",
}
_HYPERVISOR_ALIASES = {"xapi": "xen"}
_VM_MODE_ALIASES = {"pv": "xen", "hv": "hvm", "baremetal": "hvm"}

# Linux supports no more NUMA cells (MAX_NUMNODES). No architecture has as many page sizes.
_MAX_CELLS = 1024
_MAX_PAGE_SIZES = 16
_MAX_FEATURES = 4096


class CpuHypervisor(Protocol):
    """The calls used here. exporter.virt.hypervisor.LibvirtHypervisor implements them."""

    def get_capabilities_xml(self) -> str:
        """Return the host's capabilities."""

    def expand_cpu_features(self, cpu_xml: str) -> str:
        """Return a CPU with all features of its model."""


def get_capabilities(hypervisor: CpuHypervisor) -> Capabilities:
    """Read the capabilities of a host, with all features of its CPU (`Host.get_capabilities`).

    libvirt names a model and the features beyond it. As in Nova, this is not expanded if libvirt knows no
    model or cannot expand it, nor on aarch64, where the expansion loses all features.

    :raises HypervisorError: if they cannot be read, or are not what libvirt documents
    """
    xml = hypervisor.get_capabilities_xml()
    capabilities = parse_capabilities(xml)
    cpu_info = capabilities.cpu_info
    if cpu_info.model is None or cpu_info.arch == "aarch64":
        return capabilities
    try:
        expanded = hypervisor.expand_cpu_features(_find_host_cpu(xml))
    except ConnectionLostError:
        raise
    except (HypervisorError, RecursionError):  # the latter if a CPU is nested a thousand levels deep
        return capabilities
    try:
        features = _features(parse_xml(expanded))
    except (ValueError, KeyError) as error:
        raise HypervisorError(f"unexpected CPU XML: {error}") from error
    return replace(capabilities, cpu_info=replace(cpu_info, features=features))


def _find_host_cpu(xml: str) -> str:
    cpu = parse_xml(xml).find("host/cpu")
    return "" if cpu is None else ElementTree.tostring(cpu, encoding="unicode")


def parse_capabilities(xml: str) -> Capabilities:
    """Parse the capabilities of a host.

    :raises HypervisorError: if they are not what libvirt documents
    """
    try:
        root = parse_xml(xml)
        cells = _cells(root)
        return Capabilities(
            uuid=_label(root.findtext("host/uuid")),
            cpu_info=_cpu_info(root, cells=len(cells)),
            supported_instances=tuple(_supported_instances(root)),
            cells=cells,
        )
    except (CpuSpecError, ValueError, KeyError) as error:
        raise HypervisorError(f"unexpected capabilities XML: {error}") from error


def _cpu_info(root: ElementTree.Element, *, cells: int) -> CpuInfo:
    cpu = root.find("host/cpu")
    if cpu is None:
        cpu = ElementTree.Element("cpu")
    topology = cpu.find("topology")
    count = {} if topology is None else topology.attrib
    return CpuInfo(
        arch=_label(cpu.findtext("arch")),
        model=_label(cpu.findtext("model")),
        vendor=_label(cpu.findtext("vendor")),
        cells=cells or 1,  # Nova counts a host without a topology as one cell
        sockets=_int(count.get("sockets")),
        cores=_int(count.get("cores")),
        threads=_int(count.get("threads")),
        features=_features(cpu),
    )


def _features(cpu: ElementTree.Element) -> frozenset[str]:
    features = [each for each in cpu.iterfind("feature") if each.get("policy") != "disable"]
    if len(features) > _MAX_FEATURES:
        raise ValueError(f"{len(features)} features of a CPU, {_MAX_FEATURES} at most are read")
    return frozenset(make_label_value(each.attrib["name"]) for each in features)


def _supported_instances(root: ElementTree.Element) -> Iterator[tuple[str, str, str]]:
    """Yield (arch, hypervisor type, vm mode); like Nova, leave out architectures that Nova does not know."""
    for guest in root.iterfind("guest"):
        vm_mode = (guest.findtext("os_type") or "").lower()
        for arch_element in guest.iterfind("arch"):
            name = arch_element.attrib["name"].lower()
            arch = _ARCHITECTURE_ALIASES.get(name, name)
            if arch not in _ARCHITECTURES:
                continue
            for domain in arch_element.iterfind("domain"):
                hypervisor = domain.attrib["type"].lower()
                yield (
                    arch,
                    _HYPERVISOR_ALIASES.get(hypervisor, hypervisor),
                    _VM_MODE_ALIASES.get(vm_mode, vm_mode),
                )


def _cells(root: ElementTree.Element) -> tuple[NumaCell, ...]:
    elements = root.findall("host/topology/cells/cell")
    if len(elements) > _MAX_CELLS:
        raise ValueError(f"{len(elements)} NUMA cells, {_MAX_CELLS} at most are read")
    cpu_specs = CpuSpecs()
    cells = tuple(_cell(element, cpu_specs) for element in elements)
    if len({cell.id for cell in cells}) < len(cells):
        raise ValueError("two NUMA cells of one number")
    return cells


def _cell(element: ElementTree.Element, cpu_specs: CpuSpecs) -> NumaCell:
    pages = {
        whole_number(each.attrib["size"]): whole_number(each.text or "0")
        for each in element.iterfind("pages")
    }
    if len(pages) > _MAX_PAGE_SIZES:
        raise ValueError(f"{len(pages)} sizes of pages, {_MAX_PAGE_SIZES} at most are read")
    return NumaCell(
        id=whole_number(element.attrib["id"]),
        memory_kib=whole_number(element.findtext("memory") or "0"),
        pages=tuple(PageSize(size_kib=size, total=total) for size, total in pages.items()),
        cpus=tuple(_host_cpu(cpu, cpu_specs) for cpu in element.iterfind("cpus/cpu")),
    )


def _host_cpu(element: ElementTree.Element, cpu_specs: CpuSpecs) -> HostCpu:
    siblings = element.get("siblings")
    return HostCpu(
        id=whole_number(element.attrib["id"]),
        socket_id=_int(element.get("socket_id")),
        siblings=cpu_specs.parse(siblings) if siblings else frozenset(),
    )


def _int(text: str | None) -> int | None:
    return None if text is None else whole_number(text)


def _label(text: str | None) -> str | None:
    return None if text is None else make_label_value(text)

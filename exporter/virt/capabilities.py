"""virConnectGetCapabilities, parsed to the host's UUID, what Nova calls cpu_info, and its NUMA cells."""

from __future__ import annotations

from xml.etree import ElementTree

from exporter.errors import HypervisorError
from exporter.label import make_label_value
from exporter.model import Capabilities, CpuInfo, NumaCell, PageSize
from exporter.virt.libvirt_xml import parse_xml, whole_number

# Linux supports no more NUMA cells (MAX_NUMNODES). No architecture has as many page sizes.
_MAX_CELLS = 1024
_MAX_PAGE_SIZES = 16


def parse_capabilities(xml: str) -> Capabilities:
    """Parse the capabilities of a host.

    :raises HypervisorError: if they are not what libvirt documents
    """
    try:
        root = parse_xml(xml)
        return Capabilities(
            uuid=_label(root.findtext("host/uuid")),
            cpu_info=_cpu_info(root),
            cells=_cells(root),
        )
    except (ValueError, KeyError) as error:
        raise HypervisorError(f"unexpected capabilities XML: {error}") from error


def _cpu_info(root: ElementTree.Element) -> CpuInfo:
    cpu = root.find("host/cpu")
    if cpu is None:
        cpu = ElementTree.Element("cpu")
    topology = cpu.find("topology")
    count = {} if topology is None else topology.attrib
    return CpuInfo(
        arch=_label(cpu.findtext("arch")),
        model=_label(cpu.findtext("model")),
        vendor=_label(cpu.findtext("vendor")),
        sockets=_int(count.get("sockets")),
        cores=_int(count.get("cores")),
        threads=_int(count.get("threads")),
    )


def _cells(root: ElementTree.Element) -> tuple[NumaCell, ...]:
    elements = root.findall("host/topology/cells/cell")
    if len(elements) > _MAX_CELLS:
        raise ValueError(f"{len(elements)} NUMA cells, {_MAX_CELLS} at most are read")
    cells = tuple(_cell(element) for element in elements)
    if len({cell.id for cell in cells}) < len(cells):
        raise ValueError("two NUMA cells of one number")
    return cells


def _cell(element: ElementTree.Element) -> NumaCell:
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
        cpus=frozenset(whole_number(cpu.attrib["id"]) for cpu in element.iterfind("cpus/cpu")),
    )


def _int(text: str | None) -> int | None:
    return None if text is None else whole_number(text)


def _label(text: str | None) -> str | None:
    return None if text is None else make_label_value(text)

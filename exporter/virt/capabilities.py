"""virConnectGetCapabilities, parsed to the host's UUID, what Nova calls cpu_info, and its NUMA cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from xml.etree import ElementTree

from exporter.cpu_spec import CpuSpecs
from exporter.errors import HypervisorError
from exporter.label import make_label_value
from exporter.model import Capabilities, CpuInfo, NumaCell, PageSize
from exporter.virt.libvirt_xml import OddParts, XmlError, parse_xml, whole_number
from exporter.virt.memory_units import to_kib

# Linux supports no more NUMA cells (MAX_NUMNODES). No architecture has as many page sizes.
_MAX_CELLS = 1024
_MAX_PAGE_SIZES = 16


class CapabilitiesError(HypervisorError):
    """The capabilities, or a part of them, are not what libvirt documents."""

    reason = "capabilities"


def parse_capabilities(xml: str) -> Capabilities:
    """Parse the capabilities of a host. A part that is odd is left out, and named in `odd_parts`.

    :raises CapabilitiesError: if they are not XML
    """
    try:
        root = parse_xml(xml)
    except XmlError as error:
        raise CapabilitiesError(f"unexpected capabilities XML: {error}") from error
    odd, odd_cells = OddParts(), OddParts()
    return Capabilities(
        uuid=_label(root.findtext("host/uuid")),
        cpu_info=_cpu_info(root, odd),
        cells=_cells(root, odd_cells),
        has_all_cells=not odd_cells,
        odd_parts="; ".join(each.describe() for each in (odd, odd_cells) if each),
    )


def _cpu_info(root: ElementTree.Element, odd: OddParts) -> CpuInfo:
    cpu = root.find("host/cpu")
    if cpu is None:
        cpu = ElementTree.Element("cpu")
    topology = cpu.find("topology")
    count = {} if topology is None else topology.attrib

    def read(name: str) -> int | None:
        return odd.read(f"the CPU's topology, {name}", lambda: _int(count.get(name)))

    return CpuInfo(
        arch=_label(cpu.findtext("arch")),
        model=_label(cpu.findtext("model")),
        vendor=_label(cpu.findtext("vendor")),
        sockets=read("sockets"),
        cores=read("cores"),
        threads=read("threads"),
    )


def _cells(root: ElementTree.Element, odd: OddParts) -> tuple[NumaCell, ...]:
    """Return the cells that can be read. Of two with one number, neither can: which is right is not known."""
    elements = root.findall("host/topology/cells/cell")
    if len(elements) > _MAX_CELLS:
        odd.read("<cells>", partial(_refuse, f"{len(elements)} NUMA cells, {_MAX_CELLS} at most are read"))
        return ()
    read = (odd.read(f"NUMA cell {each.get('id')!r:.20}", partial(_cell, each, odd)) for each in elements)
    cells = [cell for cell in read if cell is not None]
    count = Counter(cell.id for cell in cells)
    for number in (number for number, times in count.items() if times > 1):
        odd.read(f"NUMA cell {number}", partial(_refuse, f"{count[number]} cells of this number, expected 1"))
    return tuple(cell for cell in cells if count[cell.id] == 1)


def _refuse(message: str) -> None:
    raise ValueError(message)


def _cell(element: ElementTree.Element, odd: OddParts) -> NumaCell:
    pages = {
        to_kib(each.attrib["size"], each.get("unit")): whole_number(each.text or "")
        for each in element.iterfind("pages")
    }
    if len(pages) > _MAX_PAGE_SIZES:
        raise ValueError(f"{len(pages)} sizes of pages, {_MAX_PAGE_SIZES} at most are read")
    memory = element.find("memory")  # a cell without memory has none
    return NumaCell(
        id=whole_number(element.attrib["id"]),
        memory_kib=0 if memory is None else to_kib(memory.text or "", memory.get("unit")),
        pages=tuple(PageSize(size_kib=size, total=total) for size, total in pages.items()),
        cpus=frozenset(whole_number(cpu.attrib["id"]) for cpu in element.iterfind("cpus/cpu")),
        siblings=frozenset(_list_siblings(element, odd)),
    )


def _list_siblings(cell: ElementTree.Element, odd: OddParts) -> Iterator[frozenset[int]]:
    """Yield the threads of each core: of those that libvirt tells, so not of an offline CPU.

    :param odd: gets those that are odd, which are left out
    """
    specs = CpuSpecs()
    for siblings in sorted({cpu.get("siblings", "") for cpu in cell.iterfind("cpus/cpu")} - {""}):
        threads = odd.read(f"siblings in NUMA cell {cell.get('id')!r:.20}", partial(specs.parse, siblings))
        if threads is not None:
            yield threads


def _int(text: str | None) -> int | None:
    return None if text is None else whole_number(text)


def _label(text: str | None) -> str | None:
    return None if text is None else make_label_value(text)

"""The NUMA cells of a guest: its vCPUs and memory, and the host's cells and pages that they use."""

from __future__ import annotations

from xml.etree import ElementTree

from exporter.cpu_spec import HIGHEST_CPU, CpuSpecs
from exporter.model import LARGE_PAGES, GuestNumaCell
from exporter.virt.libvirt_xml import whole_number
from exporter.virt.memory_units import to_kib

# Linux supports no more cells on a host (MAX_NUMNODES); QEMU supports 128 in a guest.
_MAX_CELLS = 1024


def parse_guest_numa_cells(domain: ElementTree.Element, cpu_specs: CpuSpecs) -> tuple[GuestNumaCell, ...]:
    """Parse the NUMA cells as Nova's _get_guest_numa_config and other tools write them.

    A guest without NUMA cells and huge pages has none: its memory may be anywhere.

    :raises ValueError: if a value is not a number, or there are too many (KeyError if one is missing)
    """
    pages = _page_sizes(domain, cpu_specs)
    cells = domain.findall("cpu/numa/cell")
    if len(cells) > _MAX_CELLS:
        raise ValueError(f"{len(cells)} NUMA cells, {_MAX_CELLS} at most are read")
    if cells:
        anywhere = _parse_single_cell(domain.find("numatune/memory"), cpu_specs)
        host_cells = _host_cells(domain, cpu_specs)
        return tuple(
            _cell(cell, position, host_cells=host_cells, anywhere=anywhere, pages=pages, cpu_specs=cpu_specs)
            for position, cell in enumerate(cells)
        )
    if not pages:
        return ()
    vcpus = whole_number(domain.findtext("vcpu", ""))
    if vcpus > HIGHEST_CPU:
        raise ValueError(f"{vcpus} vCPUs")
    memory = domain.find("memory")
    whole = GuestNumaCell(
        host_cell=_parse_single_cell(domain.find("numatune/memory"), cpu_specs),
        vcpus=frozenset(range(vcpus)),
        memory_kib=0 if memory is None else to_kib(memory.text or "", memory.get("unit")),
        page_size_kib=pages.get(0, pages.get(None)),
    )
    return (whole,)


def _cell(
    cell: ElementTree.Element,
    position: int,
    *,
    host_cells: dict[int, int | None],
    anywhere: int | None,
    pages: dict[int | None, int],
    cpu_specs: CpuSpecs,
) -> GuestNumaCell:
    number = whole_number(cell.get("id", str(position)))
    return GuestNumaCell(
        host_cell=host_cells.get(number, anywhere),
        vcpus=cpu_specs.parse(cell.attrib["cpus"]) if cell.get("cpus") else frozenset(),
        memory_kib=to_kib(cell.attrib["memory"], cell.get("unit")),
        page_size_kib=pages.get(number, pages.get(None)),
    )


def _host_cells(domain: ElementTree.Element, cpu_specs: CpuSpecs) -> dict[int, int | None]:
    """Return the host cell that has the memory of each guest cell, by the guest's cell."""
    return {
        whole_number(memnode.attrib["cellid"]): _parse_single_cell(memnode, cpu_specs)
        for memnode in reversed(domain.findall("numatune/memnode"))
    }


def _page_sizes(domain: ElementTree.Element, cpu_specs: CpuSpecs) -> dict[int | None, int]:
    """Return the huge page size in KiB of each guest cell; the key None is for all others.

    <hugepages> without a size means the host's default, which is not in the XML.
    """
    hugepages = domain.find("memoryBacking/hugepages")
    if hugepages is None:
        return {}
    sizes: dict[int | None, int] = {}
    for page in hugepages.iterfind("page"):
        size_kib = to_kib(page.attrib["size"], page.get("unit"))
        nodes = page.get("nodeset")
        sizes |= dict.fromkeys(cpu_specs.parse(nodes) if nodes else (None,), size_kib)
    return sizes or {None: LARGE_PAGES}


def _parse_single_cell(element: ElementTree.Element | None, cpu_specs: CpuSpecs) -> int | None:
    """Return the NUMA cell of a nodeset with exactly one cell."""
    nodes = None if element is None else element.get("nodeset")
    cells = cpu_specs.parse(nodes) if nodes else frozenset()
    return next(iter(cells)) if len(cells) == 1 else None

"""The NUMA cells of a guest: how its vCPUs and memory lie, and in which of the host's cells and pages."""

from __future__ import annotations

from xml.etree import ElementTree

from exporter.cpu_spec import parse_cpu_spec
from exporter.model import LARGE_PAGES, GuestNumaCell
from exporter.virt.memory_units import to_kib


def parse_guest_numa_cells(domain: ElementTree.Element) -> tuple[GuestNumaCell, ...]:
    """Parse what Nova's _get_guest_numa_config wrote, and what others write to the same end.

    None is there for a guest that neither has NUMA cells nor huge pages: its memory may lie anywhere.

    :raises ValueError: for what is no number (KeyError for what is missing)
    """
    pages = _page_sizes(domain)
    cells = domain.findall("cpu/numa/cell")
    if cells:
        return tuple(_cell(domain, cell, position, pages) for position, cell in enumerate(cells))
    if not pages:
        return ()
    memory = domain.find("memory")
    whole = GuestNumaCell(
        host_cell=_only(domain.find("numatune/memory")),
        vcpus=frozenset(range(int(domain.findtext("vcpu", "")))),
        memory_kib=0 if memory is None else to_kib(memory.text or "", memory.get("unit")),
        page_size_kib=pages.get(0, pages.get(None)),
    )
    return (whole,)


def _cell(
    domain: ElementTree.Element, cell: ElementTree.Element, position: int, pages: dict[int | None, int]
) -> GuestNumaCell:
    number = int(cell.get("id", position))
    memnode = domain.find(f"numatune/memnode[@cellid='{number}']")
    return GuestNumaCell(
        host_cell=_only(domain.find("numatune/memory") if memnode is None else memnode),
        vcpus=parse_cpu_spec(cell.attrib["cpus"]) if cell.get("cpus") else frozenset(),
        memory_kib=to_kib(cell.attrib["memory"], cell.get("unit")),
        page_size_kib=pages.get(number, pages.get(None)),
    )


def _page_sizes(domain: ElementTree.Element) -> dict[int | None, int]:
    """Return the size in KiB of the huge pages of each of the guest's cells; None stands for all others.

    <hugepages> that names no size leaves it to the host's default, which the XML does not tell.
    """
    hugepages = domain.find("memoryBacking/hugepages")
    if hugepages is None:
        return {}
    sizes: dict[int | None, int] = {}
    for page in hugepages.iterfind("page"):
        size_kib = to_kib(page.attrib["size"], page.get("unit"))
        nodes = page.get("nodeset")
        sizes |= dict.fromkeys(parse_cpu_spec(nodes) if nodes else (None,), size_kib)
    return sizes or {None: LARGE_PAGES}


def _only(element: ElementTree.Element | None) -> int | None:
    """Return the one NUMA cell that a nodeset names."""
    nodes = None if element is None else element.get("nodeset")
    cells = parse_cpu_spec(nodes) if nodes else frozenset()
    return next(iter(cells)) if len(cells) == 1 else None

"""NUMA cells: the free memory of each cell.

libvirt fails a call for several cells or page sizes if one of them fails. Then each is asked for alone, so
that only the numbers of that one are missing.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TypeVar

from exporter.compute.source import Source
from exporter.errors import ConnectError, ConnectionLostError, HypervisorError, UnsupportedError
from exporter.model import FreeNumaMemory, NumaCell, Problem, Severity
from exporter.virt.calls import CellHypervisor

T = TypeVar("T")


class NumaMemory(Source):
    """Reads the free memory of the cells: two calls for all of them, unless a cell cannot be read.

    If libvirt does not have these calls, none is made. Both calls read only the host's /sys. No guest can
    block them.
    """

    name = "NUMA memory"
    needs = frozenset({"capabilities"})

    def __init__(self, hypervisor: CellHypervisor) -> None:
        self._hypervisor = hypervisor
        self._unsupported: set[str] = set()
        self._problems: tuple[Problem, ...] = ()
        self._has_read = False

    def get_ages(self) -> Mapping[str, float]:
        """Return its age, which is 0: each refresh reads it."""
        return {"the free memory of NUMA cells": 0.0} if self._has_read else {}

    def get_problems(self) -> Sequence[Problem]:
        """Return the failed calls; their numbers are missing."""
        return self._problems

    def note_reconnected(self) -> None:
        """Try unsupported calls again: a new connection may reach a newer libvirtd."""
        self._unsupported = set()

    def read(self, cells: Sequence[NumaCell]) -> dict[int, FreeNumaMemory]:
        """Return the free memory of each cell, by its id.

        :raises ConnectionLostError: if the connection broke
        """
        self._problems = ()
        self._has_read = bool(cells)
        free: dict[int, FreeNumaMemory] = {}
        for run in _runs(cells):
            first = run[0]
            free_bytes = self._get_free_bytes(first.id, len(run))
            sizes_kib = [pages.size_kib for pages in first.pages]
            free_pages = self._get_free_pages(sizes_kib, first.id, len(run)) if sizes_kib else {}
            for cell in run:
                free[cell.id] = FreeNumaMemory(
                    free_bytes=free_bytes.get(cell.id), free_pages=free_pages.get(cell.id, {})
                )
        return free

    def _get_free_bytes(self, first: int, count: int) -> Mapping[int, int]:
        """Return the free bytes of each of these cells that libvirt tells, by its id."""

        def read() -> Mapping[int, int]:
            return dict(enumerate(self._hypervisor.get_cells_free_memory(first, count), start=first))

        def read_alone() -> Mapping[int, int]:
            each = (self._get_free_bytes(cell, 1) for cell in range(first, first + count))
            return dict(ChainMap(*map(dict, each)))

        return self._ask(
            "virNodeGetCellsFreeMemory",
            read,
            read_alone if count > 1 else None,
            of=f"cell {first}",
        )

    def _get_free_pages(
        self, sizes_kib: Sequence[int], first: int, count: int
    ) -> Mapping[int, Mapping[int, int]]:
        """Return the free pages of each of these cells that libvirt tells, by id and size in KiB."""

        def read() -> Mapping[int, Mapping[int, int]]:
            return self._hypervisor.get_free_pages(sizes_kib, first, count)

        def read_each_cell() -> Mapping[int, Mapping[int, int]]:
            each = (self._get_free_pages(sizes_kib, cell, 1) for cell in range(first, first + count))
            return dict(ChainMap(*map(dict, each)))

        def read_each_size() -> Mapping[int, Mapping[int, int]]:
            each = (self._get_free_pages([size], first, 1).get(first, {}) for size in sizes_kib)
            return {first: dict(ChainMap(*map(dict, each)))}

        alone = read_each_cell if count > 1 else read_each_size if len(sizes_kib) > 1 else None
        return self._ask(
            "virNodeGetFreePages",
            read,
            alone,
            of=f"cell {first}, pages of {', '.join(map(str, sizes_kib))} KiB",
        )

    def _ask(
        self,
        call: str,
        read: Callable[[], Mapping[int, T]],
        read_alone: Callable[[], Mapping[int, T]] | None,
        *,
        of: str,
    ) -> Mapping[int, T]:
        """Make a call; if it fails, read each of its parts alone, if it has several.

        :param of: what the call asks for where it has one part
        """
        if call in self._unsupported:
            return {}
        try:
            return read()
        except (ConnectionLostError, ConnectError):
            raise
        except UnsupportedError:
            self._unsupported.add(call)
        except HypervisorError as error:
            if read_alone is not None:
                return read_alone()
            problem = Problem(
                severity=Severity.ERROR,
                reason=error.reason,
                subject=f"{call}, {of}",
                message=f"{call}, {of}: {error}",
            )
            self._problems = (*self._problems, problem)
        return {}


def _runs(cells: Sequence[NumaCell]) -> Iterator[list[NumaCell]]:
    """Group cells for one call: with consecutive ids and the same page sizes. Normally that is one group.

    Machines whose cell numbers have gaps, or with cells without memory, have more.
    """
    numbered = enumerate(sorted(cells, key=lambda cell: cell.id))
    for _, run in groupby(numbered, key=lambda each: (each[1].id - each[0], _page_sizes(each[1]))):
        yield [cell for _, cell in run]


def _page_sizes(cell: NumaCell) -> tuple[int, ...]:
    return tuple(pages.size_kib for pages in cell.pages)


def has_outgrown(cells: Iterable[NumaCell], free: Mapping[int, FreeNumaMemory]) -> bool:
    """Whether more pages of a size are free than the cells have: then pages were set aside meanwhile."""
    return any(
        free[cell.id].free_pages.get(pages.size_kib, 0) > pages.total
        for cell in cells
        if cell.id in free
        for pages in cell.pages
    )

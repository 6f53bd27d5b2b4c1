"""NUMA cells: the free memory of each cell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TypeVar

from exporter.compute.source import Source
from exporter.errors import ConnectionLostError, HypervisorError, UnsupportedError
from exporter.model import FreeNumaMemory, NumaCell, Problem, Severity
from exporter.virt.calls import CellHypervisor

T = TypeVar("T")


class NumaMemory(Source):
    """Reads the free memory of the cells: two calls for all of them.

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
            free_pages = self._get_free_pages([pages.size_kib for pages in first.pages], run)
            for cell in run:
                free[cell.id] = FreeNumaMemory(
                    free_bytes=free_bytes.get(cell.id), free_pages=free_pages.get(cell.id, {})
                )
        return free

    def _get_free_bytes(self, first: int, count: int) -> dict[int, int]:
        numbers = self._ask(
            "virNodeGetCellsFreeMemory",
            lambda: self._hypervisor.get_cells_free_memory(first, count),
        )
        return dict(enumerate(numbers or (), start=first))

    def _get_free_pages(
        self, sizes_kib: Sequence[int], run: Sequence[NumaCell]
    ) -> Mapping[int, Mapping[int, int]]:
        if not sizes_kib:
            return {}
        numbers = self._ask(
            "virNodeGetFreePages",
            lambda: self._hypervisor.get_free_pages(sizes_kib, run[0].id, len(run)),
        )
        return numbers or {}

    def _ask(self, call: str, read: Callable[[], T]) -> T | None:
        if call in self._unsupported:
            return None
        try:
            return read()
        except ConnectionLostError:
            raise
        except UnsupportedError:
            self._unsupported.add(call)
        except HypervisorError as error:
            problem = Problem(
                severity=Severity.ERROR, reason=error.reason, subject=call, message=f"{call}: {error}"
            )
            self._problems = (*self._problems, problem)
        return None


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

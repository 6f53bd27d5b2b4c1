"""CPU sets as Nova writes them: "4-12,^8,15" (nova.virt.hardware.parse_cpu_spec)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from operator import attrgetter

from exporter.errors import ExporterError

# Far above any kernel's NR_CPUS. Low enough that a mistyped range needs little memory.
HIGHEST_CPU = 65535

_ITEM = re.compile(r"(\^?)\s*(\d+)\s*(?:-\s*(\d+))?", re.ASCII)
_BLANKS = " \t\n\r\f\v"
_QUOTED_LENGTH = 40

# For one document: on the largest hosts, each of 512 vCPUs may have its own set of CPUs.
MAX_CPUS_IN_SETS = 2**18


class CpuSpecError(ExporterError, ValueError):
    """A CPU set is wrong. The message quotes the wrong item."""


def parse_cpu_spec(spec: str) -> frozenset[int]:
    """Parse a CPU set such as "4-12,^8,15", with the same meaning as in Nova.

    Commas separate items. Blanks and empty items are allowed. `^` excludes a CPU or a range, at any position.
    Nova converts with int() and so accepts "+4", "1_0" and the digits of other scripts. These are refused
    here, because they are always mistakes. Both refuse a negative number.

    :raises CpuSpecError: if an item is not a CPU number or range, a range starts past its end, a number is
        above HIGHEST_CPU, or no CPU is left
    """
    return _subtract(*_read(spec), spec)


class CpuSpecs:
    """Parses the CPU sets of one document. Most of them are equal. Their total size is limited.

    Seven characters of a set can need 2 MiB of memory and 2 ms, and a document may contain thousands of sets.
    """

    def __init__(self) -> None:
        self._parsed: dict[str, frozenset[int]] = {}
        self._left = MAX_CPUS_IN_SETS

    def parse(self, spec: str) -> frozenset[int]:
        """Parse a CPU set, or return the earlier result.

        :raises CpuSpecError: as parse_cpu_spec, and if the sets have too many CPUs in total
        """
        known = self._parsed.get(spec)
        if known is not None:
            return known
        if self._left >= 0:  # else it is refused unread
            included, excluded = _read(spec)
            self._left -= len(included) + len(excluded)
        if self._left < 0:
            raise CpuSpecError(f"more than {MAX_CPUS_IN_SETS} CPUs in the sets of one document")
        cpus = self._parsed[spec] = _subtract(included, excluded, spec)
        return cpus


def format_cpu_spec(cpus: Iterable[int]) -> str:
    """Return the shortest text for the CPUs without exclusions: "0-3,8"."""
    ranges: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if ranges and ranges[-1][-1] == cpu - 1:
            ranges[-1][1:] = [cpu]
        else:
            ranges.append([cpu])
    return ",".join("-".join(map(str, ends)) for ends in ranges)


def _read(spec: str) -> tuple[set[int], set[int]]:
    """Return the CPUs that a set includes, and those that it excludes."""
    included: list[range] = []
    excluded: list[range] = []
    for untrimmed in spec.split(","):
        item = untrimmed.strip(_BLANKS)
        if item.startswith("^"):
            excluded.append(_parse_item(item))
        elif item:
            included.append(_parse_item(item))
    return _unite(included), _unite(excluded)


def _subtract(included: set[int], excluded: set[int], spec: str) -> frozenset[int]:
    cpus = frozenset(included - excluded)
    if not cpus:
        raise CpuSpecError(f"{_quote(spec)} leaves no CPU")
    return cpus


def _parse_item(item: str) -> range:
    match = _ITEM.fullmatch(item)
    if match is None:
        raise CpuSpecError(f"{_quote(item)} is neither a CPU number nor a range of them")
    _, first, last = match.groups()
    start = _parse_number(first, item)
    end = start if last is None else _parse_number(last, item)
    if start > end:
        raise CpuSpecError(f"{_quote(item)} starts past its end")
    return range(start, end + 1)


def _unite(ranges: list[range]) -> set[int]:
    """Return what is in any of the ranges. Each CPU is added once, however many ranges have it."""
    cpus: set[int] = set()
    end = 0
    for each in sorted(ranges, key=attrgetter("start")):
        cpus.update(range(max(each.start, end), each.stop))
        end = max(end, each.stop)
    return cpus


def _parse_number(digits: str, item: str) -> int:
    significant = digits.lstrip("0") or "0"
    # Check the length first: int() refuses thousands of digits with its own error.
    if len(significant) > len(str(HIGHEST_CPU)) or int(significant) > HIGHEST_CPU:
        raise CpuSpecError(f"{_quote(item)} is out of bounds, the highest CPU number is {HIGHEST_CPU}")
    return int(significant)


def _quote(text: str) -> str:
    if len(text) > _QUOTED_LENGTH:
        text = text[:_QUOTED_LENGTH] + "…"
    return repr(text)

"""CPU sets as Nova writes them: "4-12,^8,15" (nova.virt.hardware.parse_cpu_spec)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from exporter.errors import ExporterError

# Far above any kernel's NR_CPUS, and low enough that a mistyped range costs no memory.
HIGHEST_CPU = 65535

_ITEM = re.compile(r"(\^?)\s*(\d+)\s*(?:-\s*(\d+))?", re.ASCII)
_BLANKS = " \t\n\r\f\v"
_QUOTED_LENGTH = 40

# Of one document: each of 512 vCPUs may be tied to CPUs of its own choice on the largest hosts.
MAX_CPUS_IN_SETS = 2**18


class CpuSpecError(ExporterError, ValueError):
    """A CPU set cannot be understood; the message quotes the offending item."""


def parse_cpu_spec(spec: str) -> frozenset[int]:
    """Parse a CPU set such as "4-12,^8,15", with Nova's meaning of it.

    Items are separated by commas; blanks and empty items are allowed; `^` excludes a CPU or a range,
    wherever it stands. Nova converts with int() and so lets "+4", "1_0" and the digits of other scripts
    pass: these are refused here, since nobody means them. A negative number is refused by both.

    :raises CpuSpecError: if an item is no CPU number or range, a range starts past its end, a number is
        above HIGHEST_CPU, or no CPU is left
    """
    included: set[int] = set()
    excluded: set[int] = set()
    for untrimmed in spec.split(","):
        item = untrimmed.strip(_BLANKS)
        if not item:
            continue
        target = excluded if item.startswith("^") else included
        target.update(_parse_item(item))
    cpus = frozenset(included - excluded)
    if not cpus:
        raise CpuSpecError(f"{_quote(spec)} leaves no CPU")
    return cpus


class CpuSpecs:
    """Parses the CPU sets of one document, of which most are alike; all of them together are bounded.

    A set takes five characters for 2 MiB of memory, and a document may hold thousands of them.
    """

    def __init__(self) -> None:
        self._parsed: dict[str, frozenset[int]] = {}
        self._left = MAX_CPUS_IN_SETS

    def parse(self, spec: str) -> frozenset[int]:
        """Parse a CPU set, or return what it was parsed to before.

        :raises CpuSpecError: as parse_cpu_spec, and when the sets have too many CPUs in all
        """
        if spec not in self._parsed:
            cpus = parse_cpu_spec(spec)
            self._left -= len(cpus)
            if self._left < 0:
                raise CpuSpecError(f"more than {MAX_CPUS_IN_SETS} CPUs in the sets of one document")
            self._parsed[spec] = cpus
        return self._parsed[spec]


def format_cpu_spec(cpus: Iterable[int]) -> str:
    """Write CPUs the shortest way that parse_cpu_spec reads without exclusions: "0-3,8"."""
    ranges: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if ranges and ranges[-1][-1] == cpu - 1:
            ranges[-1][1:] = [cpu]
        else:
            ranges.append([cpu])
    return ",".join("-".join(map(str, ends)) for ends in ranges)


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


def _parse_number(digits: str, item: str) -> int:
    significant = digits.lstrip("0") or "0"
    # The length comes first because int() refuses thousands of digits with an error of its own.
    if len(significant) > len(str(HIGHEST_CPU)) or int(significant) > HIGHEST_CPU:
        raise CpuSpecError(f"{_quote(item)} is out of bounds, the highest CPU number is {HIGHEST_CPU}")
    return int(significant)


def _quote(text: str) -> str:
    if len(text) > _QUOTED_LENGTH:
        text = text[:_QUOTED_LENGTH] + "…"
    return repr(text)

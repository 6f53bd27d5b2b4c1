"""The measurements as a page: tables between two marks of docs/performance.md, and a plot beside it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import statistics
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path

from bench.contenders import FLOOR, debian_version
from bench.measure import Cost
from bench.plot import Line, draw_plot
from bench.side_by_side import FrozenGuest, SideBySide
from tests.support.debian_exporter import NAME as DEBIAN_EXPORTER

_BEGIN = "<!-- What follows was written by `make bench`. -->"
_END = "<!-- Up to here. -->"


@dataclass
class Measurements:
    """Everything that one run measured.

    :ivar hypervisors: the cost of one exporter, by its number of hypervisors (libvirt's test driver)
    :ivar test_guests: the cost of one hypervisor, by its number of guests (libvirt's test driver)
    """

    command: str
    side_by_side: list[SideBySide] = field(default_factory=list)
    frozen: FrozenGuest | None = None
    hypervisors: dict[int, Cost] = field(default_factory=dict)
    test_guests: dict[int, Cost] = field(default_factory=dict)


def write_page(page: Path, measurements: Measurements) -> None:
    """Put the measurements between the page's marks, or at its end, and the plot beside it."""
    text = page.read_text() if page.exists() else "# Performance\n"
    head, _, rest = text.partition(_BEGIN)
    _, _, tail = rest.partition(_END)
    plot = page.with_suffix(".svg")
    sections = [_describe_run(measurements.command)]
    if measurements.side_by_side:
        draw_plot(plot, _lines(measurements.side_by_side), x="running guests", y="median scrape, ms")
        sections += [
            f"![Median scrape time by running guests]({plot.name})",
            *map(_side_by_side_table, measurements.side_by_side),
            _ratios(measurements.side_by_side),
            _guest_table(measurements.side_by_side),
        ]
    if measurements.frozen is not None:
        sections.append(_frozen_table(measurements.frozen))
    if measurements.hypervisors:
        sections.append(_growth_table("hypervisors", measurements.hypervisors))
    if measurements.test_guests:
        sections.append(_growth_table("guests", measurements.test_guests))
    body = "\n\n".join(sections)
    page.write_text(f"{head.rstrip()}\n\n{_BEGIN}\n\n{body}\n\n{_END}\n{tail.lstrip()}")


def _describe_run(command: str) -> str:
    cpu = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory_gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    facts = [
        f"{os.cpu_count()} CPUs ({cpu[1] if cpu else platform.machine()})",
        f"{memory_gib:.0f} GiB",
        f"Linux {platform.release().partition('-')[0]}",
        _first_line("libvirtd", "--version"),
        _first_line("qemu-system-x86_64", "--version").partition(" (")[0],
        f"Python {platform.python_version()}",
        *_package_versions(),
    ]
    load = os.getloadavg()[2]
    when = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return "\n".join(
        [
            f"`{command}`, {when}:",
            ", ".join(fact for fact in facts if fact) + ".",
            f"The machine's load was {load:.1f} over the last 15 minutes.",
        ]
    )


def _first_line(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.partition("\n")[0]


def _package_versions() -> list[str]:
    if shutil.which("dpkg-query") is None:
        return []
    packages = [DEBIAN_EXPORTER, "python3-nova"]
    return [f"{package} {version}" for package in packages if (version := debian_version(package))]


def _side_by_side_table(measured: SideBySide) -> str:
    header = (
        "scrapes", "median ms", "p99 ms", "refresh ms", "own CPU ms", "libvirtd's CPU ms", "libvirt calls",
        "MiB resident",
    )  # fmt: skip
    rows = {
        name: (
            str(len(cost.scrape_seconds)),
            _ms(cost.median_seconds),
            _ms(cost.p99_seconds),
            _ms(statistics.median(cost.refresh_seconds)) if cost.refresh_seconds else "",
            _ms(_cpu(cost)),
            _ms(cost.per_scrape(cost.libvirtd_cpu_seconds)),
            str(cost.libvirt_calls),
            f"{cost.resident_bytes / 2**20:.1f}",
        )
        for name, cost in measured.costs.items()
    }
    return f"**{measured.guests} running guests**, per scrape\n\n{_table('', header, rows)}"


def _ratios(measured: Sequence[SideBySide]) -> str:
    """Return the table of how much longer the others take than this exporter."""
    others = list(dict.fromkeys(name for each in measured for name in each.costs))[1:]
    rows = {}
    for each in measured:
        warm, *_ = each.costs.values()
        rows[str(each.guests)] = tuple(
            _factor(each.costs[name].median_seconds / warm.median_seconds) if name in each.costs else "-"
            for name in others
        )
    title = "**Time of the others, as a multiple of this exporter's, warm** (by the median)"
    return f"{title}\n\n{_table('running guests', others, rows)}"


def _factor(factor: float) -> str:
    """Return a factor with two significant digits."""
    return f"{factor:,.{0 if factor >= 10 else 1 if factor >= 1 else 2}f}"


def _guest_table(measured: Sequence[SideBySide]) -> str:
    """Return the table of what one more guest costs, from each number of guests to the next."""
    rows = {}
    for fewer, more in pairwise(measured):
        for name in (next(iter(more.costs)), FLOOR):
            if name in fewer.costs and name in more.costs:
                before, after, guests = fewer.costs[name], more.costs[name], more.guests - fewer.guests
                rows[f"{fewer.guests} to {more.guests}: {name}"] = (
                    f"{(after.median_seconds - before.median_seconds) / guests * 1e6:.0f}",
                    f"{(_cpu(after) - _cpu(before)) / guests * 1e6:.0f}",
                )
    return f"**One more guest adds to a scrape**\n\n{_table('', ('µs of the median', 'µs of CPU'), rows)}"


def _frozen_table(frozen: FrozenGuest) -> str:
    rows = {
        name: (
            "no answer in 60 s" if seconds is None else _ms(seconds),
            str(frozen.lost_series.get(name, "all")),
        )
        for name, seconds in frozen.seconds.items()
    }
    header = ("scrape, ms", "missing lines")
    return f"**One of {frozen.guests} guests is frozen** (SIGSTOP to its QEMU)\n\n{_table('', header, rows)}"


def _growth_table(what: str, costs: Mapping[int, Cost]) -> str:
    header = ("median ms", "p99 ms", "CPU ms", "µs of CPU each", "each more", "series", "MiB resident")
    more = [""] + [
        f"{(_cpu(after) - _cpu(before)) / (many - few) * 1e6:,.0f}"
        for (few, before), (many, after) in pairwise(costs.items())
    ]
    rows = {
        f"{number:,}": (
            _ms(cost.median_seconds),
            _ms(cost.p99_seconds),
            _ms(_cpu(cost)),
            f"{_cpu(cost) / number * 1e6:,.0f}",
            slope,
            f"{cost.series:,}",
            f"{cost.resident_bytes / 2**20:.1f}",
        )
        for (number, cost), slope in zip(costs.items(), more, strict=True)
    }
    return f"**By {what}** (libvirt's test driver), per scrape\n\n{_table(what, header, rows)}"


def _table(corner: str, header: Sequence[str], rows: Mapping[str, Iterable[str]]) -> str:
    lines = [
        f"| {' | '.join((corner, *header))} |",
        "|---|" + "---:|" * len(header),
        *(f"| {' | '.join((name, *cells))} |" for name, cells in rows.items()),
    ]
    return "\n".join(lines)


def _lines(measured: Sequence[SideBySide]) -> list[Line]:
    names = dict.fromkeys(name for each in measured for name in each.costs)
    return [
        Line(
            name=name,
            points=[
                (each.guests, each.costs[name].median_seconds * 1000)
                for each in measured
                if name in each.costs
            ],
        )
        for name in names
    ]


def _cpu(cost: Cost) -> float:
    """Return the seconds of CPU that one scrape takes of the process that answers."""
    return cost.per_scrape(cost.own_cpu_seconds)


def _ms(seconds: float) -> str:
    """Return milliseconds with three digits that count."""
    value = seconds * 1000
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{digits}f}"

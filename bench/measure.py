"""What a scrape costs: its time, the processes' CPU time and memory, and the series that it brings."""

from __future__ import annotations

import gzip
import http.client
import os
import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")

# What the Prometheus of Debian 12 (2.42) sends.
_PROMETHEUS_HEADERS = {
    "Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    "Accept-Encoding": "gzip",
    "X-Prometheus-Scrape-Timeout-Seconds": "60",
}
_SCRAPE_SECONDS = 60.0
_REFRESH = re.compile(rb"^hypervisor_refresh_duration_seconds\{.*\} (.+)$", re.MULTILINE)


class Prometheus:
    """A client that scrapes as Prometheus does: over one connection that is kept."""

    def __init__(self, address: str) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=_SCRAPE_SECONDS)

    def scrape(self, path: str = "/metrics") -> bytes:
        """Scrape once and return the text.

        :raises OSError: when there is no answer within a minute
        """
        self._connection.request("GET", path, headers=_PROMETHEUS_HEADERS)
        response = self._connection.getresponse()
        body = response.read()
        if response.status != http.HTTPStatus.OK:
            raise OSError(f"{path} answers with {response.status}: {body[:200]!r}")
        return gzip.decompress(body) if response.headers["Content-Encoding"] == "gzip" else body

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


@dataclass
class Cost:
    """The cost of a contender's scrapes so far, with libvirtd's cost.

    :ivar refresh_seconds: the refresh time of each scrape, which only this exporter reports
    :ivar resident_bytes: memory of the process that answers, after the last of them
    """

    scrape_seconds: list[float] = field(default_factory=list)
    refresh_seconds: list[float] = field(default_factory=list)
    own_cpu_seconds: float = 0.0
    libvirtd_cpu_seconds: float = 0.0
    resident_bytes: int = 0
    series: int = 0
    libvirt_calls: int | None = None

    @property
    def median_seconds(self) -> float:
        """The median of the scrapes' times."""
        return statistics.median(self.scrape_seconds)

    @property
    def p99_seconds(self) -> float:
        """The time that one scrape in a hundred exceeds; of fewer scrapes, the longest."""
        ordered = sorted(self.scrape_seconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]

    def per_scrape(self, seconds: float) -> float:
        """Return the share of one scrape."""
        return seconds / len(self.scrape_seconds)


def measure(
    cost: Cost,
    scrape: Callable[[], bytes],
    *,
    scrapes: int,
    pid: int,
    libvirtd_pid: int | None = None,
    prepare: Callable[[], None] = lambda: None,
) -> None:
    """Add this number of scrapes to a contender's cost.

    :param pid: the process that answers
    :param prepare: called before each scrape, and not timed
    """
    own, libvirtd = cpu_seconds([pid]), cpu_seconds([libvirtd_pid] if libvirtd_pid else [])
    text = b""
    for _ in range(scrapes):
        prepare()
        started = time.perf_counter()
        text = scrape()
        cost.scrape_seconds.append(time.perf_counter() - started)
        cost.refresh_seconds += map(float, _REFRESH.findall(text))
    cost.own_cpu_seconds += cpu_seconds([pid]) - own
    cost.libvirtd_cpu_seconds += cpu_seconds([libvirtd_pid] if libvirtd_pid else []) - libvirtd
    cost.resident_bytes = resident_bytes(pid)
    cost.series = count_series(text)


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return the CPU time of these processes and of the children that they waited for, user and system."""
    ticks = 0
    for pid in pids:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(map(int, after_name[11:15]))  # utime, stime, cutime, cstime: see proc_pid_stat(5)
    return ticks / _TICKS_PER_SECOND


def resident_bytes(pid: int) -> int:
    """Return the process's resident memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def count_series(text: bytes) -> int:
    """Return how many samples a scrape has brought."""
    return sum(1 for line in text.splitlines() if line and not line.startswith(b"#"))

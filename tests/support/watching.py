"""Scraping an exporter for a while as Prometheus would, only faster, and what may be said of it after."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.exporter_process import RunningExporter, Scrape
from tests.support.libvirtd import LibvirtDaemon

# What it is promised to take at most, whatever befalls a guest.
QUICK_SECONDS = 0.5

_INTERVAL_SECONDS = 0.1
_HANGS_SECONDS = 20

# What a guest has a part in; a frozen one keeps it. The memory of a virtual machine may change at any time.
_NUMBERS = (
    "hypervisor_up",
    "hypervisor_vcpus",
    "hypervisor_vcpus_used",
    "hypervisor_local_gb",
    "hypervisor_running_vms",
    "hypervisor_domains",
    "hypervisor_claimed",
    "hypervisor_storage_overcommitted_bytes",
    "hypervisor_unsized_disks",
    "hypervisor_disk_available_least",
    "hypervisor_unread_guests",
)

_CHANGING = re.compile(r"^time=\S+ |\b\d+\.\d+\b|\bseconds=\d+")


class Stopwatch:
    """Returns the seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._stalled = _stalled_seconds()

    @property
    def seconds(self) -> float:
        """All of them."""
        return time.monotonic() - self._start

    @property
    def undisturbed(self) -> float:
        """Those in which no task of this machine waited for a CPU: promises are made of a quiet one."""
        return max(0.0, self.seconds - (_stalled_seconds() - self._stalled))


@dataclass(frozen=True)
class Timed:
    """One scrape: how long it took, and the threads and connections that the exporter had after it.

    :ivar undisturbed: the seconds without those in which the machine was too busy
    """

    scrape: Scrape
    seconds: float
    undisturbed: float
    threads: int
    connections: int


def take(exporter: RunningExporter, libvirtd: LibvirtDaemon) -> Timed:
    """Scrape once."""
    watch = Stopwatch()
    text = exporter.get("/metrics", seconds=_HANGS_SECONDS)
    seconds, undisturbed = watch.seconds, watch.undisturbed
    scrape = Scrape(text=text, log=exporter.log)
    return Timed(scrape, seconds, undisturbed, count_threads(exporter), count_connections(libvirtd))


def watch(
    exporter: RunningExporter,
    libvirtd: LibvirtDaemon,
    seconds: float,
    *,
    goes_on: Callable[[], bool] = lambda: True,
) -> list[Timed]:
    """Scrape for so many seconds, ten times a second.

    :param goes_on: what ends it earlier
    """
    deadline = time.monotonic() + seconds
    taken: list[Timed] = []
    while time.monotonic() < deadline and goes_on():
        taken.append(take(exporter, libvirtd))
        time.sleep(_INTERVAL_SECONDS)
    slowest = max(taken, key=lambda each: each.seconds)
    # What pytest shows with -rP.
    print(
        f"{len(taken)} scrapes, the slowest {slowest.seconds:.3f} s ({slowest.undisturbed:.3f} s undisturbed)"
    )
    return taken


def check_whole(taken: Sequence[Timed], like: Scrape) -> None:
    """Check that each scrape has every sample that one from before has, and that the hypervisor is up."""
    wanted = _samples(like)
    for number, each in enumerate(taken):
        missing = wanted - _samples(each.scrape)
        assert not missing, f"scrape {number} of {len(taken)} lacks {sorted(missing)}: {each.scrape.log}"
    down = [number for number, each in enumerate(taken) if each.scrape.value("hypervisor_up") != 1]
    assert not down, f"hypervisor_up is 0 in {len(down)} of {len(taken)} scrapes: {taken[-1].scrape.log}"


def slow(taken: Sequence[Timed]) -> list[float]:
    """Return the seconds of those that took longer than is promised."""
    return [round(each.seconds, 2) for each in taken if each.undisturbed > QUICK_SECONDS]


def numbers(scrape: Scrape) -> dict[str, object]:
    """Return what guests have a part in, by name."""
    return {name: scrape.series(name) for name in _NUMBERS}


def repeated(log: str) -> list[str]:
    """Return the lines of a log that occur more than once, ignoring times."""
    lines = Counter(_CHANGING.sub("", line) for line in log.splitlines())
    return [line for line, times in lines.items() if times > 1]


def count_threads(exporter: RunningExporter) -> int:
    """Return the threads of the exporter's process."""
    status = Path(f"/proc/{exporter.process.pid}/status").read_text()
    return int(status.partition("Threads:")[2].split()[0])


def count_connections(libvirtd: LibvirtDaemon) -> int:
    """Return the open connections to libvirtd's socket for those who may only read: the exporter's."""
    _, _, path = libvirtd.uri_read_only.partition("socket=")
    connected = "03"
    lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    return sum(fields[5] == connected and fields[-1] == path for fields in lines)


def _stalled_seconds() -> float:
    """Return how long tasks of this machine have waited for a CPU; 0 if the kernel does not count it.

    Linux counts it by thread, too, but forgets those that have ended: each refresh of the exporter's has one.
    """
    pressure = Path("/proc/pressure/cpu")
    if not pressure.exists():
        return 0.0
    some = pressure.read_text().splitlines()[0]
    return int(some.rpartition("total=")[2]) / 1e6


def _samples(scrape: Scrape) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    return {
        (name, tuple(sorted(labels.items()))) for name in scrape.names for labels, _ in scrape.series(name)
    }

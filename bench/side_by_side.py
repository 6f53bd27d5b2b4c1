"""Running guests on a real libvirtd: everybody measured in turns, so that all meet the same noise."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.calls import CallCounter
from bench.contenders import FLOOR, Contender, debian_exporter, floor, nova, this_exporter
from bench.measure import Cost, measure
from tests.support.guests import GIB, file_disk, guest_xml, make_qcow2, tap_interface
from tests.support.libvirtd import LibvirtDaemon

# What one guest takes: QEMU without any guest system in it, and its image.
GUEST_BYTES = 32 * 2**20
MAX_GUESTS = 400


@dataclass
class SideBySide:
    """What everybody's scrapes cost, with one number of guests.

    :ivar costs: by contender's name
    """

    guests: int
    costs: dict[str, Cost] = field(default_factory=dict)


@dataclass(frozen=True)
class FrozenGuest:
    """What a scrape takes, and lacks, while one guest is frozen; None where it did not end in a minute."""

    guests: int
    seconds: dict[str, float | None]
    lost_series: dict[str, int]


@dataclass(frozen=True)
class Effort:
    """How often to scrape.

    :ivar rounds: how often everybody gets a turn
    :ivar scrapes: of this exporter, warm, in each turn; the others, who take longer, get fewer
    """

    rounds: int
    scrapes: int


def fitting_guests() -> int:
    """Return how many guests half of the available memory holds."""
    meminfo = Path("/proc/meminfo").read_text()
    available = re.search(r"^MemAvailable: +(\d+) kB", meminfo, re.MULTILINE)
    assert available is not None
    return min(MAX_GUESTS, int(available[1]) * 1024 // 2 // GUEST_BYTES)


def start_guest(libvirtd: LibvirtDaemon, number: int) -> None:
    """Start a guest as Nova makes its smallest ones: a qcow2 image, a tap device, Nova's metadata."""
    name = f"instance-{number:08x}"
    image = make_qcow2(libvirtd.images / f"{name}.qcow2", GIB)
    libvirtd.start_guest(
        guest_xml(name, disks=[file_disk(image)], interfaces=[tap_interface()], from_nova=True)
    )


def measure_side_by_side(libvirtd: LibvirtDaemon, guests: int, effort: Effort) -> SideBySide:
    """Measure everybody on the guests that run there."""
    result = SideBySide(guests)
    with _contenders(libvirtd.uri, libvirtd.uri_read_only, libvirtd.images) as contenders:
        turns = {contender: _turn(contender, effort, guests) for contender in contenders}
        for contender in contenders:
            result.costs[contender.name] = Cost()
            contender.scrape()
        for _ in range(effort.rounds):
            for contender, scrapes in turns.items():
                measure(
                    result.costs[contender.name],
                    contender.scrape,
                    scrapes=scrapes,
                    pid=contender.pid,
                    libvirtd_pid=libvirtd.pid,
                    prepare=contender.prepare,
                )
    for name, calls in _count_calls(libvirtd).items():
        result.costs[name].libvirt_calls = calls
    return result


def measure_frozen(libvirtd: LibvirtDaemon, guests: int) -> FrozenGuest:
    """Scrape the exporters while the first guest's QEMU is stopped; Nova's driver would wait as well."""
    seconds: dict[str, float | None] = {}
    lost: dict[str, int] = {}
    with (
        this_exporter(libvirtd.uri_read_only, libvirtd.images) as (warm, _),
        debian_exporter(libvirtd.uri_read_only) as debian,
    ):
        contenders = [each for each in (warm, debian) if each is not None]
        before = {each: _lines(each.scrape) for each in contenders}
        libvirtd.freeze_guest(f"instance-{0:08x}")
        try:
            for each in contenders:
                started = time.perf_counter()
                try:
                    lost[each.name] = before[each] - _lines(each.scrape)
                    seconds[each.name] = time.perf_counter() - started
                except OSError:
                    seconds[each.name] = None
        finally:
            libvirtd.thaw_guest(f"instance-{0:08x}")
    return FrozenGuest(guests=guests, seconds=seconds, lost_series=lost)


@contextlib.contextmanager
def _contenders(uri: str, uri_read_only: str, images: Path) -> Iterator[list[Contender]]:
    """Run everybody there is. The exporters use the socket that may not change anything, as they should."""
    with (
        this_exporter(uri_read_only, images) as (warm, cold),
        floor(uri_read_only, images) as reads,
        debian_exporter(uri_read_only) as debian,
        nova(uri, images) as nova_driver,
    ):
        yield [each for each in (warm, cold, reads, debian, nova_driver) if each is not None]


def _turn(contender: Contender, effort: Effort, guests: int) -> int:
    """Return how many scrapes make one turn: so many that none takes minutes."""
    if contender.name.endswith("warm") or contender.name == FLOOR:
        return effort.scrapes
    if contender.name.startswith("Nova"):
        return 1
    return min(effort.scrapes, 10 if guests <= 100 else 4)


def _count_calls(libvirtd: LibvirtDaemon) -> dict[str, int]:
    """Return how many calls each one's scrape makes, once everybody is warm."""
    path = libvirtd.sandbox.root / "counted"
    socket = libvirtd.sandbox.root / "sock" / "libvirt-sock"
    uri = f"qemu:///system?socket={path}"
    with CallCounter(path, socket) as counter, _contenders(uri, uri, libvirtd.images) as contenders:
        return {contender.name: _calls_of(contender, counter) for contender in contenders}


def _calls_of(contender: Contender, counter: CallCounter) -> int:
    contender.scrape()
    before = counter.calls
    contender.prepare()
    contender.scrape()
    return counter.calls - before


def _lines(scrape: Callable[[], bytes]) -> int:
    return len(scrape().splitlines())

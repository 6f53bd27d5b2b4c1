"""What the numbers of single guests cost: `python -m bench.guests --guests 100`.

Everything is measured in one run on one real libvirtd: this exporter as it is, with its collector `guests`,
and without its collector `usage`; and the exporter that Debian has. The results go into docs/performance.md,
between two marks.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from bench.contenders import Contender, client, debian_exporter
from bench.measure import Cost, cpu_seconds, measure
from bench.page import write_between
from tests.support.boot_sectors import boot_sector, make_boot_disk
from tests.support.exporter_process import serve
from tests.support.guests import file_disk, guest_xml, nova_metadata, tap_interface
from tests.support.libvirtd import LibvirtDaemon
from tests.support.sandbox import SandboxError

_CHECKOUT = Path(__file__).resolve().parent.parent
_LIBVIRT_CACHE = _CHECKOUT / ".cache" / "libvirt"
_BEGIN = "<!-- What follows was written by `python -m bench.guests`. -->"
_END = "<!-- Up to here: bench.guests. -->"

OFF = "this exporter"
ON = "this exporter, with guests"
WITHOUT_USAGE = "this exporter, without usage"
_FLAGS: dict[str, tuple[str, ...]] = {
    OFF: (),
    ON: ("--collector.guests", "--collector.projects"),
    WITHOUT_USAGE: ("--no-collector.usage",),
}
_INTERVAL_SECONDS = 30
_FROZEN_INTERVAL_SECONDS = 0.5
# Scrapes with a pause of 7 s. With the first interval, all guests' XML is read again in each pause, when it
# is half as old, and never by the scrape itself. With the other one, it is not.
_RARE_SECONDS = 7.0
_RESYNC_INTERVALS = ("10s", "1h")
_BALLOON = "<memballoon model='virtio'><stats period='10'/></memballoon>"


@dataclass(frozen=True)
class Background:
    """CPU that goes on between scrapes, as a share of one CPU: of the exporter, libvirtd and all QEMUs.

    :ivar rounds: how many scrapes there were, each with one round of readings after it
    """

    rounds: int
    exporter: float
    libvirtd: float
    guests: float


@dataclass(frozen=True)
class Frozen:
    """Scrapes while one guest was frozen.

    :ivar missing: how many samples of other guests one scrape lacked at most
    """

    scrapes: int
    longest_seconds: float
    missing: int


@dataclass(frozen=True)
class Rare:
    """Scrapes with a pause before each.

    :ivar read_again: after pauses in which the XML of all guests was read again
    :ivar kept: after pauses in which it was not
    """

    read_again: Cost
    kept: Cost


@dataclass
class Measured:
    """What one run saw.

    :ivar costs: by the number of guests and the contender's name
    :ivar rare: by the contender's name
    :ivar background: by the contender's name
    :ivar frozen: by the contender's name
    """

    command: str
    guests: int
    costs: dict[int, dict[str, Cost]] = field(default_factory=dict)
    rare: dict[str, Rare] = field(default_factory=dict)
    background: dict[str, Background] = field(default_factory=dict)
    frozen: dict[str, Frozen] = field(default_factory=dict)


def main(argv: Sequence[str]) -> int:
    """Measure, write the page, and return the process's exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.guests", description=__doc__)
    add = parser.add_argument
    add("--guests", type=int, default=100, help="how many run (%(default)s)")
    add("--scrapes", type=int, default=200, help="how often this exporter is scraped (%(default)s)")
    add("--rounds", type=int, default=4, help="of readings between scrapes, each 30 s (%(default)s)")
    add("--rare", type=int, default=10, help=f"scrapes with {_RARE_SECONDS:.0f} s in between (%(default)s)")
    add("--frozen", type=float, default=20, help="how many seconds one guest is frozen (%(default)s)")
    add("--page", type=Path, default=_CHECKOUT / "docs" / "performance.md", help="the page to write to")
    flags = parser.parse_args(argv)
    _LIBVIRT_CACHE.mkdir(parents=True, exist_ok=True)
    measured = Measured(" ".join(["python -m bench.guests", *argv]), flags.guests)
    try:
        with _start_libvirtd() as libvirtd:
            _measure(libvirtd, measured, flags)
    except SandboxError as error:
        print(error, file=sys.stderr)
        return 1
    text = describe(measured)
    write_between(flags.page, text, begin=_BEGIN, end=_END, heading="The guests themselves")
    print(text)
    return 0


@contextlib.contextmanager
def _start_libvirtd() -> Iterator[LibvirtDaemon]:
    """Start a libvirtd that makes control groups: of version 2, or what this machine has."""
    try:
        daemon = LibvirtDaemon(images_bytes=2**30, cache=_LIBVIRT_CACHE, cgroups="v2")
    except SandboxError:
        daemon = _start_libvirtd_with_v1()
    with daemon:
        yield daemon


def _start_libvirtd_with_v1() -> LibvirtDaemon:
    """Start one with control groups of version 1; with none where this machine has none either."""
    try:
        return LibvirtDaemon(images_bytes=2**30, cache=_LIBVIRT_CACHE, cgroups="v1")
    except SandboxError:
        return LibvirtDaemon(images_bytes=2**30, cache=_LIBVIRT_CACHE)


def _measure(libvirtd: LibvirtDaemon, measured: Measured, flags: argparse.Namespace) -> None:
    running = 0
    for guests in sorted({flags.guests // 2, flags.guests}):
        _say(f"{guests} guests, everybody in turns")
        for number in range(running, guests):
            _start_guest(libvirtd, number)
        running = guests
        with _contenders(libvirtd) as contenders:
            measured.costs[guests] = _measure_scrapes(libvirtd, contenders, flags.scrapes)
    for name in (OFF, ON) if flags.rare else ():
        _say(f"{name}: scrapes after the guests' XML was read again")
        measured.rare[name] = _measure_rare(libvirtd, name, flags.rare)
    for name in (OFF, ON) if flags.rounds else ():
        with _this_exporter(libvirtd, name) as contender:
            _say(f"{name}: {flags.rounds} scrapes, one each {_INTERVAL_SECONDS} s")
            measured.background[name] = _measure_background(libvirtd, contender, flags)
    if flags.frozen:
        with _contenders(libvirtd) as contenders:
            for contender in contenders:
                _say(f"{contender.name}: one guest is frozen")
                measured.frozen[contender.name] = _measure_frozen(libvirtd, contender, flags.frozen)


def _start_guest(libvirtd: LibvirtDaemon, number: int) -> None:
    """Start one as Nova makes its smallest ones, which then sleeps: a disk, a tap device, a balloon."""
    name = f"instance-{number:08x}"
    disk = make_boot_disk(libvirtd.images / f"{name}.raw", boot_sector(writes=16, sectors=8))
    flavor = nova_metadata("m1.tiny", vcpus=1, memory=16, disk=1)
    libvirtd.start_guest(
        guest_xml(
            name,
            disks=[file_disk(disk, format="raw")],
            interfaces=[tap_interface()],
            metadata=flavor,
            balloon=_BALLOON,
        )
    )


@contextlib.contextmanager
def _contenders(libvirtd: LibvirtDaemon) -> Iterator[list[Contender]]:
    with (
        _this_exporter(libvirtd, WITHOUT_USAGE) as without_usage,
        _this_exporter(libvirtd, OFF) as off,
        _this_exporter(libvirtd, ON) as on,
        debian_exporter(libvirtd.uri_read_only) as debian,
    ):
        yield [each for each in (without_usage, off, on, debian) if each is not None]


@contextlib.contextmanager
def _this_exporter(
    libvirtd: LibvirtDaemon, name: str, *, resync_interval: str = "60s"
) -> Iterator[Contender]:
    """Run this exporter where libvirtd runs, so that it sees the same control groups."""
    python = ("env", f"--chdir={_CHECKOUT}", sys.executable, "-m", "exporter", *_FLAGS[name])
    hypervisor = {"uri": libvirtd.uri_read_only, "instances_path": str(libvirtd.images)}
    settings = {"cache_ttl": "0s", "resync_interval": resync_interval, "hypervisors": [hypervisor]}
    with (
        serve(settings, command=libvirtd.sandbox.command(*python)) as exporter,
        client(exporter.address) as prometheus,
    ):
        yield Contender(name, exporter.process.pid, prometheus.scrape)


def _measure_scrapes(libvirtd: LibvirtDaemon, contenders: list[Contender], scrapes: int) -> dict[str, Cost]:
    """Scrape everybody in turns, once all of them know all that they will know of the guests."""
    costs = {contender.name: Cost() for contender in contenders}
    for contender in contenders:
        _warm_up(contender)
    turns = 5
    for _ in range(turns):
        for contender in contenders:
            # The others take longer.
            many = scrapes // turns if contender.name in _FLAGS else max(1, scrapes // turns // 10)
            measure(
                costs[contender.name],
                contender.scrape,
                scrapes=max(1, many),
                pid=contender.pid,
                libvirtd_pid=libvirtd.pid,
            )
    return costs


def _warm_up(contender: Contender) -> None:
    """Scrape until no more series come: what is read between scrapes takes its time."""
    began, before, settled = time.monotonic(), 0, 0
    while settled < 4 and time.monotonic() - began < 120:
        many = len(contender.scrape().splitlines())
        settled = settled + 1 if many == before else 0
        before = many
        time.sleep(1 if contender.name == ON else 0.1)


def _measure_rare(libvirtd: LibvirtDaemon, name: str, scrapes: int) -> Rare:
    """Scrape after pauses with and without a new reading of each guest's XML."""
    costs = []
    for resync_interval in _RESYNC_INTERVALS:
        with _this_exporter(libvirtd, name, resync_interval=resync_interval) as contender:
            _warm_up(contender)
            cost = Cost()
            measure(
                cost,
                contender.scrape,
                scrapes=scrapes,
                pid=contender.pid,
                prepare=lambda: time.sleep(_RARE_SECONDS),
            )
            costs.append(cost)
    read_again, kept = costs
    return Rare(read_again=read_again, kept=kept)


def _measure_background(
    libvirtd: LibvirtDaemon, contender: Contender, flags: argparse.Namespace
) -> Background:
    """Scrape as rarely as Prometheus does, and take off what the scrapes themselves cost."""
    _warm_up(contender)
    scrape = Cost()
    measure(scrape, contender.scrape, scrapes=20, pid=contender.pid, libvirtd_pid=libvirtd.pid)
    time.sleep(_INTERVAL_SECONDS)  # what these began has ended
    qemus = _list_guest_pids(libvirtd, flags.guests)
    own, daemon, guests = (cpu_seconds(pids) for pids in ([contender.pid], [libvirtd.pid], qemus))
    began = time.monotonic()
    for number in range(flags.rounds):
        contender.scrape()
        time.sleep(max(0.0, began + (number + 1) * _INTERVAL_SECONDS - time.monotonic()))
    seconds = time.monotonic() - began
    return Background(
        rounds=flags.rounds,
        exporter=(cpu_seconds([contender.pid]) - own) / seconds
        - scrape.per_scrape(scrape.own_cpu_seconds) / _INTERVAL_SECONDS,
        libvirtd=(cpu_seconds([libvirtd.pid]) - daemon) / seconds
        - scrape.per_scrape(scrape.libvirtd_cpu_seconds) / _INTERVAL_SECONDS,
        guests=(cpu_seconds(qemus) - guests) / seconds,
    )


def _list_guest_pids(libvirtd: LibvirtDaemon, guests: int) -> list[int]:
    return [libvirtd.guest_pid(f"instance-{number:08x}") for number in range(guests)]


def _measure_frozen(libvirtd: LibvirtDaemon, contender: Contender, seconds: float) -> Frozen:
    """Scrape twice a second while the first guest is frozen; see which samples of others are not there."""
    _warm_up(contender)
    frozen = f"instance-{0:08x}"
    before = _series_without(contender.scrape(), frozen)
    taken: list[float] = []
    missing = 0
    libvirtd.freeze_guest(frozen)
    try:
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            started = time.perf_counter()
            found: set[bytes] = set()
            with contextlib.suppress(OSError):  # no answer in a minute: all of them are missing
                found = _series_without(contender.scrape(), frozen)
            taken.append(time.perf_counter() - started)
            missing = max(missing, len(before - found))
            time.sleep(_FROZEN_INTERVAL_SECONDS)
    finally:
        libvirtd.thaw_guest(frozen)
    return Frozen(scrapes=len(taken), longest_seconds=max(taken), missing=missing)


def _series_without(text: bytes, guest: str) -> set[bytes]:
    """Return the series of a scrape, without those of this guest and those of exporters themselves."""
    lines = [line for line in text.splitlines() if line and not line.startswith(b"#")]
    names = (b'domain="instance-', b'name="instance-')
    return {
        line.rpartition(b"}")[0]
        for line in lines
        if any(name in line for name in names) and guest.encode() not in line
    }


def describe(measured: Measured) -> str:
    """Return the run's results as text for the page."""
    when = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    parts = [
        "\n".join(
            [
                f"`{measured.command}`, {when}: guests of QEMU (TCG) on one libvirtd, each",
                "with a disk, a tap device and a balloon. They sleep. *With guests* is with",
                f"`{' '.join(_FLAGS[ON])}`, *without usage* with `{' '.join(_FLAGS[WITHOUT_USAGE])}`.",
                f"{os.cpu_count()} CPUs; the load was {os.getloadavg()[1]:.1f} over the last 5 minutes.",
            ]
        )
    ]
    parts += [_describe_costs(guests, costs) for guests, costs in measured.costs.items()]
    parts.append(_describe_growth(measured.costs))
    if measured.rare:
        parts.append(_describe_rare(measured))
    if measured.background:
        parts.append(_describe_background(measured))
    if measured.frozen:
        parts.append(_describe_frozen(measured))
    return "\n\n".join(part for part in parts if part)


def _describe_costs(guests: int, costs: dict[str, Cost]) -> str:
    lines = [
        f"**{guests} running guests**, per scrape",
        "",
        "| | fastest ms | median ms | p99 ms | own CPU ms | libvirtd's CPU ms | series | MiB resident |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, cost in costs.items():
        cells = (
            f"{min(cost.scrape_seconds) * 1000:.1f}",
            f"{cost.median_seconds * 1000:.1f}",
            f"{cost.p99_seconds * 1000:.1f}",
            f"{cost.per_scrape(cost.own_cpu_seconds) * 1000:.1f}",
            f"{cost.per_scrape(cost.libvirtd_cpu_seconds) * 1000:.1f}",
            f"{cost.series:,}",
            f"{cost.resident_bytes / 2**20:.1f}",
        )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _describe_growth(costs: dict[int, dict[str, Cost]]) -> str:
    if len(costs) < 2:
        return ""
    (few, before), (many, after) = costs.items()
    lines = [
        f"**One more guest adds to a scrape**, from {few} to {many}",
        "",
        "| | µs of the fastest | µs of the median | µs of CPU | series |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, old in before.items():
        new = after[name]
        cells = (
            (min(new.scrape_seconds) - min(old.scrape_seconds)) * 1e6,
            (statistics.median(new.scrape_seconds) - statistics.median(old.scrape_seconds)) * 1e6,
            (new.per_scrape(new.own_cpu_seconds) - old.per_scrape(old.own_cpu_seconds)) * 1e6,
            new.series - old.series,
        )
        lines.append(f"| {name} | {' | '.join(f'{cell / (many - few):.0f}' for cell in cells)} |")
    return "\n".join(lines)


def _describe_rare(measured: Measured) -> str:
    lines = [
        f"**Scrapes {_RARE_SECONDS:.0f} s apart**, {measured.guests} guests: the median, and the longest one",
        "",
        "| | scrapes | ms after all guests' XML was read again | ms while it was not |",
        "|---|---:|---:|---:|",
    ]
    for name, each in measured.rare.items():
        cells = (
            f"{cost.median_seconds * 1000:.1f}, {max(cost.scrape_seconds) * 1000:.1f}"
            for cost in (each.read_again, each.kept)
        )
        lines.append(f"| {name} | {len(each.kept.scrape_seconds)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _describe_background(measured: Measured) -> str:
    lines = [
        f"**Between scrapes**, one each {_INTERVAL_SECONDS} s, in percent of one CPU",
        "",
        "| | scrapes | exporter | libvirtd | all QEMUs |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, each in measured.background.items():
        cells = (f"{share * 100:.2f}" for share in (each.exporter, each.libvirtd, each.guests))
        lines.append(f"| {name} | {each.rounds} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _describe_frozen(measured: Measured) -> str:
    lines = [
        f"**One of {measured.guests} guests is frozen** (SIGSTOP to its QEMU)",
        "",
        "| | scrapes | longest ms | samples of other guests missing, at most |",
        "|---|---:|---:|---:|",
    ]
    for name, each in measured.frozen.items():
        lines.append(f"| {name} | {each.scrapes} | {each.longest_seconds * 1000:,.0f} | {each.missing} |")
    return "\n".join(lines)


def _say(text: str) -> None:
    print(f"==> Measuring: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

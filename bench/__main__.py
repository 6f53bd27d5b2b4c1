"""Measure, and write what was measured into docs/performance.md: `make bench`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.many_hypervisors import measure_hypervisors
from bench.report import Measurements, write_page
from bench.side_by_side import (
    Effort,
    fitting_guests,
    measure_frozen,
    measure_side_by_side,
    start_guest,
)
from tests.support.libvirtd import LibvirtDaemon
from tests.support.sandbox import SandboxError

_CHECKOUT = Path(__file__).resolve().parent.parent
_LIBVIRT_CACHE = _CHECKOUT / ".cache" / "libvirt"
_IMAGES_BYTES = 2**30


def main(argv: list[str]) -> int:
    """Run the benchmarks that the flags ask for, and return the process's exit status."""
    flags = _parse_flags(argv)
    measurements = Measurements(command=f"make bench ARGS='{' '.join(argv)}'" if argv else "make bench")
    try:
        _measure_guests(flags, measurements)
    except SandboxError as error:
        print(error, file=sys.stderr)
        return 1
    for hypervisors in flags.hypervisors:
        _say(f"{hypervisors} hypervisors of the test driver in one exporter")
        cost = measure_hypervisors(hypervisors, scrapes=max(1, flags.scrapes // 5))
        measurements.hypervisors[hypervisors] = cost
    for guests in flags.test_guests:
        _say(f"{guests} guests on one hypervisor of the test driver")
        cost = measure_hypervisors(1, guests=guests, scrapes=flags.scrapes)
        measurements.test_guests[guests] = cost
    write_page(flags.page, measurements)
    return 0


def _measure_guests(flags: argparse.Namespace, measurements: Measurements) -> None:
    """Measure side by side on one libvirtd, to which guests are added from one number to the next."""
    if not flags.guests:
        return
    effort = Effort(rounds=flags.rounds, scrapes=flags.scrapes)
    _LIBVIRT_CACHE.mkdir(parents=True, exist_ok=True)
    with LibvirtDaemon(images_bytes=_IMAGES_BYTES, cache=_LIBVIRT_CACHE) as libvirtd:
        running = 0
        for guests in flags.guests:
            _say(f"{guests} running guests, everybody in turns")
            for number in range(running, guests):
                start_guest(libvirtd, number)
            running = guests
            measurements.side_by_side.append(measure_side_by_side(libvirtd, running, effort))
            if running and flags.frozen and measurements.frozen is None:
                _say(f"{running} running guests, one of them frozen")
                measurements.frozen = measure_frozen(libvirtd, running)


def _parse_flags(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    add = parser.add_argument
    add("--guests", type=_numbers, default="0,10,50,100,max", help="running guests (%(default)s)")
    add("--hypervisors", type=_numbers, default="1,10,100,500", help="of the test driver (%(default)s)")
    add("--test-guests", type=_numbers, default="10,100,400,1000", help="on the test driver (%(default)s)")
    add("--no-frozen", dest="frozen", action="store_false", help="leave out the frozen guest")
    add("--rounds", type=int, default=5, help="how often everybody gets a turn (%(default)s)")
    add("--scrapes", type=int, default=100, help="in a turn of this exporter, the fastest (%(default)s)")
    add("--page", type=Path, default=_CHECKOUT / "docs" / "performance.md", help="the page to write to")
    return parser.parse_args(argv)


def _numbers(text: str) -> list[int]:
    """Parse "0,10,max", where max stands for as many guests as fit."""
    items = [item for item in text.split(",") if item]
    return sorted({fitting_guests() if item == "max" else int(item) for item in items})


def _say(text: str) -> None:
    print(f"==> Measuring: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

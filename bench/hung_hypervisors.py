"""Hypervisors that accept connections and say nothing, before a well one: `python -m bench.hung_hypervisors`.

Prints how long the well one waits for its first numbers, and what the others cost.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.exporter_process import serve
from tests.support.libvirtd import LibvirtDaemon

_SCRAPES_INTERVAL_SECONDS = 0.5


@dataclass
class Outcome:
    """What one run saw of the exporter.

    :ivar first_numbers_after: seconds from the start of the process; None if there were none
    :ivar probe_seconds: how long each probe of the well hypervisor took after that
    :ivar scrape_seconds: how long the last scrapes of all took
    """

    first_numbers_after: float | None = None
    probe_seconds: list[float] = field(default_factory=list)
    without_numbers: int = 0
    scrape_seconds: list[float] = field(default_factory=list)
    descriptors: int = 0
    threads: int = 0
    cpu_seconds: float = 0.0
    log_lines: int = 0


def main(argv: list[str] | None = None) -> int:
    """Measure, and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m bench.hung_hypervisors", description=__doc__)
    parser.add_argument("--hypervisors", type=int, default=1000, help="how many hang (1000)")
    parser.add_argument("--files", type=int, default=8192, help="limit of descriptors (8192, the unit's)")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (60)")
    flags = parser.parse_args(argv)
    outcome = measure(flags.hypervisors, files=flags.files, seconds=flags.seconds)
    print(f"{flags.hypervisors} hypervisors hang, {flags.files} descriptors, {flags.seconds:g} s:")
    print(f"first numbers of the well one after {outcome.first_numbers_after or float('nan'):.1f} s")
    slowest = max(outcome.probe_seconds)
    print(f"its probes took {slowest:.2f} s at most; {outcome.without_numbers} without numbers")
    print(f"scrapes of all took {', '.join(f'{each:.2f} s' for each in outcome.scrape_seconds)}")
    print(f"at most {outcome.descriptors} descriptors and {outcome.threads} threads")
    print(f"{outcome.cpu_seconds:.1f} s of CPU time, {outcome.log_lines} lines of log")
    return 0


def measure(count: int, *, files: int, seconds: float) -> Outcome:
    """Run an exporter for so long, and look at it twice a second. The well one is a libvirtd, over TCP."""
    outcome = Outcome()
    with ExitStack() as stack:
        port = stack.enter_context(_port_that_says_nothing())
        well = stack.enter_context(LibvirtDaemon()).uri_tcp
        uris = [f"qemu+tcp://127.0.{n // 250}.{n % 250 + 1}:{port}/system" for n in range(count)]
        hypervisors = [{"name": f"hung{number}", "uri": uri} for number, uri in enumerate(uris)]
        settings = {"hypervisors": [*hypervisors, {"name": "well", "uri": well}], "scrape_timeout": "9s"}
        command = ["prlimit", f"--nofile={files}:{files}", sys.executable, "-m", "exporter"]
        started = time.monotonic()
        with serve(settings, command=command) as exporter:
            while time.monotonic() - started < seconds:
                asked = time.monotonic()
                scrape = exporter.scrape("/probe?target=well", seconds=60)
                has_numbers = scrape.get("hypervisor_vcpus") is not None
                if outcome.first_numbers_after is not None:
                    outcome.probe_seconds.append(time.monotonic() - asked)
                    outcome.without_numbers += not has_numbers
                elif has_numbers:
                    outcome.first_numbers_after = time.monotonic() - started
                _look(exporter.process.pid, outcome)
                time.sleep(_SCRAPES_INTERVAL_SECONDS)
            for _ in range(3):
                asked = time.monotonic()
                exporter.get("/metrics", seconds=60)
                outcome.scrape_seconds.append(time.monotonic() - asked)
            outcome.log_lines = len(exporter.log.splitlines())
    return outcome


@contextmanager
def _port_that_says_nothing() -> Iterator[int]:
    """Accept connections on every address of the loopback, and keep them."""
    accepted: list[socket.socket] = []
    with socket.create_server(("0.0.0.0", 0), backlog=4096) as listener:

        def accept() -> None:
            with suppress(OSError):  # the listener is closed, or there are no descriptors left
                while True:
                    accepted.append(listener.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    for each in accepted:
        each.close()


def _look(pid: int, outcome: Outcome) -> None:
    process = Path(f"/proc/{pid}")
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    user, system = (process / "stat").read_text().rpartition(")")[2].split()[11:13]
    outcome.descriptors = max(outcome.descriptors, len(list((process / "fd").iterdir())))
    outcome.threads = max(outcome.threads, int(status["Threads"]))
    outcome.cpu_seconds = (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())

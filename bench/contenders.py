"""Those who are measured: this exporter, its reads alone, the one that Debian has, and Nova's own driver."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.floor import Floor
from bench.measure import Prometheus
from tests.support.debian_exporter import NAME as DEBIAN_EXPORTER
from tests.support.debian_exporter import find_program, serve_debian_exporter
from tests.support.exporter_process import serve
from tests.support.oracle import NovaOracle, OracleError

FLOOR = "the floor: the same reads alone"
_NOVA_ANSWER_SECONDS = 300


@dataclass(frozen=True)
class Contender:
    """A program that reports a hypervisor's numbers."""

    name: str
    pid: int
    scrape: Callable[[], bytes]
    prepare: Callable[[], None] = lambda: None  # made before each scrape, and not timed


@contextlib.contextmanager
def this_exporter(uri: str, images: Path) -> Iterator[tuple[Contender, Contender]]:
    """Run this exporter without its cache; return it warm, and cold: when it knows nothing of the hypervisor.

    Cold, each scrape is of a hypervisor that was put into the configuration a moment ago: it connects, and
    reads the capabilities and every guest. Its URI makes it another one: that names the socket in two ways.
    The reload is not timed: it may wait for a second after the one before. Its CPU time counts.
    """
    numbers = iter(range(10**9))

    def settings() -> dict[str, Any]:
        number = next(numbers)
        socket = uri.replace("socket=/", "socket=/./") if number % 2 else uri
        hypervisor = {"uri": socket, "name": f"kvm{number}", "instances_path": str(images)}
        return {"cache_ttl": "0s", "hypervisors": [hypervisor]}

    with (
        serve(settings()) as exporter,
        client(exporter.address) as prometheus,
        serve(settings()) as reloaded,
        client(reloaded.address) as prometheus_of_reloaded,
    ):
        yield (
            Contender("this exporter, warm", exporter.process.pid, prometheus.scrape),
            Contender(
                "this exporter, cold",
                reloaded.process.pid,
                prometheus_of_reloaded.scrape,
                prepare=lambda: reloaded.reload(settings()),
            ),
        )


@contextlib.contextmanager
def floor(uri: str, images: Path) -> Iterator[Contender]:
    """Have what makes the same reads and nothing else, knowing the guests that there are now."""
    with Floor(uri, images) as process:
        yield Contender(FLOOR, process.pid, process.read)


@contextlib.contextmanager
def debian_exporter(uri: str) -> Iterator[Contender | None]:
    """Run Debian's exporter; None where it is not installed."""
    if find_program() is None:
        yield None
        return
    with serve_debian_exporter(uri) as exporter, client(exporter.address) as prometheus:
        yield Contender(DEBIAN_EXPORTER, exporter.pid, prometheus.scrape)


@contextlib.contextmanager
def nova(uri: str, images: Path) -> Iterator[Contender | None]:
    """Have Nova's LibvirtDriver at hand, connected as nova-compute is; None where it is not installed."""
    try:
        with NovaOracle(answer_seconds=_NOVA_ANSWER_SECONDS) as oracle:

            def ask() -> bytes:
                return json.dumps(oracle.get_available_resource(uri, images)).encode()

            yield Contender("Nova's get_available_resource", oracle.pid, ask)
    except OracleError:
        yield None


def debian_version(package: str) -> str:
    """Return the installed package's version; nothing where it is not installed."""
    command = ["dpkg-query", "--show", "--showformat", "${Version}", package]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


@contextlib.contextmanager
def client(address: str) -> Iterator[Prometheus]:
    """Return a client for this address."""
    prometheus = Prometheus(address)
    try:
        yield prometheus
    finally:
        prometheus.close()

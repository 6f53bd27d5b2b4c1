"""Debian's package prometheus-libvirt-exporter, run as its users run it."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.exporter_process import Scrape
from tests.support.loopback import find_free_port
from tests.support.waiting import wait_until

NAME = "prometheus-libvirt-exporter"
_FETCHED = Path(__file__).resolve().parents[2] / ".cache" / "debian-exporter"


@dataclass(frozen=True)
class DebianExporter:
    """A running one."""

    pid: int
    address: str

    def scrape(self) -> Scrape:
        """Scrape it as Prometheus does."""
        with urllib.request.urlopen(f"http://{self.address}/metrics", timeout=20) as response:
            return Scrape(text=response.read().decode())


def find_program() -> str | None:
    """Return the one that is installed, or that scripts/fetch-debian-exporter got; None if there is none."""
    return shutil.which(NAME) or shutil.which(_FETCHED / NAME)


def explain_missing() -> str:
    """Return why there is none."""
    reason = _FETCHED.with_suffix(".missing")
    why = reason.read_text().strip() if reason.exists() else "scripts/fetch-debian-exporter was not run"
    return f"{NAME} is not here: {why}"


@contextlib.contextmanager
def serve_debian_exporter(uri: str) -> Iterator[DebianExporter]:
    """Run it on a hypervisor until the block ends."""
    program = find_program()
    assert program is not None, explain_missing()
    address = f"127.0.0.1:{find_free_port()}"
    process = subprocess.Popen(
        [program, "--libvirt.uri", uri, "--web.listen-address", address],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: _listens(address), f"{NAME} to listen")
        yield DebianExporter(process.pid, address)
    finally:
        process.kill()
        process.wait(timeout=10)


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as client:
        return client.connect_ex((host, int(port))) == 0

"""An exporter with a web configuration, and curl as its client."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.waiting import read_settled, wait_until

_CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Served:
    """A running exporter.

    :ivar port: of 127.0.0.1
    """

    process: subprocess.Popen[bytes]
    port: int
    log_file: Path

    @property
    def url(self) -> str:
        """Where its metrics are."""
        return f"https://localhost:{self.port}/metrics"

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return read_settled(self.log_file)

    def curl(self, *arguments: str | Path, url: str | None = None) -> str:
        """Ask with curl; return the status, or "000" where there was no answer."""
        command = ["curl", "--silent", "--max-time", "10", "--output", "/dev/null", "--write-out"]
        result = subprocess.run(
            [*command, "%{http_code}", *map(str, arguments), url or self.url],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        return result.stdout


@contextlib.contextmanager
def serve_web(web_file: Path, *arguments: str, uri: str | None = "test:///default") -> Iterator[Served]:
    """Serve libvirt's test hypervisor with this web configuration until the block ends.

    :param uri: the hypervisor's; None where the arguments say which
    """
    log_file = web_file.with_name("exporter.log")
    flags = [
        *([] if uri is None else [f"--libvirt.uri={uri}"]),
        "--web.listen-address=127.0.0.1:0",
        f"--web.config.file={web_file}",
    ]
    process = start(log_file, *flags, *arguments)
    try:
        yield Served(process, wait_until(lambda: _find_port(process, log_file), "a port"), log_file)
    finally:
        process.kill()
        process.wait(timeout=10)


def start(log_file: Path, *flags: str) -> subprocess.Popen[bytes]:
    """Start the exporter; what it says goes into a file."""
    with log_file.open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "exporter", *flags], cwd=_CHECKOUT, stdout=log, stderr=log
        )


def check(web_file: Path) -> tuple[int, str]:
    """Run `--config.check` on a web configuration; return the exit status and all that was said."""
    command = [sys.executable, "-m", "exporter", "--config.check", f"--web.config.file={web_file}"]
    result = subprocess.run(command, cwd=_CHECKOUT, capture_output=True, text=True, timeout=30, check=False)
    return result.returncode, result.stdout + result.stderr


def options(client: Sequence[Path]) -> list[str]:
    """Return curl's arguments for a client's certificate and key."""
    certificate, key = client
    return ["--cert", str(certificate), "--key", str(key)]


def _find_port(process: subprocess.Popen[bytes], log_file: Path) -> int:
    """Return the port that the kernel chose for it; 0 before it listens."""
    log = log_file.read_text()
    assert process.poll() is None, log
    listening = re.search(r"addresses=127\.0\.0\.1:(\d+)", log)
    return int(listening[1]) if listening else 0

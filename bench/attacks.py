"""Attack one exporter in every way at once, beside one scraper: `make bench-attacks`.

The results go into docs/performance.md, between two marks.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import json
import os
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import bcrypt

from bench.attackers import INSIDER
from bench.page import write_between
from tests.web.authority import Authority
from tests.web.served import Served, serve_web

_CHECKOUT = Path(__file__).resolve().parent.parent
_BEGIN = "<!-- What follows was written by `make bench-attacks`. -->"
_END = "<!-- Up to here: bench-attacks. -->"
_USER, _PASSWORD = "prometheus", "the right password"
_BCRYPT_COST = 10  # htpasswd's default is 5; exporter-toolkit's documentation has 10
_HYPERVISORS = 50
_TIMEOUT_SECONDS = 10.0  # Prometheus' default


@dataclass
class Outcome:
    """What one run saw.

    :ivar failures: one line for each scrape that failed
    """

    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    descriptors: int = 0
    threads: int = 0
    memory_kib: int = 0
    log_bytes: int = 0


def main(argv: list[str] | None = None) -> int:
    """Attack, write what came of it into the page, and return 1 if any scrape failed."""
    parser = argparse.ArgumentParser(prog="make bench-attacks", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0, help="how long (300)")
    parser.add_argument("--page", type=Path, default=_CHECKOUT / "docs" / "performance.md")
    flags = parser.parse_args(argv)
    outcome = measure(flags.seconds)
    text = _describe(outcome, flags.seconds)
    write_between(flags.page, text, begin=_BEGIN, end=_END, heading="Under attack")
    print(text)
    print(*outcome.failures[:20], sep="\n", file=sys.stderr)
    return 1 if outcome.failures else 0


def measure(seconds: float) -> Outcome:
    """Scrape once a second for so long while the attackers are at it."""
    outcome = Outcome()
    with tempfile.TemporaryDirectory(prefix="hx-attacks-") as directory:
        authority = Authority(Path(directory))
        authority.issue("server", "localhost")
        with _exporter(Path(directory)) as served, _attackers(served, authority):
            scraper = _Scraper(served.port, ssl.create_default_context(cafile=str(authority.certificate)))
            over = time.monotonic() + seconds
            while time.monotonic() < over:
                started = time.monotonic()
                scraper.scrape(outcome)
                _look(served.process.pid, outcome)
                time.sleep(max(0.0, started + 1 - time.monotonic()))
            outcome.log_bytes = served.log_file.stat().st_size
            scraper.close()
    return outcome


@contextlib.contextmanager
def _exporter(directory: Path) -> Iterator[Served]:
    """Run an exporter for some hypervisors of libvirt's test driver, with TLS and two users."""
    users = {
        user: bcrypt.hashpw(password.encode(), bcrypt.gensalt(_BCRYPT_COST)).decode()
        for user, password in ((_USER, _PASSWORD), INSIDER)
    }
    web = directory / "web.yml"
    tls = {"cert_file": "server.crt", "key_file": "server.key"}
    web.write_text(json.dumps({"tls_server_config": tls, "basic_auth_users": users}))
    config = directory / "config.yaml"
    hypervisors = [{"name": f"kvm{number}", "uri": "test:///default"} for number in range(_HYPERVISORS)]
    config.write_text(json.dumps({"hypervisors": hypervisors}))
    with serve_web(web, f"--config.file={config}", uri=None) as served:
        yield served


@contextlib.contextmanager
def _attackers(served: Served, authority: Authority) -> Iterator[None]:
    # With less of a processor than the exporter: on a machine that they share, they would win by that alone.
    command = ["nice", "-n", "5", sys.executable, "-m", "bench.attackers"]
    process = subprocess.Popen([*command, str(served.port), str(authority.certificate)], cwd=_CHECKOUT)
    try:
        yield
        assert process.poll() is None, "the attackers gave up"
    finally:
        process.kill()
        process.wait(timeout=10)


class _Scraper:
    """Scrapes as Prometheus does: over a kept connection; over a new one where that was closed meanwhile."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self._connection = http.client.HTTPSConnection(
            "localhost", port, timeout=_TIMEOUT_SECONDS, context=context
        )
        credentials = base64.b64encode(f"{_USER}:{_PASSWORD}".encode()).decode()
        self._headers = {"Authorization": f"Basic {credentials}"}

    def scrape(self, outcome: Outcome) -> None:
        started = time.perf_counter()
        is_kept = self._connection.sock is not None
        try:
            try:
                status, body = self._get()
            except (ConnectionError, ssl.SSLEOFError, http.client.BadStatusLine):
                if not is_kept:
                    raise
                self._connection.close()
                status, body = self._get()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            seconds = time.perf_counter() - started
            outcome.failures.append(f"failed after {seconds:.1f} s: {error!r}")
            return
        outcome.seconds.append(time.perf_counter() - started)
        if outcome.seconds[-1] > _TIMEOUT_SECONDS:
            outcome.failures.append(f"scrape took {outcome.seconds[-1]:.1f} s")
        if status != http.HTTPStatus.OK or body.count(b"\nhypervisor_up{") != _HYPERVISORS:
            outcome.failures.append(f"scrape answered {status}: {body[-200:]!r}")

    def _get(self) -> tuple[int, bytes]:
        self._connection.request("GET", "/metrics", headers=self._headers)
        response = self._connection.getresponse()
        return response.status, response.read()

    def close(self) -> None:
        self._connection.close()


def _look(pid: int, outcome: Outcome) -> None:
    process = Path(f"/proc/{pid}")
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    outcome.descriptors = max(outcome.descriptors, len(list((process / "fd").iterdir())))
    outcome.threads = max(outcome.threads, int(status["Threads"]))
    outcome.memory_kib = max(outcome.memory_kib, int(status["VmRSS"].split()[0]))


def _describe(outcome: Outcome, seconds: float) -> str:
    p50, p99 = statistics.median(outcome.seconds), statistics.quantiles(outcome.seconds, n=100)[98]
    rows = [
        ("scrapes", f"{len(outcome.seconds):,}"),
        ("failed scrapes", str(len(outcome.failures))),
        ("scrape time p50, p99, longest", f"{p50:.2f}, {p99:.2f}, {max(outcome.seconds):.2f} s"),
        ("most file descriptors", str(outcome.descriptors)),
        ("most threads", str(outcome.threads)),
        ("most resident memory", f"{outcome.memory_kib / 1024:.0f} MiB"),
        ("log", f"{outcome.log_bytes / 1024:.0f} KiB"),
    ]
    when = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return "\n".join(
        [
            f"`make bench-attacks ARGS='--seconds {seconds:g}'`, {when}:",
            f"one scraper scrapes {_HYPERVISORS} hypervisors once a second over TLS with a password. At the",
            "same time: 300 clients send 100 requests and read nothing, 300 send nothing, 100 send a byte a",
            "second, 20 send nonsense, and 40 guess passwords. With their own password, 10 open the page and",
            "5 reload without a pause.",
            f"All share {os.cpu_count()} CPUs (load {os.getloadavg()[1]:.1f}).",
            "",
            "| | |",
            "|---|---:|",
            *(f"| {name} | {value} |" for name, value in rows),
        ]
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

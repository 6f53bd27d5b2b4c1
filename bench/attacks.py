"""Attack one exporter in every way at once, beside one Prometheus: `make bench-attacks`.

Prometheus scrapes over TLS with a password, every 15 s. It alone says which scrapes failed. The results go
into docs/performance.md, between two marks. The exit status is 1 if a scrape failed, or if the exporter used
more than SECURITY.md says.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from bench.attacked import (
    HUNG,
    PASSWORD,
    REFUSING,
    USER,
    WELL,
    AttackedExporter,
    LeftLog,
    Look,
    serve_attacked,
)
from bench.attackers import ATTACKERS
from bench.page import write_between
from tests.support.prometheus_server import PrometheusServer

_CHECKOUT = Path(__file__).resolve().parent.parent
_BEGIN = "<!-- What follows was written by `make bench-attacks`. -->"
_END = "<!-- Up to here: bench-attacks. -->"
_INTERVAL_SECONDS = 15
_SHARE = 5  # the first and the last fifth of the time are compared
_LOG_BYTES = 2**20 + 2**17  # what may wait for a reader, and the pipe


@dataclass(frozen=True)
class Bounds:
    """What SECURITY.md says that the process uses at most, whatever clients do."""

    descriptors: int
    threads: int
    memory_mib: int


@dataclass(frozen=True)
class Scrapes:
    """What Prometheus says about its scrapes of one path.

    :ivar well_down: the most of the well hypervisors that were not up in one scrape
    """

    path: str
    count: int
    failed: int
    expected: int
    median_seconds: float
    longest_seconds: float
    well_down: int


@dataclass(frozen=True)
class Outcome:
    """What one run saw.

    :ivar errors: what Prometheus said about each failed scrape
    :ivar begun: how often each attack was begun
    """

    seconds: float
    scrapes: Sequence[Scrapes]
    errors: Collection[str]
    looks: Sequence[Look]
    log: LeftLog
    begun: Mapping[str, int]

    def find_failures(self, bounds: Bounds) -> list[str]:
        """Return one line for each promise that was broken."""
        failures = []
        for each in self.scrapes:
            if each.failed or each.count < each.expected:
                counts = f"{each.count} scrapes, {each.expected} expected, {each.failed} failed"
                failures.append(f"{each.path}: {counts}")
        for name in ("descriptors", "threads", "memory_mib"):
            most, bound = max(getattr(look, name) for look in self.looks), getattr(bounds, name)
            if most > bound:
                failures.append(f"{name}: {most:.0f}, SECURITY.md says {bound}")
        if self.log.read_bytes > _LOG_BYTES:
            failures.append(f"log: {self.log.read_bytes} bytes waited for a reader")
        failures += self.errors
        idle = [what for what, count in self.begun.items() if not count]
        return [*failures, *(f"attack never begun: {what}" for what in idle)]


def main(argv: list[str] | None = None) -> int:
    """Attack, write what came of it into the page, and return 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="make bench-attacks", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long (600)")
    parser.add_argument("--page", type=Path, default=_CHECKOUT / "docs" / "performance.md")
    flags = parser.parse_args(argv)
    bounds = read_bounds()
    outcome = measure(flags.seconds)
    failures = outcome.find_failures(bounds)
    text = describe(outcome, bounds, attackers=ATTACKERS.values())
    write_between(flags.page, text, begin=_BEGIN, end=_END, heading="Under attack")
    print(text)
    print(*failures, sep="\n", file=sys.stderr)
    return 1 if failures else 0


def read_bounds() -> Bounds:
    """Return what SECURITY.md says of the whole process."""
    text = (_CHECKOUT / "SECURITY.md").read_text()
    found = re.search(r"\| ([\d,]+) descriptors, ([\d,]+) threads, ([\d,]+) MiB \|", text)
    if found is None:
        raise RuntimeError("SECURITY.md does not say what the whole process uses")
    return Bounds(*(int(number.replace(",", "")) for number in found.groups()))


def measure(seconds: float, *, interval_seconds: int = _INTERVAL_SECONDS) -> Outcome:
    """Have Prometheus scrape for so long while the attackers are at it.

    :param interval_seconds: Prometheus' scrape interval
    """
    looks: list[Look] = []
    errors: dict[str, None] = {}
    with (
        tempfile.TemporaryDirectory(prefix="hx-attacks-") as directory,
        serve_attacked(Path(directory)) as exporter,
    ):
        scrape_configs = _make_scrape_configs(exporter)
        begun: dict[str, int] = {}
        with (
            _attackers(exporter, begun),
            PrometheusServer(scrape_configs=scrape_configs, interval=f"{interval_seconds}s") as prometheus,
        ):
            started = time.monotonic()
            while (elapsed := time.monotonic() - started) < seconds:
                looks.append(exporter.look(elapsed))
                errors |= dict.fromkeys(_list_errors(prometheus))
                time.sleep(min(1.0, seconds - elapsed))
            scrapes = [
                _ask(prometheus, str(each["job_name"]), seconds, interval_seconds) for each in scrape_configs
            ]
        log = exporter.read_log()
    return Outcome(seconds=seconds, scrapes=scrapes, errors=list(errors), looks=looks, log=log, begun=begun)


def _list_errors(prometheus: PrometheusServer) -> list[str]:
    """Return what went wrong with the last scrapes."""
    return [
        f"{each['scrapePool']} at {each['lastScrape']}: {each['lastError']}"
        for each in prometheus.ask("targets")["activeTargets"]
        if each["lastError"]
    ]


@contextlib.contextmanager
def _attackers(exporter: AttackedExporter, begun: dict[str, int]) -> Iterator[None]:
    """Have the attackers at it. Note how often each attack was begun."""
    # With less of a processor than the exporter: on a machine that they share, they would win by that alone.
    command = ["nice", "-n", "5", sys.executable, "-m", "bench.attackers"]
    process = subprocess.Popen(
        [*command, str(exporter.port), str(exporter.authority)], cwd=_CHECKOUT, stdout=subprocess.PIPE
    )
    try:
        yield
        assert process.poll() is None, "the attackers gave up"
        process.terminate()
        assert process.stdout is not None
        begun.update(json.loads(process.stdout.readline()))
    finally:
        process.kill()  # it does not close a thousand connections in good order
        process.communicate(timeout=10)


def _make_scrape_configs(exporter: AttackedExporter) -> list[dict[str, Any]]:
    """Return a job that scrapes all hypervisors, and one for one of them. Both are named after their path."""
    common = {
        "scheme": "https",
        "basic_auth": {"username": USER, "password": PASSWORD},
        "tls_config": {"ca_file": str(exporter.authority), "server_name": "localhost"},
        "static_configs": [{"targets": [f"127.0.0.1:{exporter.port}"]}],
    }
    return [
        {"job_name": "/metrics", "metrics_path": "/metrics", **common},
        {"job_name": "/probe", "metrics_path": "/probe", "params": {"target": ["well00"]}, **common},
    ]


def _ask(prometheus: PrometheusServer, job: str, seconds: float, interval_seconds: int) -> Scrapes:
    """Return what Prometheus knows about the scrapes of a job. All of them count, since it started."""
    window = f"[{seconds + 60:.0f}s"
    selector = f'{{job="{job}"}}'

    def ask(expr: str) -> float:
        found = prometheus.query(expr)
        return float(found[0]["value"][1]) if found else 0.0

    well = f'hypervisor_up{{job="{job}",target=~"well.*"}}'
    count = round(ask(f"count_over_time(up{selector}{window}])"))
    return Scrapes(
        path=job,
        count=count,
        failed=count - round(ask(f"sum_over_time(up{selector}{window}])")),
        expected=int(seconds / interval_seconds) - 2,  # before the first, and while the last is under way
        median_seconds=ask(f"quantile_over_time(0.5, scrape_duration_seconds{selector}{window}])"),
        longest_seconds=ask(f"max_over_time(scrape_duration_seconds{selector}{window}])"),
        well_down=round(ask(f"max_over_time((count({well}) - sum({well})){window}:{interval_seconds}s])")),
    )


def describe(outcome: Outcome, bounds: Bounds, *, attackers: Collection[tuple[int, str]]) -> str:
    """Return the run's results as text for the page.

    :param attackers: how many there were of each kind, and what they did
    """
    looks = outcome.looks
    first = [look for look in looks if look.at < outcome.seconds / _SHARE]
    last = [look for look in looks if look.at >= outcome.seconds * (1 - 1 / _SHARE)]

    def count(name: str) -> str:
        most = [max(getattr(look, name) for look in part) for part in (first, last, looks)]
        return " | ".join(f"{each:,.0f}" for each in most)

    when = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    minutes = outcome.seconds / _SHARE / 60
    log_kib = outcome.log.read_bytes / 1024
    return "\n".join(
        [
            f"`make bench-attacks ARGS='--seconds {outcome.seconds:g}'`, {when}:",
            f"one Prometheus scrapes every {_INTERVAL_SECONDS} s over TLS with a password. The exporter",
            f"watches {WELL} hypervisors of the test driver that are well, {HUNG} that accept connections",
            f"and say nothing, and {REFUSING} that refuse them. Nobody reads its log. Its configuration",
            "changes, with and without mistakes, and SIGHUP comes several times a second. All attackers",
            "below attack at the same time, from one other address.",
            f"All share {os.cpu_count()} CPUs (load {os.getloadavg()[1]:.1f} over the last 5 minutes).",
            "",
            "| as Prometheus says | scrapes | failed | median s | longest s | well ones down, most |",
            "|---|---:|---:|---:|---:|---:|",
            *(
                f"| `{each.path}` | {each.count} | {each.failed} | {each.median_seconds:.2f}"
                f" | {each.longest_seconds:.2f} | {each.well_down} |"
                for each in outcome.scrapes
            ),
            "",
            f"| most in | the first {minutes:.1f} minutes | the last | all | SECURITY.md |",
            "|---|---:|---:|---:|---:|",
            f"| file descriptors | {count('descriptors')} | {bounds.descriptors:,} |",
            f"| threads | {count('threads')} | {bounds.threads:,} |",
            f"| resident memory, MiB | {count('memory_mib')} | {bounds.memory_mib:,} |",
            "",
            f"At the end {log_kib:.0f} KiB of the log waited for a reader.",
            f"{outcome.log.dropped:,} lines had been dropped.",
            "",
            "| attackers | what they do | how often begun |",
            "|---:|---|---:|",
            *(f"| {many} | {what} | {outcome.begun[what]:,} |" for many, what in attackers),
        ]
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

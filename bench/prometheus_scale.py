"""What a fleet costs Prometheus: series, bytes on disk, memory, and the time that the rules take.

usage: python -m bench.prometheus_scale HYPERVISORS [SECONDS [STORAGE]]

A real exporter before a real libvirtd is scraped twice; what differs is what changes from scrape to scrape. A
server then answers for each of so many hypervisors with that text, under its own name and with those values
moved, and a real Prometheus scrapes it every 15 s for so many seconds (180), with all rules. The bytes on
disk are those of one day of four such hypervisors, written by promtool. With STORAGE, an id, all of them
share one storage; without, each has its own. docs/scale.md has the results.
"""

from __future__ import annotations

import http.server
import json
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.support.exporter_process import serve
from tests.support.guests import guest_xml
from tests.support.libvirtd import LibvirtDaemon
from tests.support.prometheus_server import RULES, PrometheusServer

INTERVAL_SECONDS = 15
DAY_SECONDS = 86400
GUESTS = 20
FLAVORS = {
    "m1.small": {"vcpus": 1, "memory_mb": 2048, "disk_gb": 20},
    "m1.large": {"vcpus": 4, "memory_mb": 8192, "disk_gb": 80},
    "m1.xlarge": {"vcpus": 8, "memory_mb": 16384, "disk_gb": 160},
}
_SAMPLE = re.compile(r"([a-z_]+)(\{[^ ]*\})? ([^ ]+)")


class Exposition:
    """One exporter's text as a template: which lines there are, and which of them change.

    :param storage: the id of the storage that all hypervisors share; None if each has its own
    """

    def __init__(self, first: str, second: str, hostname: str, *, storage: str | None) -> None:
        self.lines = [line for line in second.splitlines() if line and not line.startswith("#")]
        before = dict(line.rsplit(" ", 1) for line in first.splitlines() if not line.startswith("#"))
        self.changing = {
            number
            for number, line in enumerate(self.lines)
            if before.get(line.rsplit(" ", 1)[0]) not in (None, line.rsplit(" ", 1)[1])
        }
        self._hostname = hostname
        self._storage = storage

    def samples(self, hypervisor: str, number: int) -> Iterator[tuple[str, float]]:
        """Yield the series and values of a hypervisor's scrape of that number."""
        for index, line in enumerate(self.lines):
            named = line.replace(f'"{self._hostname}"', f'"{hypervisor}"')
            named = named.replace(f'"host:{self._hostname}"', f'"{self._storage or f"host:{hypervisor}"}"')
            series, text = named.rsplit(" ", 1)
            value = float(text)
            if index in self.changing:
                name = series.partition("{")[0]
                is_growing = name.endswith(("_total", "_count", "_sum", "_bucket", "timestamp_seconds"))
                seconds = number * INTERVAL_SECONDS
                value = value + seconds if is_growing else value * random.uniform(0.97, 1.03)
            yield series, value


def record_exposition(storage: str | None = None) -> Exposition:
    """Scrape a real exporter before a real libvirtd with guests.

    :param storage: the id of the storage that all hypervisors share; None if each has its own
    """
    with LibvirtDaemon() as daemon:
        for number in range(GUESTS):
            daemon.start_guest(guest_xml(f"guest{number}"))
        hypervisor = {"uri": daemon.uri, "instances_path": str(daemon.images)}
        with serve({"hypervisors": [hypervisor], "flavors": FLAVORS, "cache_ttl": "0s"}) as exporter:
            exporter.get("/metrics")
            first = exporter.get("/metrics")
            time.sleep(2)
            second = exporter.get("/metrics")
        return Exposition(first, second, daemon.connection.getHostname(), storage=storage)


def make_server(exposition: Exposition) -> http.server.ThreadingHTTPServer:
    """Return a server that answers as the exporter of any hypervisor."""
    started = time.monotonic()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            (hypervisor,) = parse_qs(urlsplit(self.path).query)["target"]
            number = int((time.monotonic() - started) / INTERVAL_SECONDS)
            body = "".join(f"{name} {value:g}\n" for name, value in exposition.samples(hypervisor, number))
            self.send_response(200)
            self.send_header("content-type", "text/plain; version=0.0.4")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    return http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)


def measure_disk(exposition: Exposition, hypervisors: int) -> float:
    """Return how many bytes a sample takes on disk, of one day of so many hypervisors."""
    scrapes = DAY_SECONDS // INTERVAL_SECONDS
    end = int(time.time()) // DAY_SECONDS * DAY_SECONDS
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        text, blocks = Path(directory, "day.txt"), Path(directory, "blocks")
        with text.open("w") as out:
            for number in range(scrapes):
                at = end - DAY_SECONDS + number * INTERVAL_SECONDS
                for each in range(hypervisors):
                    for name, value in exposition.samples(f"kvm{each:05}", number):
                        instance = f'instance="kvm{each:05}:9177",job="hypervisors"'
                        series = (
                            f"{name[:-1]},{instance}}}" if name.endswith("}") else f"{name}{{{instance}}}"
                        )
                        out.write(f"{series} {value:g} {at}\n")
            out.write("# EOF\n")
        command = ["promtool", "tsdb", "create-blocks-from", "--max-block-duration=24h", "openmetrics"]
        subprocess.run([*command, text, blocks], check=True, stdout=subprocess.DEVNULL)
        total = sum(path.stat().st_size for path in blocks.rglob("*") if path.is_file())
    return total / (scrapes * hypervisors * len(exposition.lines))


def measure_prometheus(exposition: Exposition, hypervisors: int, seconds: float) -> dict[str, float]:
    """Return what a real Prometheus needs for so many hypervisors."""
    server = make_server(exposition)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    scrape = {
        "job_name": "hypervisors",
        "metrics_path": "/probe",
        "static_configs": [{"targets": [f"kvm{number:05}" for number in range(hypervisors)]}],
        "relabel_configs": [
            {"source_labels": ["__address__"], "target_label": "__param_target"},
            {"source_labels": ["__param_target"], "target_label": "instance"},
            {"target_label": "__address__", "replacement": f"127.0.0.1:{server.server_port}"},
        ],
    }
    itself = {"job_name": "prometheus"}
    with PrometheusServer(interval=f"{INTERVAL_SECONDS}s") as prometheus:
        prometheus.stop()
        itself["static_configs"] = [{"targets": [prometheus.url.removeprefix("http://")]}]  # type: ignore[assignment]
        rules = sorted(RULES.glob("*.yaml"))
        prometheus.configure([scrape, itself], interval=f"{INTERVAL_SECONDS}s", rule_files=rules)
        prometheus.start()
        time.sleep(seconds)

        def ask(expr: str) -> float:
            return float(prometheus.query(expr)[0]["value"][1])

        found = {
            "hypervisors that answered": ask('count(up{job="hypervisors"} == 1)'),
            "series in the head": ask("prometheus_tsdb_head_series"),
            "series recorded": ask('count({__name__=~"(guest|hypervisor|storage|cluster|target):.+"})'),
            "resident bytes": ask('process_resident_memory_bytes{job="prometheus"}'),
            "processor seconds per second": ask('rate(process_cpu_seconds_total{job="prometheus"}[1m])'),
            "seconds for all rules": ask("sum(prometheus_rule_group_last_duration_seconds)"),
            "seconds for the longest group": ask("max(prometheus_rule_group_last_duration_seconds)"),
        }
    server.shutdown()
    return found


def main(arguments: list[str]) -> None:
    hypervisors = int(arguments[0])
    seconds = float(arguments[1]) if len(arguments) > 1 else 180
    exposition = record_exposition(arguments[2] if len(arguments) > 2 else None)
    found = {
        "series of a hypervisor": len(exposition.lines),
        "series that change from scrape to scrape": len(exposition.changing),
        **measure_prometheus(exposition, hypervisors, seconds),
        "bytes of a sample on disk": measure_disk(exposition, hypervisors=4),
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])

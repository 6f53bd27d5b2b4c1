"""Load one exporter with many scrapers over TLS while guests come and go: `make bench-load`.

The results go into docs/performance.md, between two marks.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import gzip
import http.client
import itertools
import json
import os
import re
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from bench.page import write_between
from tests.support.guests import MIB, file_disk, guest_xml, make_qcow2, nova_metadata
from tests.support.libvirtd import LibvirtDaemon
from tests.support.sandbox import SandboxError
from tests.web.authority import Authority, hash_password

_CHECKOUT = Path(__file__).resolve().parent.parent
_LIBVIRT_CACHE = _CHECKOUT / ".cache" / "libvirt"
_IMAGES_BYTES = 2**30
_PASSWORD = "a password of the benchmark"
_BEGIN, _END = "<!-- What follows was written by `make bench-load`. -->", "<!-- Up to here: bench-load. -->"

_GUESTS_THAT_STAY = 8
_GUESTS_THAT_GO = 4
_SECONDS_BETWEEN_CHANGES = 1.0
_SECONDS_BETWEEN_LOOKS = 5.0
# What the interpreter, the pools of threads and the caches take at first is no leak.
_WARM_UP_SHARE = 0.1


@dataclass
class Load:
    """What one run saw.

    :ivar failures: one line for each scrape that failed
    :ivar running: the numbers of running guests in the scrapes
    """

    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    running: set[int] = field(default_factory=set)
    guests_started: int = 0
    guests_stopped: int = 0
    looks: list[Look] = field(default_factory=list)


@dataclass(frozen=True)
class Look:
    """The exporter's process at one moment."""

    at: float
    resident_bytes: int
    descriptors: int
    threads: int
    cpu_seconds: float


def main(argv: list[str] | None = None) -> int:
    """Run the load, write what it saw into the page, and return 1 if any scrape failed."""
    flags = _parse_flags(argv)
    _LIBVIRT_CACHE.mkdir(parents=True, exist_ok=True)
    try:
        with LibvirtDaemon(images_bytes=_IMAGES_BYTES, cache=_LIBVIRT_CACHE) as libvirtd:
            load = _measure(libvirtd, scrapers=flags.scrapers, seconds=flags.seconds)
    except SandboxError as error:
        print(error, file=sys.stderr)
        return 1
    text = _describe(load, scrapers=flags.scrapers, seconds=flags.seconds)
    write_between(flags.page, text, begin=_BEGIN, end=_END, heading="Under load")
    print(text)
    print(*load.failures[:20], sep="\n", file=sys.stderr)
    return 1 if load.failures else 0


def _parse_flags(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-load", description=__doc__)
    add = parser.add_argument
    add("--scrapers", type=int, default=50, help="each over a connection of its own, once a second (50)")
    add("--seconds", type=float, default=600.0, help="how long (600)")
    add("--page", type=Path, default=_CHECKOUT / "docs" / "performance.md", help="the page to write to")
    return parser.parse_args(argv)


def _measure(libvirtd: LibvirtDaemon, *, scrapers: int, seconds: float) -> Load:
    load = Load()
    for number in range(_GUESTS_THAT_STAY):
        _start_guest(libvirtd, f"instance-{number:08x}")
    with (
        tempfile.TemporaryDirectory(prefix="hx-load-") as directory,
        _exporter(libvirtd, Path(directory)) as (pid, port, tls),
    ):
        is_over = threading.Event()
        threads = [
            threading.Thread(target=_scrape, args=(port, tls, number / scrapers, load, is_over))
            for number in range(scrapers)
        ]
        threads.append(threading.Thread(target=_change_guests, args=(libvirtd, load, is_over)))
        for thread in threads:
            thread.start()
        started = time.monotonic()
        while (elapsed := time.monotonic() - started) < seconds:
            load.looks.append(_look(pid, elapsed))
            time.sleep(min(_SECONDS_BETWEEN_LOOKS, seconds - elapsed))
        load.looks.append(_look(pid, elapsed))
        is_over.set()
        for thread in threads:
            thread.join()
    return load


@contextlib.contextmanager
def _exporter(libvirtd: LibvirtDaemon, directory: Path) -> Iterator[tuple[int, int, ssl.SSLContext]]:
    """Run the exporter with TLS and a user; yield its process, its port, and what a client trusts."""
    authority = Authority(directory)
    authority.issue("server", "localhost")
    web = {
        "tls_server_config": {"cert_file": "server.crt", "key_file": "server.key"},
        "basic_auth_users": {"prometheus": hash_password(_PASSWORD)},
    }
    (directory / "web.yml").write_text(json.dumps(web))
    hypervisor = {"uri": libvirtd.uri_read_only, "instances_path": str(libvirtd.images)}
    (directory / "config.yaml").write_text(
        json.dumps({"hypervisors": [hypervisor], "flavors_from_guests": True})
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    log = directory / "log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "exporter", "--config.file", directory / "config.yaml"),
                *("--web.config.file", directory / "web.yml", "--web.listen-address", f"127.0.0.1:{port}"),
            ],
            cwd=_CHECKOUT,
            stderr=stderr,
        )
    try:
        while "msg=listening" not in log.read_text():
            if process.poll() is not None:
                raise SandboxError(f"the exporter ended: {log.read_text()}")
            time.sleep(0.1)
        yield process.pid, port, ssl.create_default_context(cafile=str(authority.certificate))
    finally:
        process.terminate()
        process.wait(timeout=20)
    said = [line for line in log.read_text().splitlines() if "level=error" in line or "Traceback" in line]
    print(*said, sep="\n", file=sys.stderr)


def _scrape(port: int, tls: ssl.SSLContext, offset: float, load: Load, is_over: threading.Event) -> None:
    """Scrape once a second as Prometheus does, over a connection that is kept."""
    credentials = base64.b64encode(f"prometheus:{_PASSWORD}".encode()).decode()
    headers = {
        "Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        "Accept-Encoding": "gzip",
        "Authorization": f"Basic {credentials}",
        "X-Prometheus-Scrape-Timeout-Seconds": "10",
    }
    connection = http.client.HTTPSConnection("localhost", port, timeout=10, context=tls)
    is_over.wait(offset)
    due = time.monotonic()
    while not is_over.wait(max(0.0, due - time.monotonic())):
        due = max(due + 1.0, time.monotonic())
        started = time.perf_counter()
        try:
            connection.request("GET", "/metrics", headers=headers)
            response = connection.getresponse()
            body = gzip.decompress(response.read()).decode()
        except (OSError, http.client.HTTPException, EOFError) as error:
            load.failures.append(f"scrape failed: {error!r}")
            connection.close()
            continue
        load.seconds.append(time.perf_counter() - started)
        running = re.search(r"^hypervisor_running_vms\{.*\} (\S+)$", body, re.MULTILINE)
        is_up = re.search(r"^hypervisor_up\{.*\} 1(\.0)?$", body, re.MULTILINE) is not None
        if response.status != http.HTTPStatus.OK or not body.endswith("# EOF\n") or not is_up or not running:
            load.failures.append(f"scrape answered {response.status}, up {is_up}: {body[-200:]!r}")
        else:
            load.running.add(int(float(running[1])))
    connection.close()


def _change_guests(libvirtd: LibvirtDaemon, load: Load, is_over: threading.Event) -> None:
    """Start and destroy guests in turns, so that between none and all of those that go are there."""
    names = [f"instance-{0x100 + number:08x}" for number in range(_GUESTS_THAT_GO)]
    domains = {}
    for name in itertools.cycle(names):
        if is_over.wait(_SECONDS_BETWEEN_CHANGES):
            return
        if name in domains:
            domains[name].destroy()
            domains.pop(name).undefine()
            (libvirtd.images / f"{name}.qcow2").unlink()
            load.guests_stopped += 1
        else:
            domains[name] = _start_guest(libvirtd, name)
            load.guests_started += 1


def _start_guest(libvirtd: LibvirtDaemon, name: str) -> object:
    image = make_qcow2(libvirtd.images / f"{name}.qcow2", 64 * MIB)
    metadata = nova_metadata("m1.tiny", vcpus=1, memory=16, disk=1)
    return libvirtd.start_guest(guest_xml(name, disks=[file_disk(image)], metadata=metadata))


def _look(pid: int, at: float) -> Look:
    process = Path(f"/proc/{pid}")
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    return Look(
        at=at,
        resident_bytes=int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
        descriptors=len(list((process / "fd").iterdir())),
        threads=int(fields[17]),  # num_threads; see proc_pid_stat(5), whose third field is the first here
        cpu_seconds=(int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"),  # utime, stime
    )


def _describe(load: Load, *, scrapers: int, seconds: float) -> str:
    warm = [look for look in load.looks if look.at >= seconds * _WARM_UP_SHARE] or load.looks
    first, last = warm[0], warm[-1]
    p50, p99 = statistics.median(load.seconds), statistics.quantiles(load.seconds, n=100)[98]
    scrapes = len(load.seconds) + len(load.failures)
    cpu = (last.cpu_seconds - first.cpu_seconds) / (last.at - first.at)
    rows = [
        ("scrapes", f"{scrapes:,}"),
        ("failed scrapes", str(len(load.failures))),
        ("scrape time p50, p99, longest", _in_ms(p50, p99, max(load.seconds))),
        ("guests started, destroyed", f"{load.guests_started}, {load.guests_stopped}"),
        ("running guests in the scrapes", f"{min(load.running)} to {max(load.running)}"),
        (f"resident memory after {first.at:.0f} s, at the end, most", _in_mib(warm)),
        ("file descriptors, the same", _three([look.descriptors for look in warm])),
        ("threads, the same", _three([look.threads for look in warm])),
        ("CPUs used by the exporter", f"{cpu:.2f}"),
    ]
    command = f"make bench-load ARGS='--scrapers {scrapers} --seconds {seconds:g}'"
    when = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return "\n".join(
        [
            f"`{command}`, {when}:",
            f"{scrapers} scrapers for {seconds:.0f} s. Each scrapes once a second over TLS with basic",
            "authentication, on one kept connection. The libvirtd is real; guests are started and destroyed",
            f"about every second. All share {os.cpu_count()} CPUs with other work",
            f"(load {os.getloadavg()[2]:.1f} over the last 15 minutes).",
            "",
            "| | |",
            "|---|---:|",
            *(f"| {name} | {value} |" for name, value in rows),
        ]
    )


def _in_ms(*seconds: float) -> str:
    return ", ".join(f"{each * 1000:,.1f}" for each in seconds) + " ms"


def _in_mib(looks: list[Look]) -> str:
    sizes = [look.resident_bytes / 2**20 for look in looks]
    return ", ".join(f"{each:.1f}" for each in (sizes[0], sizes[-1], max(sizes))) + " MiB"


def _three(numbers: list[int]) -> str:
    return f"{numbers[0]}, {numbers[-1]}, {max(numbers)}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

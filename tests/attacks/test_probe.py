"""Probes of thousands of hosts that do not exist, beside one that does."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from exporter.web.probe import MAX_TARGETS
from tests.attacks.clients import count_descriptors, get_port
from tests.support.exporter_process import RunningExporter, serve
from tests.support.libvirtd import LibvirtDaemon
from tests.support.waiting import wait_until

REAL = "/probe?target=127.0.0.1"  # the daemon listens on no other address


def test_names_that_match_a_module_keep_no_host_out(libvirtd: LibvirtDaemon) -> None:
    """Before, 2,000 of them filled the table for ten minutes, and each was connected to again and again."""
    port = urlsplit(libvirtd.uri_tcp).port
    module = {"uri": f"qemu+tcp://{{target}}:{port}/system", "target": r"127\..*"}
    with serve({"modules": {"default": module}, "cache_ttl": "0s", "scrape_timeout": "9s"}) as exporter:
        asyncio.run(_name_hosts(get_port(exporter), count=MAX_TARGETS + 100))
        wait_until(lambda: _is_read(exporter), "the one that is there, after all others", seconds=20)
        for _ in range(3):
            asyncio.run(_name_hosts(get_port(exporter), count=200))
            assert _is_read(exporter)
        wait_until(lambda: count_descriptors(exporter.process.pid) < 200, "all others to be given up")


def _is_read(exporter: RunningExporter) -> bool:
    return exporter.scrape(REAL, seconds=20).get("hypervisor_vcpus") is not None


async def _name_hosts(port: int, *, count: int) -> None:
    """Probe so many hosts, each once."""
    asked = 0

    async def probe() -> None:
        nonlocal asked
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while asked < count:
            number, asked = asked + 2, asked + 1
            target = f"127.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
            timeout = "X-Prometheus-Scrape-Timeout-Seconds: 0.000001"
            writer.write(f"GET /probe?target={target} HTTP/1.1\r\nHost: x\r\n{timeout}\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().splitlines() if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
        writer.close()

    await asyncio.gather(*(probe() for _ in range(100)))

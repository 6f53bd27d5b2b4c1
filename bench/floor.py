"""The floor: what a scrape's reads cost by themselves. `python -m bench.floor URI INSTANCES_PATH`.

It makes the calls to libvirt that a warm scrape of this exporter makes, over one connection and one after the
other, and looks at the same files. Nothing is parsed, computed, rendered or sent. For each line on standard
input it reads once, and answers with a line.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any
from xml.etree import ElementTree

import libvirt


class Floor:
    """A process that reads once whenever it is asked to; it knows the guests that there were at its start.

    :ivar pid: the process
    """

    def __init__(self, uri: str, images: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.floor", uri, str(images)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.pid = self._process.pid

    def __enter__(self) -> Floor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=10)

    def read(self) -> bytes:
        """Have it read once.

        :raises OSError: when the process has ended
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise OSError("the floor's process has ended")
        return line


def main(uri: str, instances_path: str) -> None:
    """Answer each line on standard input with the number of domains, once everything was read."""
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    read_once = _prepare(libvirt.openReadOnly(uri), instances_path)
    for _ in sys.stdin.buffer:
        sys.stdout.buffer.write(b"%d\n" % read_once())
        sys.stdout.buffer.flush()


def _prepare(connection: Any, instances_path: str) -> Callable[[], int]:
    """Find out which cells, pages and images there are, and return what reads once."""
    cells = [
        (int(cell.get("id", "0")), [int(pages.get("size", "0")) for pages in cell.iterfind("pages")])
        for cell in ElementTree.fromstring(connection.getCapabilities()).iterfind(".//topology/cells/cell")
    ]
    images = [
        source.get("file", "")
        for domain in connection.listAllDomains()
        for source in ElementTree.fromstring(domain.XMLDesc()).iterfind("devices/disk[@type='file']/source")
    ]

    def read_once() -> int:
        connection.getInfo()
        connection.getCPUMap()
        with contextlib.suppress(libvirt.libvirtError):
            connection.getCPUStats(libvirt.VIR_NODE_CPU_STATS_ALL_CPUS)
        domains = [
            (domain.UUIDString(), domain.name(), domain.ID(), stats["state.state"])
            for domain, stats in connection.getAllDomainStats(libvirt.VIR_DOMAIN_STATS_STATE)
        ]
        with contextlib.suppress(libvirt.libvirtError):  # the test driver has no such call
            connection.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS)
        if cells:
            connection.getCellsFreeMemory(cells[0][0], len(cells))
            with contextlib.suppress(libvirt.libvirtError):
                connection.getFreePages(cells[0][1], cells[0][0], len(cells))
        os.statvfs(instances_path)
        for image in images:
            os.stat(image)
        return len(domains)

    return read_once


if __name__ == "__main__":
    main(*sys.argv[1:])

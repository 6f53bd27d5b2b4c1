"""Guests that work, before an exporter that shows what they do: what the tests of its collector share."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.boot_sectors import boot_sector, make_boot_disk
from tests.support.exporter_process import RunningExporter, Scrape, serve
from tests.support.guests import file_disk, guest_xml
from tests.support.libvirtd import LibvirtDaemon
from tests.support.waiting import wait_until
from tests.support.watching import Timed, watch

_CHECKOUT = Path(__file__).resolve().parents[2]

# A guest is asked once in 10 s. Each of five that do not answer takes 2 s more of a round.
_SHOWS_SECONDS = 45


def start_writers(libvirtd: LibvirtDaemon, *names: str) -> None:
    """Start guests that write for ever."""
    for name in names:
        start_guest(libvirtd, name, boot_sector(writes=10, goes_on=True))


def start_guest(libvirtd: LibvirtDaemon, name: str, sector: bytes, *, interfaces: Sequence[str] = ()) -> Any:
    """Start a guest that does what this boot sector says."""
    disk = make_boot_disk(libvirtd.images / f"{name}.raw", sector)
    return libvirtd.start_guest(guest_xml(name, disks=[file_disk(disk, format="raw")], interfaces=interfaces))


@contextmanager
def serve_guests(
    libvirtd: LibvirtDaemon, *, sees_processes: bool = True, **settings: Any
) -> Iterator[RunningExporter]:
    """Run the exporter with its collector `guests`.

    :param sees_processes: whether it runs where libvirtd does, and sees which process each guest is, and its
        control groups
    """
    command = ["env", f"--chdir={_CHECKOUT}", sys.executable, "-m", "exporter", "--collector.guests"]
    if sees_processes:
        command = libvirtd.sandbox.command(*command)
    hypervisor = {"name": "kvm", "uri": libvirtd.uri_read_only, "instances_path": str(libvirtd.images)}
    with serve({"cache_ttl": "0s", **settings, "hypervisors": [hypervisor]}, command=command) as exporter:
        yield exporter
        assert "Traceback" not in exporter.log


def get_written(scrape: Scrape, guest: str) -> float | None:
    """Return how many bytes a guest has written to its disk, as the exporter says."""
    return scrape.get("hypervisor_guest_disk_written_bytes_total", domain=guest, device="vda")


def wait_for_answers(exporter: RunningExporter, *names: str) -> Scrape:
    """Scrape until all of these guests have answered, and none does not; return the last scrape."""
    return wait_until(
        lambda: _all_have_answered(exporter.scrape(), names), "all guests to answer", seconds=_SHOWS_SECONDS
    )


def _all_have_answered(scrape: Scrape, names: Sequence[str]) -> Scrape | None:
    answers = [scrape.get("hypervisor_guest_responsive", domain=name) for name in names]
    have_answered = answers == [1] * len(names) and scrape.get("hypervisor_guests_unresponsive") == 0
    return scrape if have_answered else None


def watch_until(
    exporter: RunningExporter, libvirtd: LibvirtDaemon, shows: Callable[[Scrape], bool]
) -> list[Timed]:
    """Scrape ten times a second until something shows; the last scrape shows it."""
    taken: list[Timed] = []
    deadline = time.monotonic() + _SHOWS_SECONDS
    while not taken or not shows(taken[-1].scrape):
        assert time.monotonic() < deadline, f"it does not show; the last scrape: {taken[-1].scrape.text}"
        taken += watch(exporter, libvirtd, 0.2)
    return taken

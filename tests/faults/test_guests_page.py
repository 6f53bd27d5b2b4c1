"""The page of a hypervisor's guests shows what real guests do."""

from __future__ import annotations

import contextlib
import re
import time
from pathlib import Path

import pytest

from exporter.page.quantity import UNKNOWN
from tests.support.boot_sectors import boot_sector
from tests.support.exporter_process import RunningExporter
from tests.support.libvirtd import LibvirtDaemon
from tests.support.sandbox import SandboxError
from tests.support.working_guests import serve_guests, start_guest

_LOOK_SECONDS = 4


def test_a_guest_that_spins_uses_a_cpu_or_waits_for_one_and_one_that_sleeps_does_not(
    libvirt_cache: Path,
) -> None:
    """However busy the machine is, its vCPU always runs or waits. The first look knows nothing of it yet."""
    with contextlib.ExitStack() as stack:
        try:
            libvirtd = stack.enter_context(LibvirtDaemon(cache=libvirt_cache, cgroups="v2"))
        except SandboxError as error:
            pytest.skip(f"nothing counts what guests use: {error}")
        start_guest(libvirtd, "spins", boot_sector(spins=True))
        start_guest(libvirtd, "sleeps", boot_sector())
        with serve_guests(libvirtd) as exporter:
            time.sleep(_LOOK_SECONDS)  # the BIOS is done
            assert read_use(exporter, "spins") == [UNKNOWN, UNKNOWN]
            time.sleep(_LOOK_SECONDS)
            page = exporter.get("/guests")
    used, waited = parse_use(page, "spins")
    assert 0.8 <= float(used) + int(waited.removesuffix(" %")) / 100 <= 1.3
    used, waited = parse_use(page, "sleeps")
    assert float(used) < 0.3
    assert int(waited.removesuffix(" %")) < 30


def read_use(exporter: RunningExporter, guest: str) -> list[str]:
    return parse_use(exporter.get("/guests"), guest)


def parse_use(page: str, guest: str) -> list[str]:
    """Return how many CPUs the guest uses, and how much of the time it waits, as they are shown."""
    row = page.partition(f'<th scope="row" data-v="{guest}">')[2].partition("</tr>")[0]
    return re.findall(r'data-label="(?:CPU use|Waits)"[^>]*>([^<]*)<', row)

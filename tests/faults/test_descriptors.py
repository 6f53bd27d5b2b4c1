"""Few file descriptors: the limit is raised, and where that is not enough, it is one line and not a signal.

GLib ends the process (SIGTRAP) when libvirt opens a connection and no descriptor is free.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from exporter.descriptors import OPENING_DESCRIPTORS, SERVING_DESCRIPTORS, count_needed
from tests.support.exporter_process import Scrape
from tests.support.libvirtd import LibvirtDaemon

CHECKOUT = Path(__file__).resolve().parents[2]
MANY = 30


def run(limits: str, *flags: str) -> subprocess.CompletedProcess[str]:
    shell = ["/bin/bash", "-c", f'ulimit {limits}; exec "$@"', "bash"]
    return subprocess.run(
        [*shell, sys.executable, "-m", "exporter", *flags],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    "limits", ["-Sn 16", "-Hn 1024; ulimit -Sn 10", f"-n {count_needed(1) + OPENING_DESCRIPTORS}"]
)
def test_once_reads_a_daemon_with_the_fewest_that_it_says_are_needed(
    libvirtd: LibvirtDaemon, limits: str
) -> None:
    result = run(limits, "--once", "--libvirt.uri", libvirtd.uri_read_only)
    assert result.returncode == 0, result.stderr
    assert Scrape(result.stdout).value("hypervisor_up") == 1


@pytest.mark.parametrize("limits", ["-n 10", "-n 16", "-n 21"])
def test_once_with_too_few_for_a_daemon_is_one_line(libvirtd: LibvirtDaemon, limits: str) -> None:
    result = run(limits, "--once", "--libvirt.uri", libvirtd.uri_read_only)
    (line,) = result.stderr.splitlines()
    assert f"too few file descriptors: {limits[3:]} are allowed, and 22 are needed for 1 hypervisors" in line
    assert (result.returncode, result.stdout) == (1, "")


def test_serving_with_too_few_is_one_line(libvirtd: LibvirtDaemon) -> None:
    needed = count_needed(1) + OPENING_DESCRIPTORS + SERVING_DESCRIPTORS
    result = run(f"-n {needed - 1}", "--libvirt.uri", libvirtd.uri_read_only)
    (line,) = result.stderr.splitlines()
    assert f"{needed - 1} are allowed, and {needed} are needed for 1 hypervisors" in line
    assert (result.returncode, result.stdout) == (1, "")


def test_the_test_driver_needs_no_more_than_python() -> None:
    result = run("-n 16", "--once", "--libvirt.uri=test:///default")
    assert result.returncode == 0, result.stderr
    result = run("-n 15", "--once", "--libvirt.uri=test:///default")
    (line,) = result.stderr.splitlines()
    assert "too few file descriptors: 15 are allowed, and 16 are needed:" in line


@pytest.mark.parametrize(
    "limits", ["-Hn 1024; ulimit -Sn 64", f"-n {count_needed(MANY) + OPENING_DESCRIPTORS}"]
)
def test_many_daemons_are_all_reached(libvirtd: LibvirtDaemon, tmp_path: Path, limits: str) -> None:
    """Shows that openings at the same time leave each other enough. All are one, and so shown once."""
    socket = Path(libvirtd.uri_read_only.partition("socket=")[2])
    hypervisors = []
    for number in range(MANY):
        link = tmp_path / str(number)
        link.symlink_to(socket)
        hypervisors.append({"name": f"h{number}", "uri": f"qemu:///system?socket={link}"})
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"hypervisors": hypervisors}))
    result = run(limits, "--once", "--config.file", str(config))
    assert result.returncode == 1, "for the same host name is there many times"
    scrape = Scrape(result.stdout, log=result.stderr)
    for number in range(MANY):
        name = "hypervisor_refresh_errors_total"
        assert scrape.value(name, target=f"h{number}", reason="connect") == 0, result.stderr
    assert "file descriptor" not in result.stderr

"""What a sandbox hides is said, with real mounts: systemd's own kinds of them, and a container's root."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.exporter_process import Scrape
from tests.support.guests import file_disk, guest_xml, make_qcow2
from tests.support.libvirtd import LibvirtDaemon

CHECKOUT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount"),
    pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare (util-linux) is missing"),
]

# As systemd's namespace.c makes them.
HIDE_HOME = """
mkdir -p /run/hx-systemd; mount -t tmpfs tmpfs /run/hx-systemd; cd /run/hx-systemd
mkdir -p -m 0 systemd/inaccessible/dir; mount --bind systemd/inaccessible/dir /home; cd "$OLDPWD"
"""
EMPTY_HOME = "mount -t tmpfs -o ro,mode=755 tmpfs /home"
PRIVATE_TMP = """
private=/var/tmp/systemd-private-0123456789abcdef0123456789abcdef-hypervisor-exporter.service-Ab1/tmp
mkdir -p $private; mount --bind $private /var/tmp
"""
CONTAINER = """
mkdir -p /run/hx-overlay; mount -t tmpfs tmpfs /run/hx-overlay; cd /run/hx-overlay; mkdir upper work root
mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root
for folder in proc dev sys run tmp "$SOCKETS"; do mount --rbind "/${folder#/}" "root/${folder#/}"; done
export container=podman; exec chroot root "$@"
"""


@pytest.fixture
def in_var_tmp() -> Iterator[Path]:
    """A folder in /var/tmp, with what the test of a private one leaves there."""
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    yield folder
    shutil.rmtree(folder)
    for left in Path("/var/tmp").glob("systemd-private-0123456789abcdef*"):
        shutil.rmtree(left)


def scrape(libvirtd: LibvirtDaemon, mounts: str, instances_path: Path | str) -> tuple[int, Scrape]:
    """Return a scrape by an exporter that has these mounts."""
    sockets = Path(libvirtd.uri.partition("socket=")[2]).parent
    command = ["unshare", "--mount", "--propagation=private", "sh", "-ec", f'{mounts}\nexec "$@"', "sh"]
    exporter = [sys.executable, "-m", "exporter", "--once", f"--libvirt.uri={libvirtd.uri}"]
    result = subprocess.run(
        [*command, *exporter, f"--instances-path={instances_path}"],
        cwd=CHECKOUT,
        env={**os.environ, "SOCKETS": str(sockets), "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return result.returncode, Scrape(text=result.stdout, log=result.stderr)


@pytest.mark.parametrize(
    ("mounts", "path", "said"),
    [
        (HIDE_HOME, "/home", "the unit of this service hides /home"),
        (EMPTY_HOME, "/home", "the unit of this service hides /home"),
        (EMPTY_HOME, "/home/nova/instances", "the unit of this service hides /home"),
        (PRIVATE_TMP, "/var/tmp", "this service has a /var/tmp of its own. Set PrivateTmp=no"),
        (CONTAINER, "/var/lib", "it is on the container's own file system. Mount the host's folder"),
    ],
    ids=["ProtectHome=yes", "ProtectHome=tmpfs", "below it", "PrivateTmp=yes", "a container"],
)
def test_a_path_that_is_not_the_hosts_has_no_numbers_and_says_so(
    libvirtd: LibvirtDaemon, in_var_tmp: Path, mounts: str, path: str, said: str
) -> None:
    status, seen = scrape(libvirtd, mounts, path)
    assert said in seen.log, seen.log
    assert status == 1
    assert not re.search("^hypervisor_(storage_size_bytes|local_gb)", seen.text, re.MULTILINE)
    assert seen.value("hypervisor_memory_mb") == libvirtd.connection.getInfo()[1]


def test_the_same_path_is_measured_where_nothing_hides_it(libvirtd: LibvirtDaemon, in_var_tmp: Path) -> None:
    status, seen = scrape(libvirtd, "", in_var_tmp)
    assert status == 0, seen.log
    file_system = os.statvfs(in_var_tmp)
    assert seen.value("hypervisor_storage_size_bytes") == file_system.f_frsize * file_system.f_blocks


def test_an_image_that_is_hidden_is_asked_of_libvirt(libvirtd: LibvirtDaemon, in_var_tmp: Path) -> None:
    """It is not gone: its guest counts in the over-commit as ever."""
    image = make_qcow2(in_var_tmp / "disk.qcow2", 1 << 30)
    libvirtd.define(guest_xml("guest", disks=[file_disk(image)]))
    status, seen = scrape(libvirtd, PRIVATE_TMP, libvirtd.images)
    assert status == 0, seen.log
    assert seen.value("hypervisor_unsized_disks") == 0
    grown = (1 << 30) - image.stat().st_blocks * 512
    assert seen.value("hypervisor_storage_overcommitted_bytes") == pytest.approx(grown, abs=1 << 20)

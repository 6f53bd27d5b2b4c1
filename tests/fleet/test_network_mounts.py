"""Two exporters on one real network file system find out that they share it, and it counts once.

Each is beside a libvirtd with a host name of its own. Each writes the server, or the path, in another way. A
third one has storage of its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.support.exporter_process import serve
from tests.support.fleet import Fleet, Host
from tests.support.hung_mount import hung_mount
from tests.support.libvirtd import LibvirtDaemon
from tests.support.network_mounts import (
    GLUSTER_HOST,
    GLUSTER_PROGRAMS,
    SFTP_SERVER,
    SSHFS_PROGRAMS,
    mount_gluster,
    mount_sshfs,
    mount_tmpfs,
)
from tests.support.prometheus_server import RULES, PrometheusServer
from tests.support.records import GIB, MIB
from tests.support.sandbox import SandboxError
from tests.support.waiting import wait_until

# Two instances paths on a served folder, and the id that both have.
Share = Callable[[Path, Path], AbstractContextManager[tuple[Path, Path, str]]]


@pytest.fixture
def root() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="hx-net-", dir="/tmp"))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def require(programs: tuple[str, ...]) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: `make test` installs them where the distribution has them")


@contextlib.contextmanager
def share_by_sshfs(root: Path, served: Path) -> Iterator[tuple[Path, Path, str]]:
    """Mount the served folder twice, and yield two instances paths and the id."""
    require((*SSHFS_PROGRAMS, str(SFTP_SERVER)))
    with (
        mount_sshfs(f"nova@NAS01.example:{served}/", root / "a"),
        mount_sshfs(f"root@nas01.example.:{served}", root / "b"),
    ):
        yield root / "a", root / "b", f"sshfs:nas01.example:{served}"


@contextlib.contextmanager
def share_by_gluster(root: Path, served: Path) -> Iterator[tuple[Path, Path, str]]:
    """Do the same with a volume. The second path is a link to a folder of it."""
    require(GLUSTER_PROGRAMS)
    brick = served / "brick"
    brick.mkdir()
    with mount_gluster(root / "gluster", brick, root / "a", root / "b"):
        (root / "a" / "instances").mkdir()
        (root / "link").symlink_to(root / "b" / "instances")
        yield root / "a", root / "link", f"glusterfs:{GLUSTER_HOST}:vms"


@pytest.fixture(scope="module")
def libvirtds(libvirt_cache: Path) -> Iterator[list[LibvirtDaemon]]:
    """Three, of which the last one's images are on a file system of its own."""
    with contextlib.ExitStack() as stack:
        try:
            yield [
                stack.enter_context(LibvirtDaemon(cache=libvirt_cache, hostname=name))
                for name in ("kvm01", "kvm02", "kvm03")
            ]
        except SandboxError as error:
            pytest.fail(str(error), pytrace=False)


@pytest.mark.parametrize("share", [share_by_sshfs, share_by_gluster])
def test_a_network_file_system_counts_once(root: Path, libvirtds: list[LibvirtDaemon], share: Share) -> None:
    served = root / "served"
    with mount_tmpfs(served, mebibytes=3072), share(root, served) as (first, second, shared_id):
        (served / "image").write_bytes(bytes(512 * MIB))
        paths = (first, second, libvirtds[2].images)
        size, used = measure(first)
        own_size, own_used = measure(libvirtds[2].images)
        assert 512 * MIB <= used < size
        with Fleet() as fleet:
            for number, (libvirtd, path) in enumerate(zip(libvirtds, paths, strict=True), start=1):
                options = {"instances_path": str(path)}
                fleet.add(Host(name=f"kvm0{number}", uri=libvirtd.uri_read_only, options=options))
            scrapes = [exporter.scrape() for exporter in fleet.exporters]
            sizes = [scrape.value("hypervisor_storage_size_bytes") for scrape in scrapes]
            assert sizes == [size, size, own_size]
            infos = [scrape.series("hypervisor_storage_info")[0][0] for scrape in scrapes]
            assert [info["storage"] for info in infos] == [shared_id, shared_id, "host:kvm03"]
            with PrometheusServer(
                scrape_configs=[fleet.scrape_config], interval="1s", rule_files=sorted(RULES.glob("*.yaml"))
            ) as prometheus:
                expected = {
                    "cluster:resource:physical": (size + own_size) / GIB,
                    "cluster:resource:used": (used + own_used) / GIB,
                }
                wait_until(
                    lambda: read_totals(prometheus, expected) == pytest.approx(expected),
                    f"totals of {expected}",
                    seconds=30,
                )


def test_a_storage_that_hangs_stays_the_same_one(root: Path, libvirtds: list[LibvirtDaemon]) -> None:
    """Shows that the guests of a host whose mount died still claim from what they share with others."""
    with (
        mount_tmpfs(root / "served", mebibytes=64),
        share_by_sshfs(root, root / "served") as (path, _, shared_id),
    ):
        hypervisor = {"uri": libvirtds[0].uri_read_only, "instances_path": str(path)}
        with serve({"cache_ttl": "0s", "hypervisors": [hypervisor]}) as exporter:
            assert exporter.scrape().get("hypervisor_local_gb") is not None
            with hung_mount(path):
                wait_until(lambda: exporter.scrape().get("hypervisor_local_gb") is None, "the hung mount")
                assert exporter.scrape().value("hypervisor_storage_info", storage=shared_id) == 1


def measure(path: Path) -> tuple[int, int]:
    """Return the size and the used bytes of a file system."""
    status = os.statvfs(path)
    return status.f_blocks * status.f_frsize, (status.f_blocks - status.f_bfree) * status.f_frsize


def read_totals(prometheus: PrometheusServer, rules: Iterable[str]) -> dict[str, float]:
    return {
        rule: float(sample["value"][1])
        for rule in rules
        for sample in prometheus.query(f'{rule}{{resource_class="DISK_GB"}}')
    }

"""Which storage a hypervisor says that its numbers are of, and who tells them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from exporter.model import PoolSource, Resources, Severity, Storage
from exporter.virt.storage.ceph_pools import FSID_INTERVAL_SECONDS
from exporter.virt.storage.command_reader import READ_INTERVAL_SECONDS
from tests.support.driver_bench import Bench
from tests.support.programs import CEPH_DF, write_program
from tests.support.records import make_pool
from tests.support.waiting import wait_until

FSID = "3f6a52bc-1c2c-4b5e-9d5c-3f6b2ad1a111"
OTHER_FSID = "4f6a52bc-1c2c-4b5e-9d5c-3f6b2ad1a111"
FROM_CEPH = Storage(size_bytes=322122547200, used_bytes=16106127360, free_bytes=91268055040)
RBD_POOL = make_pool("ceph", source=PoolSource(type="rbd", name="vms", hosts=("mon2", "MON1:6789")))


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory whose programs are found, and no others."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def write_ceph(programs: Path, *, fsid: str | None = FSID) -> None:
    says_fsid = "exit 1" if fsid is None else f"echo {fsid}"
    write_program(programs, "ceph", f'case "$1" in fsid) {says_fsid};; *) cat <<END\n{CEPH_DF}\nEND\n;; esac')


def get_id(resources: Resources) -> str | None:
    return None if resources.storage_identity is None else resources.storage_identity.id


def test_a_ceph_pool_is_known_by_its_cluster_and_name_and_libvirt_is_not_asked(programs: Path) -> None:
    write_ceph(programs, fsid=FSID.upper())
    bench = Bench(images_type="rbd", images_rbd_pool="vms")
    bench.libvirt.pools = (RBD_POOL,)
    resources = bench.read()
    assert resources.storage == FROM_CEPH
    assert get_id(resources) == f"rbd:{FSID}:vms"
    assert resources.problems == ()
    assert ("pools", "") not in bench.libvirt.asked


def test_where_ceph_cannot_be_asked_libvirts_pool_counts_and_is_said_to_be_raw(programs: Path) -> None:
    bench = Bench(images_type="rbd", images_rbd_pool="vms")
    bench.libvirt.pools = (RBD_POOL,)
    resources = bench.read()
    assert resources.storage is not None
    assert (resources.storage.free_bytes, resources.storage.is_raw) == (RBD_POOL.available_bytes, True)
    assert get_id(resources) == "rbd:mon1,mon2:vms"
    (problem,) = resources.problems
    assert (problem.reason, problem.severity) == ("raw", Severity.NOTE)
    assert "before replication" in problem.message
    assert "ceph (package ceph-common) is not installed" in problem.message
    write_ceph(programs)
    bench.clock.now += READ_INTERVAL_SECONDS
    bench.do_what_is_due()
    assert bench.read().storage == FROM_CEPH, "once it can be asked, its numbers count"


def test_replicas_that_are_configured_make_the_pools_numbers_as_ceph_has_them(programs: Path) -> None:
    bench = Bench(images_type="rbd", images_rbd_pool="vms", images_rbd_replicas=3)
    bench.libvirt.pools = (RBD_POOL,)
    resources = bench.read()
    assert resources.storage == Storage(
        size_bytes=RBD_POOL.capacity_bytes,
        used_bytes=RBD_POOL.allocation_bytes,
        free_bytes=(RBD_POOL.available_bytes - RBD_POOL.capacity_bytes // 20) // 3,
    )
    assert resources.problems == ()


def test_without_ceph_and_without_a_pool_both_are_said_to_be_missing(programs: Path) -> None:
    bench = Bench(images_type="rbd", images_rbd_pool="vms")
    bench.libvirt.pools = (make_pool("other", source=PoolSource(type="rbd", name="images")),)
    (problem,) = bench.read().problems
    assert problem.message == (
        "images_rbd_pool vms: ceph (package ceph-common) is not installed; no active storage pool has it"
        " (there are: images)"
    )


def test_a_ceph_that_answered_once_is_not_replaced_by_a_raw_number(programs: Path) -> None:
    """Shows that a cluster which is away for long has no numbers, but keeps its id."""
    write_ceph(programs)
    bench = Bench(images_type="rbd", images_rbd_pool="vms")
    bench.libvirt.pools = (RBD_POOL,)
    bench.read()
    (programs / "ceph").unlink()
    bench.clock.now += 301
    bench.do_what_is_due()
    resources = bench.read()
    assert resources.storage is None
    assert get_id(resources) == f"rbd:{FSID}:vms"


def test_a_cluster_whose_fsid_is_not_there_yet_has_numbers_and_no_identity(programs: Path) -> None:
    """Shows that shared storage is not taken for the host's own meanwhile."""
    (programs / "hangs").touch()
    write_program(
        programs,
        "ceph",
        f"""if [ "$1" = fsid ]; then
while [ -e {programs}/hangs ]; do sleep 0.02; done
echo {FSID}; exit
fi
cat <<END
{CEPH_DF}
END""",
    )
    bench = Bench(images_type="rbd", images_rbd_pool="vms")
    resources = bench.read()
    assert (resources.storage, resources.storage_identity, resources.problems) == (FROM_CEPH, None, ())
    (programs / "hangs").unlink()
    wait_until(lambda: get_id(bench.read()) == f"rbd:{FSID}:vms", "the fsid")


def test_a_cluster_that_does_not_tell_its_fsid_is_not_known_to_be_shared(programs: Path) -> None:
    write_ceph(programs, fsid=None)
    resources = Bench(images_type="rbd", images_rbd_pool="vms").read()
    assert resources.storage == FROM_CEPH
    assert get_id(resources) == "host:kvm01.example"
    (problem,) = resources.problems
    assert problem.message == "images_rbd_pool vms: ceph failed: status 1"
    write_ceph(programs, fsid="nonsense")
    (problem,) = Bench(images_type="rbd", images_rbd_pool="vms").read().problems
    assert problem.message == "images_rbd_pool vms: unexpected answer of ceph fsid: 'nonsense'"


def test_another_cluster_behind_the_same_configuration_is_noticed_after_a_while(programs: Path) -> None:
    write_ceph(programs)
    bench = Bench(images_type="rbd", images_rbd_pool="vms")
    bench.read()
    write_ceph(programs, fsid=OTHER_FSID)
    for seconds, fsid in ((READ_INTERVAL_SECONDS, FSID), (FSID_INTERVAL_SECONDS, OTHER_FSID)):
        bench.clock.now += seconds
        bench.do_what_is_due()
        assert get_id(bench.read()) == f"rbd:{fsid}:vms"


def test_a_volume_group_is_known_by_its_uuid_and_not_by_its_name(programs: Path) -> None:
    write_program(programs, "vgs", "echo '  3000|1000|F2dd5G-5G5I'")
    bench = Bench(images_type="lvm", images_volume_group="vms")
    assert get_id(bench.read()) == "lvm:F2dd5G5G5I"


def test_what_was_never_seen_has_no_identity_and_not_the_hosts_own(programs: Path) -> None:
    """Shows that shared storage is not taken for each host's own while its command has not answered."""
    resources = Bench(images_type="rbd", images_rbd_pool="vms").read()
    assert (resources.storage, resources.storage_identity) == (None, None)


def test_the_id_of_the_configuration_counts_whatever_is_found(programs: Path) -> None:
    write_ceph(programs)
    resources = Bench(images_type="rbd", images_rbd_pool="vms", storage_id="san01").read()
    assert get_id(resources) == "san01"
    assert get_id(Bench(instances_path="/nonexistent", storage_id="san01").read()) == "san01"


def test_pools_on_this_machine_lie_where_their_target_paths_do(tmp_path: Path) -> None:
    """Of two folders on one file system, and one on another."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    bench = Bench(storage_pool=("a", "b", "c"))
    bench.libvirt.pools = tuple(
        make_pool(name, source=PoolSource(type="dir", target_path=path))
        for name, path in (("a", f"{tmp_path}/a"), ("b", f"{tmp_path}/b"), ("c", "/proc"))
    )
    resources = bench.read()
    assert os.stat(tmp_path).st_dev != os.stat("/proc").st_dev
    assert resources.storage is not None
    assert resources.storage.size_bytes == 2 * make_pool().capacity_bytes
    assert get_id(resources) == "host:kvm01.example"


def test_pools_that_the_sandbox_hides_are_not_one_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container without their mounts, all of them lie on the container's own file system."""
    monkeypatch.setattr(
        "exporter.virt.storage.pool_places.find_mask", lambda _path: "it is the container's own"
    )
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    bench = Bench(storage_pool=("a", "b"))
    bench.libvirt.pools = tuple(
        make_pool(name, source=PoolSource(type="dir", target_path=f"{tmp_path}/{name}"))
        for name in ("a", "b")
    )
    resources = bench.read()
    assert resources.storage is not None
    assert resources.storage.size_bytes == 2 * make_pool().capacity_bytes


def test_pools_of_another_host_are_not_looked_for_here(tmp_path: Path) -> None:
    bench = Bench(uri="qemu+tls://kvm02/system", storage_pool=("a", "b"))
    bench.libvirt.pools = tuple(
        make_pool(name, source=PoolSource(type="dir", target_path=f"{tmp_path}/{name}"))
        for name in ("a", "b")
    )
    resources = bench.read()
    assert resources.storage is not None
    assert resources.storage.size_bytes == 2 * make_pool().capacity_bytes


def test_a_pool_whose_source_is_odd_keeps_its_numbers_and_is_the_hosts_own() -> None:
    bench = Bench(storage_pool=("vms",))
    bench.libvirt.pools = (make_pool("vms", source=None, source_error="unexpected XML"),)
    resources = bench.read()
    assert resources.storage is not None
    assert get_id(resources) == "host:kvm01.example"
    (problem,) = resources.problems
    assert (problem.severity, problem.message) == (
        Severity.NOTE,
        "storage pool vms: its source is not known: unexpected XML",
    )


@pytest.mark.parametrize("change", [{"instances_path": "/proc"}, {"images_type": "rbd"}])
def test_what_was_found_by_other_settings_is_forgotten(programs: Path, change: dict[str, str]) -> None:
    bench = Bench(storage_pool=("vms",))
    source = PoolSource(type="netfs", hosts=("nfs01",), folder="/x")
    bench.libvirt.pools = (make_pool("vms", source=source),)
    assert get_id(bench.read()) == "nfs:nfs01:/x"
    bench.reconfigure(**change)
    assert get_id(bench.read()) in ("host:kvm01.example", None)

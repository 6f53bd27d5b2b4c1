"""libvirt's storage pools: which count, which storage each is, and what they have together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from exporter.model import PoolSource, Storage, StoragePool
from exporter.virt.mounts import FileSystem
from exporter.virt.storage.file_system import StorageError
from exporter.virt.storage.identity import StorageSource
from exporter.virt.storage.mounted import Mounted
from exporter.virt.storage.pool_identity import see_pool
from exporter.virt.storage.pools import SeenPool, choose_pools, combine_sources, parse_pool_source, sum_pools
from tests.support.records import make_pool

VMS = make_pool("vms", capacity_bytes=100, allocation_bytes=30, available_bytes=60)
FAST = make_pool("fast", capacity_bytes=20, allocation_bytes=5, available_bytes=15)
ISOS = make_pool("isos", capacity_bytes=7, allocation_bytes=7, available_bytes=0)


def measure(active: Sequence[StoragePool], configured: Sequence[str]) -> Storage:
    return sum_pools([see_pool(pool, hostname="kvm01") for pool in choose_pools(active, configured)])


def test_the_one_active_pool_is_it() -> None:
    assert measure([VMS], []) == Storage(size_bytes=100, used_bytes=30, free_bytes=60)


def test_of_several_the_configured_one_is_it() -> None:
    assert measure([VMS, FAST, ISOS], ["fast"]) == Storage(size_bytes=20, used_bytes=5, free_bytes=15)


def test_several_configured_ones_add_up() -> None:
    storage = measure([VMS, FAST, ISOS], ["vms", "fast"])
    assert storage == Storage(size_bytes=120, used_bytes=35, free_bytes=75)


@pytest.mark.parametrize(
    ("active", "configured", "message"),
    [
        (
            [VMS, FAST],
            [],
            "storage_pool is not set, and there is not exactly one active pool (active: fast, vms)",
        ),
        ([], [], "storage_pool is not set, and there is not exactly one active pool (active: none)"),
        ([VMS], ["slow"], "storage_pool slow: no such active pool (active: vms)"),
        ([VMS, FAST], ["a", "vms", "b"], "storage_pool a, b: no such active pool (active: fast, vms)"),
        ([], ["vms"], "storage_pool vms: no such active pool (active: none)"),
    ],
)
def test_what_is_not_clear_is_an_error_that_names_the_pools(
    active: list[StoragePool], configured: list[str], message: str
) -> None:
    with pytest.raises(StorageError) as error:
        measure(active, configured)
    assert str(error.value) == message


def see(
    xml: str, *, mounted: Mounted | None = None, volume_group: str | None = None, hostname: str = "kvm01"
) -> StorageSource:
    pool = replace(VMS, source=parse_pool_source(xml))
    return see_pool(pool, hostname=hostname, mounted=mounted, volume_group=volume_group).source


def make_mounted(type_: str, source: str, *, device: str = "0:45", **options: str) -> Mounted:
    file_system = FileSystem(
        number="9", device=device, point="/srv", type=type_, source=source, options=options
    )
    return Mounted(path="/srv", file_system=file_system, details={})


def pool_xml(type_: str, source: str, target: str = "/srv") -> str:
    return (
        f"<pool type='{type_}'><name>vms</name><capacity unit='bytes'>1</capacity>"
        f"<source>{source}</source><target><path>{target}</path></target></pool>"
    )


NAME = "<name>vms</name>"
AUTH = "<auth type='ceph' username='nova'><secret uuid='1'/></auth>"
INITIATOR = "<initiator><iqn name='iqn.kvm01'/></initiator>"
RBD = "rbd:[2001:db8::3],mon1,mon2:vms"
ISCSI = "iscsi:san01:iqn.2026-01.example:vms"


@pytest.mark.parametrize(
    ("type_", "source", "shared_id"),
    [
        (
            "rbd",
            (
                "<host name='mon1' port='6789'/><host name='mon2'/><name>vms</name>"
                "<host name='2001:db8::3' port='3300'/>"
            ),
            RBD,
        ),
        (
            "rbd",
            (
                "<name>vms</name><host name='2001:DB8:0::3'/><host name='MON2.'/><host name='mon1'/>"
                "<auth type='ceph' username='nova'><secret uuid='1'/></auth>"
            ),
            RBD,
        ),
        ("rbd", "<name>vms</name><host name='mon1' port='7000'/>", "rbd:mon1:7000:vms"),
        (
            "netfs",
            "<host name='NFS01'/><dir path='/export/nova/'/><format type='nfs'/>",
            "nfs:nfs01:/export/nova",
        ),
        (
            "netfs",
            "<host name='nfs01'/><dir path='/export/nova'/><format type='auto'/>",
            "nfs:nfs01:/export/nova",
        ),
        ("netfs", "<host name='nfs01'/><dir path='/export/nova'/>", "nfs:nfs01:/export/nova"),
        ("netfs", "<host name='2001:db8::5'/><dir path='/x'/>", "nfs:[2001:db8::5]:/x"),
        ("netfs", "<host name='nfs01' port='20049'/><dir path='/x'/>", "nfs:nfs01:20049:/x"),
        ("netfs", "<host name='nas'/><dir path='VMS'/><format type='cifs'/>", "cifs:nas:/vms"),
        ("netfs", "<host name='gl1'/><dir path='/vms'/><format type='glusterfs'/>", "glusterfs:gl1:vms"),
        (
            "gluster",
            "<host name='gl2'/><host name='gl1' port='24007'/><dir path='/'/><name>vms</name>",
            "glusterfs:gl1,gl2:vms",
        ),
        ("gluster", "<host name='gl1'/><dir path='/nova/'/><name>vms</name>", "glusterfs:gl1:vms/nova"),
        ("iscsi", "<host name='san01' port='3260'/><device path='iqn.2026-01.example:vms'/>", ISCSI),
        (
            "iscsi-direct",
            (
                "<host name='SAN01'/><device path='IQN.2026-01.example:vms'/>"
                "<initiator><iqn name='iqn.kvm01'/></initiator>"
            ),
            ISCSI,
        ),
        ("sheepdog", "<host name='sd1' port='7000'/><name>vms</name>", "sheepdog:sd1:vms"),
        ("vstorage", "<name>cluster1</name>", "vstorage:cluster1"),
    ],
)
def test_a_pool_is_known_by_its_source_in_any_order(type_: str, source: str, shared_id: str) -> None:
    assert see(pool_xml(type_, source)).shared_id == shared_id


@pytest.mark.parametrize(
    ("type_", "source"),
    [
        ("dir", ""),
        ("fs", "<device path='/dev/sdb1'/><format type='gfs2'/>"),
        ("disk", "<device path='/dev/sdb'/>"),
        ("scsi", "<adapter type='fc_host' wwnn='1' wwpn='2'/>"),
        ("mpath", ""),
        ("zfs", "<name>rpool</name>"),
        ("logical", "<name>vms</name><device path='/dev/sdb'/>"),
        ("rbd", "<name>vms</name>"),
        ("rbd", "<host name='mon1'/>"),
        ("rbd", "<host name='mon1'/><host name='localhost'/><name>vms</name>"),
        ("netfs", "<host name='localhost'/><dir path='/x'/>"),
        ("netfs", "<host name='127.0.0.1'/><dir path='/x'/><format type='cifs'/>"),
        ("netfs", "<host name='::1'/><dir path='/x'/><format type='glusterfs'/>"),
        ("netfs", "<host name='nfs01'/>"),
        ("netfs", "<dir path='/x'/>"),
        ("gluster", "<host name='gl1'/><dir path='/'/>"),
        ("gluster", "<host name='localhost'/><name>vms</name>"),
        ("iscsi", "<host name='san01'/>"),
        ("iscsi", "<host name='127.0.0.1'/><device path='iqn.x'/>"),
        ("vstorage", ""),
        ("something-new", "<host name='x'/><name>vms</name>"),
        ("", ""),
    ],
)
def test_a_pool_that_is_not_known_to_be_shared_has_no_id(type_: str, source: str) -> None:
    assert see(pool_xml(type_, source)).shared_id is None


def test_a_volume_group_is_known_by_its_uuid() -> None:
    found = see(pool_xml("logical", "<name>vms</name>"), volume_group="F2dd5G")
    assert found == StorageSource(kind="lvm", source="vms", shared_id="lvm:F2dd5G")


def test_a_pool_on_this_machine_is_what_holds_its_target_path() -> None:
    mounted = make_mounted("nfs4", "nfs01:/export/nova")
    for type_ in ("dir", "fs", "netfs"):
        assert see(pool_xml(type_, ""), mounted=mounted).shared_id == "nfs:nfs01:/export/nova"
    assert see(pool_xml("dir", ""), mounted=make_mounted("xfs", "/dev/sdb1")) == StorageSource(
        kind="file system", source="/srv"
    )


def test_a_network_mount_that_only_libvirtd_sees_is_known_by_the_pools_source() -> None:
    xml = pool_xml("netfs", "<host name='nfs01'/><dir path='/export/nova'/>")
    assert see(xml, mounted=make_mounted("ext4", "/dev/sda1")).shared_id == "nfs:nfs01:/export/nova"


@pytest.mark.parametrize(
    ("xml", "source", "kind"),
    [
        (pool_xml("rbd", "<host name='mon1'/><name>vms</name>"), "mon1:vms", "rbd"),
        (pool_xml("netfs", "<host name='NFS01'/><dir path='/x'/>"), "NFS01:/x", "nfs"),
        (pool_xml("dir", "", "/srv/vms"), "/srv/vms", "file system"),
        (pool_xml("logical", "<name>vg</name>"), "vg", "lvm"),
        (pool_xml("disk", "<device path='/dev/sdb'/>"), "/dev/sdb", "disk"),
        ("<pool type='mpath'/>", "vms", "mpath"),
    ],
)
def test_people_read_where_a_pool_is(xml: str, source: str, kind: str) -> None:
    found = see(xml)
    assert (found.source, found.kind) == (source, kind)


def test_a_pool_whose_source_is_not_known_is_known_by_its_name_on_one_host_alone() -> None:
    found = see_pool(VMS, hostname="kvm01").source
    assert found == StorageSource(kind="pool", source="vms")


def make_seen(
    name: str, xml: str, *, mounted: Mounted | None = None, numbers: tuple[int, int, int]
) -> SeenPool:
    pool = StoragePool(
        name=name,
        capacity_bytes=numbers[0],
        allocation_bytes=numbers[1],
        available_bytes=numbers[2],
        source=parse_pool_source(xml),
    )
    return see_pool(pool, hostname="kvm01", mounted=mounted)


def test_two_pools_on_one_file_system_count_once() -> None:
    mounted = make_mounted("xfs", "/dev/sdb1", device="8:17")
    first = make_seen("a", pool_xml("dir", "", "/srv/a"), mounted=mounted, numbers=(100, 30, 70))
    second = make_seen("b", pool_xml("dir", "", "/srv/b"), mounted=mounted, numbers=(100, 31, 69))
    other = make_mounted("xfs", "/dev/sdc1", device="8:33")
    third = make_seen("c", pool_xml("dir", "", "/srv/c"), mounted=other, numbers=(10, 1, 9))
    assert sum_pools([first, second]) == Storage(size_bytes=100, used_bytes=30, free_bytes=70)
    assert sum_pools([first, second, third]) == Storage(size_bytes=110, used_bytes=31, free_bytes=79)


@pytest.mark.parametrize("host", ["nfs01", "localhost"])
def test_a_mount_and_a_folder_on_it_count_once(host: str) -> None:
    mounted = make_mounted("nfs4", f"{host}:/x")
    xml = pool_xml("netfs", f"<host name='{host}'/><dir path='/x'/>")
    first = make_seen("a", xml, mounted=mounted, numbers=(100, 30, 70))
    second = make_seen("b", pool_xml("dir", "", "/srv/b"), mounted=mounted, numbers=(100, 30, 70))
    assert sum_pools([first, second]).size_bytes == 100


@pytest.mark.parametrize(
    ("first", "second", "is_one"),
    [
        (
            pool_xml("netfs", "<host name='n'/><dir path='/x'/>"),
            pool_xml("netfs", "<host name='N'/><dir path='/x/'/>"),
            True,
        ),
        (
            pool_xml("netfs", "<host name='n'/><dir path='/x'/>"),
            pool_xml("netfs", "<host name='n'/><dir path='/y'/>"),
            False,
        ),
        (
            pool_xml("logical", "<name>vg</name>", "/dev/vg"),
            pool_xml("logical", "<name>vg</name>", "/dev/vg"),
            True,
        ),
        (pool_xml("logical", "<name>vg</name>"), pool_xml("logical", "<name>other</name>"), False),
        (
            pool_xml("logical", "<name>vg</name><device path='/dev/sda'/>"),
            pool_xml("logical", "<name>vg</name>"),
            True,
        ),
        (pool_xml("zfs", "<name>tank/vms</name>"), pool_xml("zfs", "<name>tank/images</name>"), True),
        (pool_xml("zfs", "<name>tank</name>"), pool_xml("zfs", "<name>tank/images</name>"), True),
        (pool_xml("zfs", "<name>tank</name>"), pool_xml("zfs", "<name>tank2</name>"), False),
        (pool_xml("dir", "", "/a"), pool_xml("dir", "", "/a/"), True),
        (pool_xml("dir", "", "/a"), pool_xml("dir", "", "/a/b"), False),
        (
            pool_xml("fs", "<device path='/dev/sdb1'/>", "/a"),
            pool_xml("fs", "<device path='/dev/sdb1'/>", "/b"),
            True,
        ),
        (
            pool_xml("scsi", "<adapter name='host0'/>", "/dev/disk"),
            pool_xml("scsi", "<adapter name='host1'/>", "/dev/disk"),
            False,
        ),
        ("<pool type='mpath'/>", "<pool type='mpath'/>", False),
    ],
)
def test_two_pools_of_another_host_are_one_if_their_sources_say_so(
    first: str, second: str, is_one: bool
) -> None:
    seen = [make_seen(name, xml, numbers=(100, 30, 70)) for name, xml in (("a", first), ("b", second))]
    assert sum_pools(seen).size_bytes == (100 if is_one else 200)


@pytest.mark.parametrize("host", ["mon1", "localhost"])
def test_two_pools_of_one_ceph_cluster_have_its_size_once_and_use_what_both_use(host: str) -> None:
    first, second = (
        make_seen(
            name, pool_xml("rbd", f"<host name='{host}'/><name>{name}</name>"), numbers=(900, used, 600)
        )
        for name, used in (("vms", 30), ("images", 7))
    )
    assert sum_pools([first, second]) == Storage(size_bytes=900, used_bytes=37, free_bytes=600, is_raw=True)


def test_replicas_that_are_known_are_taken_into_account() -> None:
    """As `ceph df` does it: what can be written is less than what is free."""
    seen = make_seen("vms", pool_xml("rbd", "<host name='mon1'/><name>vms</name>"), numbers=(900, 30, 601))
    assert sum_pools([seen]) == Storage(size_bytes=900, used_bytes=30, free_bytes=601, is_raw=True)
    # 5 % of 900 are kept: what is full takes nothing.
    assert sum_pools([seen], replicas=3) == Storage(size_bytes=900, used_bytes=30, free_bytes=(601 - 45) // 3)
    assert not sum_pools([seen], replicas=1).is_raw
    local = make_seen("vms", pool_xml("dir", ""), numbers=(900, 30, 601))
    assert sum_pools([local], replicas=3) == Storage(size_bytes=900, used_bytes=30, free_bytes=601)


def test_several_pools_are_shared_if_each_of_them_is() -> None:
    nfs, other, local = (
        make_seen(name, xml, numbers=(1, 1, 1))
        for name, xml in (
            ("a", pool_xml("netfs", "<host name='n'/><dir path='/a'/>")),
            ("b", pool_xml("netfs", "<host name='n'/><dir path='/b'/>")),
            ("c", pool_xml("dir", "", "/c")),
        )
    )
    assert combine_sources([nfs]).shared_id == combine_sources([nfs, nfs]).shared_id == "nfs:n:/a"
    both = StorageSource(kind="nfs", source="n:/a, n:/b", shared_id="pools:nfs:n:/a + nfs:n:/b")
    assert combine_sources([nfs, other]) == combine_sources([other, nfs]) == both
    assert combine_sources([nfs, local]) == StorageSource(kind="file system, nfs", source="/c, n:/a")


def test_a_pools_xml_is_read_whole() -> None:
    xml = pool_xml(
        "netfs",
        "<host name='n' port='1'/><host name='::1' port='2'/><host/><dir path='/x'/><format type='nfs'/>",
    )
    assert parse_pool_source(xml) == PoolSource(
        type="netfs", hosts=("n:1", "[::1]:2"), folder="/x", format="nfs", target_path="/srv"
    )
    assert parse_pool_source("<pool/>") == PoolSource(type="")
    with pytest.raises(StorageError, match="unexpected XML"):
        parse_pool_source("<pool")

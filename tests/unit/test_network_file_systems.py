"""Which storage a line of mountinfo is: one id for one storage, however a hypervisor writes it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from exporter.virt.mounts import find_file_system
from exporter.virt.storage.identity import StorageSource
from exporter.virt.storage.network_file_systems import identify_file_system, normalise_host, normalise_hosts

FSID = "3f6a52bc-1c2c-4b5e-9d5c-3f6b2ad1a111"
NO_DETAILS: Mapping[str, str] = {}


def identify(
    type_: str,
    source: str,
    options: str = "rw",
    details: Mapping[str, str] = NO_DETAILS,
    hostname: str = "kvm01",
) -> StorageSource:
    line = f"77 27 0:45 / /srv rw,relatime shared:5 - {type_} {source} {options}"
    file_system = find_file_system(line, "77")
    assert file_system is not None
    return identify_file_system(file_system, details, hostname=hostname, path="/srv/nova")


NFS = "nfs:nfs01:/export/nova"
NFS_6 = "nfs:[2001:db8::5]:/export/nova"
CEPH = f"cephfs:{FSID}:vms:/nova"
CEPH_MONS = "cephfs:192.0.2.1,192.0.2.2,[2001:db8::3]:vms:/nova"
GLUSTER = "glusterfs:gl1,gl2:vms"
LUSTRE = "lustre:192.0.2.1@tcp,192.0.2.2@o2ib:/vms"


@pytest.mark.parametrize(
    ("type_", "source", "options", "shared_id"),
    [
        ("nfs", "nfs01:/export/nova", "rw,vers=3,addr=192.0.2.5", NFS),
        ("nfs4", "nfs01:/export/nova", "rw,vers=4.2,addr=192.0.2.5,clientaddr=192.0.2.9", NFS),
        ("nfs4", "nfs01:/export/nova", "rw,vers=4.2,addr=198.51.100.5", NFS),
        ("nfs4", "NFS01:/export/nova/", "rw", NFS),
        ("nfs4", "nfs01.:/export//nova/./", "rw", NFS),
        ("nfs", "nfs01:/export/nova", "rw,port=2049", NFS),
        ("nfs", "nfs01:/export/nova", "rw,port=12049", "nfs:nfs01:12049:/export/nova"),
        ("nfs4", "nfs01:/export/nova", "rw,proto=rdma,port=20049", NFS),
        ("nfs", "nfs01:/export/Nova", "rw", "nfs:nfs01:/export/Nova"),
        ("nfs", "nfs01:/", "rw", "nfs:nfs01:/"),
        ("nfs", "nfs01.example:/export/nova", "rw", "nfs:nfs01.example:/export/nova"),
        ("nfs", "192.0.2.5:/export/nova", "rw,addr=192.0.2.5", "nfs:192.0.2.5:/export/nova"),
        ("nfs4", "[2001:db8::5]:/export/nova", "rw,addr=2001:db8::5", NFS_6),
        ("nfs4", "[2001:DB8:0:0::5]:/export/nova", "rw", NFS_6),
        ("nfs4", "2001:db8::5:/export/nova", "rw", NFS_6),
        ("nfs4", "[2001:db8::5]:/export/nova", "rw,port=20049", "nfs:[2001:db8::5]:20049:/export/nova"),
        ("nfs4", "[::ffff:192.0.2.5]:/x", "rw", "nfs:192.0.2.5:/x"),
        ("nfs4", "nfs01:/with\\040blank", "rw", "nfs:nfs01:/with blank"),
        ("nfs4", "nfs01:/with\\043sign", "rw", "nfs:nfs01:/with#sign"),
        ("cifs", "//nas/vms", "rw,vers=3.1.1,addr=192.0.2.5", "cifs:nas:/vms"),
        ("smb3", "//NAS/VMS/", "rw", "cifs:nas:/vms"),
        ("cifs", "\\134\\134nas\\134Vms\\134Nova", "rw,port=445", "cifs:nas:/vms/Nova"),
        ("ceph", f"admin@{FSID}.vms=/nova", "rw,mon_addr=192.0.2.1:6789/192.0.2.2:6789", CEPH),
        ("ceph", f"nova@{FSID.upper()}.vms=/nova/", "rw", CEPH),
        ("ceph", "192.0.2.1:6789,192.0.2.2,[2001:db8::3]:3300:/nova", "rw,mds_namespace=vms", CEPH_MONS),
        ("ceph", "[2001:db8:0::3]:6789,192.0.2.2:3300,192.0.2.1:/nova", "rw,fs=vms", CEPH_MONS),
        ("ceph", "nova@.vms=/nova", "rw,mon_addr=[2001:db8::3]:6789/192.0.2.2/192.0.2.1:6789", CEPH_MONS),
        ("ceph", "192.0.2.1,192.0.2.2:/", "rw", "cephfs:192.0.2.1,192.0.2.2::/"),
        ("fuse.glusterfs", "gl1,gl2:/vms", "rw", GLUSTER),
        ("fuse.glusterfs", "GL2:24007,gl1:vms.tcp", "rw", GLUSTER),
        ("fuse.glusterfs", "gl1:/vms/nova", "rw", "glusterfs:gl1:vms/nova"),
        ("fuse.sshfs", "nova@ssh01:/srv/vms/", "rw,user_id=0", "sshfs:ssh01:/srv/vms"),
        ("fuse.sshfs", "SSH01:/srv/vms", "rw", "sshfs:ssh01:/srv/vms"),
        ("fuse.sshfs", "nova@ssh01:", "rw", "sshfs:nova@ssh01:"),
        ("fuse.sshfs", "nova@[2001:db8::5]:/x", "rw", "sshfs:[2001:db8::5]:/x"),
        ("lustre", "192.0.2.1@tcp:192.0.2.2@o2ib:/vms", "rw", LUSTRE),
        ("lustre", "192.0.2.2@o2ib0:192.0.2.1:/vms/", "rw", LUSTRE),
        ("lustre", "192.0.2.2@o2ib,192.0.2.1@tcp0:/vms", "rw", LUSTRE),
        ("fuse.mfs", "mfs#mfsmaster:9421", "rw", "moosefs:mfsmaster:/"),
        ("fuse.mfs", "mfsmaster:9421", "rw", "moosefs:mfsmaster:/"),
        ("fuse.mfs", "MFSmaster:9421/nova", "rw", "moosefs:mfsmaster:/nova"),
        ("fuse", "mfs#mfsmaster:9421", "rw", "moosefs:mfsmaster:/"),
        ("fuse", "sshfs#nova@srv:/vms", "rw", "sshfs:srv:/vms"),
        ("fuse.quobyte", "quobyte@q2,q1:7861/vms", "rw", "quobyte:q1,q2:/vms"),
        ("pvfs2", "tcp://ofs1:3334/orangefs", "rw", "orangefs:ofs1:orangefs"),
        ("fuse.vstorage", "vstorage://cluster1", "rw", "vstorage:cluster1"),
    ],
)
def test_one_storage_has_one_id(type_: str, source: str, options: str, shared_id: str) -> None:
    assert identify(type_, source, options).shared_id == shared_id


@pytest.mark.parametrize(
    ("type_", "source", "options"),
    [
        ("nfs", "localhost:/export/nova", "rw"),
        ("nfs4", "LocalHost:/export/nova", "rw"),
        ("nfs4", "localhost.localdomain:/x", "rw"),
        ("nfs4", "nfs.localhost:/x", "rw"),
        ("nfs4", "ip6-localhost:/x", "rw"),
        ("nfs", "127.0.0.1:/export/nova", "rw"),
        ("nfs", "127.1:/export/nova", "rw"),
        ("nfs", "127.9.8.7:/export/nova", "rw"),
        ("nfs", "0.0.0.0:/x", "rw"),
        ("nfs4", "[::1]:/export/nova", "rw"),
        ("nfs4", "[::ffff:127.0.0.1]:/x", "rw"),
        ("nfs4", "[fe80::1%eth0]:/x", "rw"),
        ("nfs", "169.254.1.1:/x", "rw"),
        ("nfs", "nfs:/export/nova", "rw,addr=127.0.0.1"),
        ("nfs4", "nfs:/export/nova", "rw,addr=::1"),
        ("nfs4", ":/x", "rw"),
        ("nfs4", "nonsense", "rw"),
        ("cifs", "//localhost/vms", "rw"),
        ("cifs", "//nas", "rw"),
        ("ceph", "127.0.0.1:6789:/", "rw"),
        ("ceph", "192.0.2.1,localhost:/", "rw"),
        ("ceph", "nova@.vms=/nova", "rw"),
        ("fuse.ceph-fuse", "ceph-fuse", "rw"),
        ("fuse.glusterfs", "localhost:/vms", "rw"),
        ("fuse.glusterfs", "/etc/glusterfs/vms.vol", "rw"),
        ("fuse.glusterfs", "gl1:/", "rw"),
        ("fuse.sshfs", "nova@localhost:/srv", "rw"),
        ("fuse.sshfs", "ssh01:", "rw"),
        ("lustre", "0@lo:/vms", "rw"),
        ("lustre", "127.0.0.1@tcp:/vms", "rw"),
        ("beegfs", "beegfs_nodev", "rw,cfgFile=/etc/beegfs/beegfs-client.conf"),
        ("fuse.mfs", "mfs", "rw"),
        ("fuse", "s3fs#bucket", "rw"),
        ("fuse", "/dev/fuse", "rw"),
        ("fuse.quobyte", "quobyte@q1", "rw"),
        ("gfs2", "/dev/mapper/san-vms", "rw"),
        ("ocfs2", "/dev/mapper/san-vms", "rw"),
        # Everybody has such a one, or nothing says whose it is.
        ("ext4", "/dev/sda1", "rw"),
        ("xfs", "/dev/mapper/san-vms", "rw"),
        ("btrfs", "/dev/sda2", "rw"),
        ("zfs", "rpool/vms", "rw"),
        ("overlay", "overlay", "rw,lowerdir=/a:/b"),
        ("tmpfs", "tmpfs", "rw"),
        ("autofs", "auto.nfs", "rw,fd=5"),
        ("9p", "vms", "rw,trans=virtio"),
        ("virtiofs", "nfs01:/export/nova", "rw"),
        ("gpfs", "gpfs01", "rw"),
        ("fuse.rclone", "nfs01:/export/nova", "rw"),
        ("fuse", "nfs01:/export/nova", "rw"),
    ],
)
def test_what_is_not_known_to_be_shared_has_no_id(type_: str, source: str, options: str) -> None:
    assert identify(type_, source, options).shared_id is None


def test_a_hypervisors_own_export_is_the_one_that_others_see() -> None:
    """Its name leads to a loopback address there alone, as Debian writes it into /etc/hosts."""
    here = identify("nfs4", "kvm01:/vms", "rw,addr=127.0.1.1", hostname="KVM01.example")
    there = identify("nfs4", "kvm01:/vms", "rw,addr=192.0.2.1", hostname="kvm02.example")
    assert here.shared_id == there.shared_id == "nfs:kvm01:/vms"


def test_what_mountinfo_does_not_say_comes_from_elsewhere() -> None:
    by_monitors = identify("ceph", "192.0.2.1:6789:/nova", "rw,mds_namespace=vms", {"fsid": FSID})
    assert by_monitors.shared_id == CEPH
    beegfs = identify("beegfs", "beegfs_nodev", "rw", {"sysMgmtdHost": "MGMT01", "port": "8008"})
    assert beegfs.shared_id == "beegfs:mgmt01"
    uuid = {"uuid": FSID}
    assert identify("gfs2", "/dev/dm-3", "rw", uuid).shared_id == f"gfs2:{FSID.replace('-', '')}"
    assert identify("ocfs2", "/dev/dm-4", "rw", {"uuid": FSID.upper()}).shared_id == (
        f"ocfs2:{FSID.replace('-', '')}"
    )
    nil = "00000000-0000-0000-0000-000000000000"
    assert identify("gfs2", "/dev/dm-3", "rw", {"uuid": nil}).shared_id is None


def test_people_read_what_it_is() -> None:
    assert identify("nfs4", "NFS01:/export/nova/") == StorageSource(
        kind="nfs", source="NFS01:/export/nova/", shared_id=NFS
    )
    assert identify("ext4", "/dev/sda1") == StorageSource(kind="file system", source="/srv/nova")
    assert identify("fuse.ceph-fuse", "ceph-fuse").kind == "cephfs"


@pytest.mark.parametrize(
    "text", ["", " ", "[]", ".", "localhost", "::1", "[::1]", "0177.0.0.1", "127.000.0.1"]
)
def test_a_host_that_is_another_one_to_everybody_has_no_name(text: str) -> None:
    assert normalise_host(text) is None


def test_hosts_are_the_same_in_any_order() -> None:
    ports = frozenset({"6789"})
    expected = "[2001:db8::1],mon1,mon2:7000"
    for hosts in (
        ["mon2:7000", "mon1", "[2001:db8::1]:6789"],
        ["2001:db8::1", "MON1:6789", "mon2:7000", "mon1."],
    ):
        assert normalise_hosts(hosts, ports=ports) == expected
    assert normalise_hosts([], ports=ports) is None
    assert normalise_hosts(["mon1", "localhost"], ports=ports) is None
    assert normalise_hosts(["mon1:" + "9" * 5000], ports=ports) is not None

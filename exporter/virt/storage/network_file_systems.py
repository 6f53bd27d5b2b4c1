"""Which storage a mounted file system is: by server and export, by Ceph's fsid, or by a cluster's UUID.

Two hypervisors may write the same server differently: hosts in another order, capital letters, a default
port, a slash at the end. The id is the same. A server that each host finds at its own loopback address is not
the same for all, and a type of file system that is not listed here is not known to be shared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from exporter.virt.mounts import FileSystem
from exporter.virt.storage.identity import StorageSource, make_id
from exporter.virt.storage.mounted import Mounted
from exporter.virt.storage.servers import join_port, normalise_host, normalise_hosts, normalise_path

CEPH_PORTS = frozenset({"6789", "3300"})  # of its monitors: of the first and of the second protocol
GLUSTER_PORTS = frozenset({"24007"})
ISCSI_PORTS = frozenset({"3260"})
_NFS_PORTS = frozenset({"2049"})
_NFS_RDMA_PORT = "20049"
_SMB_PORTS = frozenset({"445", "139"})
_BEEGFS_PORTS = frozenset({"8008", "8010"})
_MOOSEFS_PORTS = frozenset({"9421"})
_QUOBYTE_PORTS = frozenset({"7861"})
_ORANGEFS_PORTS = frozenset({"3334"})

_FSID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def identify_mounted(mounted: Mounted, *, hostname: str) -> StorageSource:
    """Return which storage holds a path; see `identify_file_system`."""
    return identify_file_system(mounted.file_system, mounted.details, hostname=hostname, path=mounted.path)


def identify_file_system(
    file_system: FileSystem, details: Mapping[str, str], *, hostname: str, path: str
) -> StorageSource:
    """Return which storage a file system is.

    :param details: what mountinfo does not say; see `read_details`
    :param hostname: the hypervisor's; its own exports are known to it by a loopback address
    :param path: the path that is measured
    """
    if file_system.type == "fuse" and "#" in file_system.source:  # "mfs#master:9421", of old
        subtype, _, rest = file_system.source.partition("#")
        file_system = replace(file_system, type=f"fuse.{subtype}", source=rest)
    kind, find_id = _TYPES.get(file_system.type, ("file system", _find_nothing))
    shared_id = None
    if not _is_own_loopback(file_system.options.get("addr"), file_system.source, hostname):
        shared_id = find_id(file_system, details)
    source = path if file_system.type not in _TYPES else file_system.source
    return StorageSource(kind=kind, source=source, shared_id=shared_id)


def make_nfs_id(host: str, path: str, *, port: str = "") -> str | None:
    """Return the id of an export: the same for all versions of NFS."""
    hosts = normalise_hosts([join_port(host, port)], ports=_NFS_PORTS)
    return None if hosts is None else make_id("nfs", hosts, normalise_path(path))


def make_cifs_id(host: str, share: str, *, port: str = "") -> str | None:
    """Return the id of a share. The server finds it in capital letters, too."""
    hosts = normalise_hosts([join_port(host, port)], ports=_SMB_PORTS)
    name, _, rest = normalise_path(share).strip("/").partition("/")
    if hosts is None or not name:
        return None
    return make_id("cifs", hosts, normalise_path(f"{name.lower()}/{rest}"))


def make_gluster_id(hosts: Iterable[str], volume: str) -> str | None:
    """Return the id of a volume, or of a folder of it: "/vms", "vms/nova".

    The volume's name may end with its transport: "vms.tcp".
    """
    known = normalise_hosts(hosts, ports=GLUSTER_PORTS)
    name, slash, rest = normalise_path(volume).strip("/").partition("/")
    if known is None or not name:
        return None
    return make_id("glusterfs", known, re.sub(r"\.(?:tcp|rdma)$", "", name) + slash + rest)


def _find_nothing(_file_system: FileSystem, _details: Mapping[str, str]) -> None:
    return None


def _find_nfs(file_system: FileSystem, _details: Mapping[str, str]) -> str | None:
    host, colon, path = file_system.source.partition(":/")
    port = file_system.options.get("port", "")
    is_rdma = file_system.options.get("proto", "").startswith("rdma") and port == _NFS_RDMA_PORT
    return make_nfs_id(host, path, port="" if is_rdma else port) if colon else None


def _find_cifs(file_system: FileSystem, _details: Mapping[str, str]) -> str | None:
    source = file_system.source.replace("\\", "/")
    host, _, share = source.lstrip("/").partition("/")
    return make_cifs_id(host, share, port=file_system.options.get("port", ""))


def _find_ceph(file_system: FileSystem, details: Mapping[str, str]) -> str | None:
    """Read "mon1,mon2:/path", or since Linux 5.17 "client@FSID.FILE-SYSTEM=/path"."""
    cluster, name, path = _split_ceph(file_system.source, file_system.options)
    cluster = details.get("fsid") or cluster
    return None if cluster is None else make_id("cephfs", cluster.lower(), name, normalise_path(path))


def _split_ceph(source: str, options: Mapping[str, str]) -> tuple[str | None, str, str]:
    device, equals, path = source.partition("=/")
    if equals and "@" in device:
        fsid, _, name = device.rpartition("@")[2].partition(".")
        monitors = re.split(r"[/,]", options["mon_addr"]) if options.get("mon_addr") else []
        is_known = _FSID.fullmatch(fsid) is not None
        return fsid if is_known else normalise_hosts(monitors, ports=CEPH_PORTS), name, path
    hosts, _, path = source.partition(":/")
    # Later kernels call it fs, too.
    name = options.get("mds_namespace") or options.get("fs", "")
    return normalise_hosts(hosts.split(","), ports=CEPH_PORTS), name, path


def _find_gluster(file_system: FileSystem, _details: Mapping[str, str]) -> str | None:
    """Read "gl1,gl2:/volume/folder". Without hosts, it is a volume file of this host."""
    hosts, colon, volume = file_system.source.rpartition(":")
    return make_gluster_id(hosts.split(","), volume) if colon else None


def _find_sshfs(file_system: FileSystem, _details: Mapping[str, str]) -> str | None:
    """Read "user@host:/path". Another path begins at the user's home."""
    server, colon, path = _split_host(file_system.source)
    user, _, host = server.rpartition("@")
    hosts = normalise_hosts([host], ports=frozenset())
    if not colon or hosts is None:
        return None
    if path.startswith("/"):
        return make_id("sshfs", hosts, normalise_path(path))
    return make_id("sshfs", f"{user}@{hosts}", normalise_path(path)[1:]) if user else None


def _find_lustre(file_system: FileSystem, _details: Mapping[str, str]) -> str | None:
    """Read "10.0.0.1@tcp,10.0.1.1@o2ib:10.0.0.2@tcp:/file-system"."""
    servers, colon, path = file_system.source.partition(":/")
    found: set[str] = set()
    for each in re.split(r"[:,]", servers):
        host, _, network = each.partition("@")
        known = normalise_host(host)
        if known is None or network.startswith("lo"):
            return None
        network = re.sub(r"(?<=\D)0$", "", network.lower()) or "tcp"
        found.add(f"{known}@{network}")
    return make_id("lustre", ",".join(sorted(found)), normalise_path(path)) if colon else None


def _find_beegfs(_file_system: FileSystem, details: Mapping[str, str]) -> str | None:
    host = join_port(details.get("sysMgmtdHost", ""), details.get("port", ""))
    hosts = normalise_hosts([host], ports=_BEEGFS_PORTS)
    return None if hosts is None else make_id("beegfs", hosts)


def _find_moosefs(file_system: FileSystem, _details: Mapping[str, str]) -> str | None:
    """Read "mfs#master:9421" or "master:9421", or with the folder "master:9421/folder"."""
    source = file_system.source.removeprefix("mfs#")
    hosts, _, path = source.partition("/")
    known = normalise_hosts([hosts.removesuffix(":")], ports=_MOOSEFS_PORTS)
    is_server = ":" in hosts or source != file_system.source
    return make_id("moosefs", known, normalise_path(path)) if is_server and known is not None else None


def _find_quobyte(file_system: FileSystem, _details: Mapping[str, str]) -> str | None:
    """Read "quobyte@registry1:7861,registry2/volume"."""
    hosts, slash, volume = file_system.source.rpartition("@")[2].partition("/")
    known = normalise_hosts(hosts.split(","), ports=_QUOBYTE_PORTS)
    return make_id("quobyte", known, normalise_path(volume)) if slash and known is not None else None


def _find_orangefs(file_system: FileSystem, _details: Mapping[str, str]) -> str | None:
    """Read "tcp://server:3334/file-system"."""
    hosts, slash, name = file_system.source.partition("://")[2].partition("/")
    known = normalise_hosts(hosts.split(","), ports=_ORANGEFS_PORTS)
    return make_id("orangefs", known, name.strip("/")) if slash and known is not None else None


def _find_vstorage(file_system: FileSystem, _details: Mapping[str, str]) -> str | None:
    """Read "vstorage://cluster"."""
    cluster = file_system.source.partition("://")[2].strip("/")
    return make_id("vstorage", cluster) if cluster else None


def _find_cluster_file_system(file_system: FileSystem, details: Mapping[str, str]) -> str | None:
    """Take the UUID of a file system that several hosts mount at the same time."""
    uuid = details.get("uuid", "").replace("-", "").lower()
    return make_id(file_system.type, uuid) if uuid.strip("0") else None


_TYPES: Mapping[str, tuple[str, Callable[[FileSystem, Mapping[str, str]], str | None]]] = {
    "nfs": ("nfs", _find_nfs),
    "nfs4": ("nfs", _find_nfs),
    "cifs": ("cifs", _find_cifs),
    "smb3": ("cifs", _find_cifs),
    "smbfs": ("cifs", _find_cifs),
    "ceph": ("cephfs", _find_ceph),
    # Its mount does not say which folder it shows, and each may have a size of its own.
    "fuse.ceph-fuse": ("cephfs", _find_nothing),
    "fuse.ceph": ("cephfs", _find_nothing),
    "fuse.glusterfs": ("glusterfs", _find_gluster),
    "fuse.sshfs": ("sshfs", _find_sshfs),
    "lustre": ("lustre", _find_lustre),
    "beegfs": ("beegfs", _find_beegfs),
    "fuse.mfs": ("moosefs", _find_moosefs),
    "fuse.quobyte": ("quobyte", _find_quobyte),
    "pvfs2": ("orangefs", _find_orangefs),
    "fuse.vstorage": ("vstorage", _find_vstorage),
    "gfs2": ("gfs2", _find_cluster_file_system),
    "ocfs2": ("ocfs2", _find_cluster_file_system),
}


def _is_own_loopback(address: str | None, source: str, hostname: str) -> bool:
    """Whether the server's name leads to a loopback address, and is not the hypervisor's own name."""
    if address is None or normalise_host(address) is not None:
        return False
    server = normalise_host(source.lstrip("/\\").partition(":/")[0].partition("/")[0]) or ""
    return server.partition(".")[0] != hostname.partition(".")[0].lower()


def _split_host(source: str) -> tuple[str, str, str]:
    """Split "host:path"; a host in brackets has colons."""
    if "[" in source:
        host, bracket, path = source.partition("]")
        return host + bracket, path[:1] if path.startswith(":") else "", path[1:]
    return source.partition(":")

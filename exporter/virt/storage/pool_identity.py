"""Which storage a libvirt storage pool is, from its source, and on this machine from its target path."""

from __future__ import annotations

from collections.abc import Mapping

from exporter.model import PoolSource, StoragePool
from exporter.virt.storage.identity import StorageSource, make_id
from exporter.virt.storage.mounted import Mounted
from exporter.virt.storage.network_file_systems import (
    CEPH_PORTS,
    ISCSI_PORTS,
    identify_mounted,
    make_cifs_id,
    make_gluster_id,
    make_nfs_id,
)
from exporter.virt.storage.pools import SeenPool
from exporter.virt.storage.servers import normalise_hosts, normalise_path, split_port

_SHEEPDOG_PORTS = frozenset({"7000"})

_KINDS: Mapping[str, str] = {
    "dir": "file system",
    "fs": "file system",
    "gluster": "glusterfs",
    "iscsi-direct": "iscsi",
    "logical": "lvm",
}
# Pools whose volumes are files below the target path.
FILE_TYPES = frozenset({"dir", "fs", "netfs"})


def see_pool(
    pool: StoragePool, *, hostname: str, mounted: Mounted | None = None, volume_group: str | None = None
) -> SeenPool:
    """Return a pool with which storage it is.

    :param hostname: the hypervisor's
    :param mounted: what holds the target path, if the hypervisor is this machine
    :param volume_group: the UUID of the pool's volume group, if it is known
    """
    source = pool.source
    if source is None:
        found = StorageSource(kind="pool", source=pool.name)
        return SeenPool(pool=pool, source=found, key=pool.name, cluster=pool.name)
    by_mount = _identify_by_mount(source, mounted, hostname)
    found = by_mount or _identify_by_xml(pool.name, source, volume_group)
    key: object = found.shared_id or _make_local_key(pool.name, source, None if by_mount is None else mounted)
    cluster = key
    if source.type == "rbd":
        cluster = ("rbd", normalise_hosts(source.hosts, ports=CEPH_PORTS) or frozenset(source.hosts))
    return SeenPool(pool=pool, source=found, key=key, cluster=cluster)


def _identify_by_mount(source: PoolSource, mounted: Mounted | None, hostname: str) -> StorageSource | None:
    if source.type not in FILE_TYPES or mounted is None:
        return None
    found = identify_mounted(mounted, hostname=hostname)
    # libvirtd may see a network mount that this process does not.
    return None if source.type == "netfs" and found.kind == "file system" else found


def _identify_by_xml(name: str, source: PoolSource, volume_group: str | None) -> StorageSource:
    kind, shared_id = _find_kind_and_id(source, volume_group)
    return StorageSource(kind=kind, source=_describe(source) or name, shared_id=shared_id)


def _find_kind_and_id(source: PoolSource, volume_group: str | None) -> tuple[str, str | None]:
    name = source.name or ""
    if source.type == "netfs":
        return _identify_netfs(source)
    if source.type == "logical" and volume_group:
        return "lvm", make_id("lvm", volume_group)
    if source.type == "gluster":
        folder = normalise_path(source.folder or "")
        return "glusterfs", make_gluster_id(source.hosts, f"{name}{folder}") if name else None
    kind = _KINDS.get(source.type, source.type)
    if source.type == "vstorage" and name:
        return kind, make_id("vstorage", name)
    ports, names = {
        "rbd": (CEPH_PORTS, (name,)),
        "sheepdog": (_SHEEPDOG_PORTS, (name,)),
        "iscsi": (ISCSI_PORTS, tuple(device.lower() for device in source.devices)),
        "iscsi-direct": (ISCSI_PORTS, tuple(device.lower() for device in source.devices)),
    }.get(source.type, (frozenset(), ()))
    hosts = normalise_hosts(source.hosts, ports=ports)
    is_known = hosts is not None and any(names)
    return kind, make_id(kind, hosts or "", ",".join(sorted(names))) if is_known else None


def _identify_netfs(source: PoolSource) -> tuple[str, str | None]:
    """Take the mount that libvirt makes. Of several hosts it takes the first."""
    host, port = split_port(source.hosts[0]) if source.hosts else ("", "")
    folder = source.folder or ""
    if source.format == "cifs":
        return "cifs", make_cifs_id(host, folder, port=port)
    if source.format == "glusterfs":
        return "glusterfs", make_gluster_id([host], folder)
    return "nfs", make_nfs_id(host, folder, port=port) if folder else None


def _describe(source: PoolSource) -> str:
    """Return where a pool is, for people: "mon1,mon2:vms", "nfs01:/export", or its target path."""
    what = source.name or source.folder or ", ".join(source.devices)
    if source.hosts and what:
        return f"{','.join(source.hosts)}:{what}"
    return (source.target_path if source.type == "dir" else what) or source.target_path or ""


def _make_local_key(name: str, source: PoolSource, mounted: Mounted | None) -> object:
    """Return what is equal for two pools of one hypervisor that are the same storage."""
    if mounted is not None:
        return ("device", mounted.file_system.device)
    if source.type == "zfs" and source.name:
        # libvirt tells the numbers of the whole zpool for each data set ("tank/vms").
        return ("zfs", source.name.partition("/")[0])
    if source.type == "logical" and source.name:
        return ("logical", source.name)  # a host has one volume group of a name, on whatever devices
    where = (frozenset(source.hosts), source.name, source.folder, frozenset(source.devices))
    if any(where):
        return (source.type, *where)
    if source.type in FILE_TYPES and source.target_path:
        return ("path", normalise_path(source.target_path))
    return ("pool", name)

"""libvirt's storage pools: what their XML says, which of them count, and what they have together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from exporter.model import PoolSource, Storage, StoragePool, UnreadPool
from exporter.virt.libvirt_xml import XmlError, parse_xml
from exporter.virt.storage.file_system import StorageError
from exporter.virt.storage.identity import StorageSource, make_id
from exporter.virt.storage.servers import join_port

CEPH_FULL_RATIO = 0.95  # Ceph's default: an OSD that is fuller takes nothing


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenPool:
    """A storage pool, and which storage it is.

    :ivar key: equal for two pools that are the same storage
    :ivar cluster: equal for two pools that share their size and free space, but not what is used
    """

    pool: StoragePool
    source: StorageSource
    key: object
    cluster: object


def parse_pool_source(xml: str) -> PoolSource:
    """Return where a pool has its volumes.

    :raises StorageError: if it is not XML that libvirt writes
    """
    try:
        pool = parse_xml(xml)
    except XmlError as error:
        raise StorageError(f"unexpected XML, expected <pool> with its <source>: {error}") from error
    folder, format_ = pool.find("source/dir"), pool.find("source/format")
    hosts = ((host.get("name", ""), host.get("port", "")) for host in pool.iterfind("source/host"))
    return PoolSource(
        type=pool.get("type", ""),
        name=pool.findtext("source/name"),
        hosts=tuple(join_port(name, port) for name, port in hosts if name),
        folder=None if folder is None else folder.get("path"),
        devices=tuple(device.get("path", "") for device in pool.iterfind("source/device")),
        format=None if format_ is None else format_.get("type"),
        target_path=pool.findtext("target/path"),
    )


def find_pool(pools: Iterable[StoragePool | UnreadPool], source_name: str) -> StoragePool | None:
    """Return the pool with this volume group or Ceph pool; None if there is none."""
    for pool in pools:
        if isinstance(pool, StoragePool) and pool.source is not None and pool.source.name == source_name:
            return pool
    return None


def describe_unread(pool: UnreadPool) -> str:
    """Return which pool cannot be read, and why."""
    return f"storage pool {pool.name} cannot be read: {pool.error}"


def choose_pools(
    active: Sequence[StoragePool | UnreadPool], configured: Sequence[str]
) -> tuple[StoragePool, ...]:
    """Return the configured pools, or the one active pool if none is configured.

    :raises StorageError: if a configured pool is not active or cannot be read, if there is no active pool, or
        if there are several and none is configured
    """
    pools = {pool.name: pool for pool in active}
    names = ", ".join(sorted(pools)) or "none"
    missing = [name for name in configured if name not in pools]
    if missing:
        raise StorageError(f"storage_pool {', '.join(missing)}: no such active pool (active: {names})")
    if not configured and len(pools) != 1:
        raise StorageError(
            f"storage_pool is not set, and there is not exactly one active pool (active: {names})"
        )
    wanted = [pools[name] for name in configured or pools]
    unread = [pool for pool in wanted if isinstance(pool, UnreadPool)]
    if unread:
        raise StorageError("; ".join(map(describe_unread, unread)), reason=unread[0].reason)
    return tuple(pool for pool in wanted if isinstance(pool, StoragePool))


def sum_pools(seen: Sequence[SeenPool], *, replicas: int | None = None) -> Storage:
    """Return what pools have together. Two pools on one storage count once, as the first of them.

    Pools of one Ceph cluster have its size and free space once, and use what all of them use.

    :param replicas: how often a Ceph cluster keeps what is written; None if it is not known
    """
    by_key: dict[object, SeenPool] = {}
    for each in seen:
        by_key.setdefault(each.key, each)
    clusters: dict[object, list[Storage]] = {}
    for each in by_key.values():
        clusters.setdefault(each.cluster, []).append(_get_pool_info(each.pool, replicas))
    groups = list(clusters.values())
    return Storage(
        size_bytes=sum(max(pool.size_bytes for pool in group) for group in groups),
        used_bytes=sum(pool.used_bytes for group in groups for pool in group),
        free_bytes=sum(min(pool.free_bytes for pool in group) for group in groups),
        is_raw=any(pool.is_raw for group in groups for pool in group),
    )


def combine_sources(seen: Sequence[SeenPool]) -> StorageSource:
    """Return which storage several pools are together. It is shared if each of them is."""
    sources = {each.key: each.source for each in reversed(seen)}.values()
    kinds = sorted({source.kind for source in sources})
    ids = sorted({source.shared_id for source in sources if source.shared_id is not None})
    shared_id = None
    if ids and all(source.shared_id is not None for source in sources):
        shared_id = ids[0] if len(ids) == 1 else make_id("pools", " + ".join(ids))
    return StorageSource(
        kind=", ".join(kinds),
        source=", ".join(sorted({source.source for source in sources})),
        shared_id=shared_id,
    )


def _get_pool_info(pool: StoragePool, replicas: int | None) -> Storage:
    """Return a pool's numbers, as `ceph df` has them if it is in Ceph and its replicas are known.

    libvirt tells the bytes that the cluster has free. `ceph df` tells, and Nova with it, how much can still
    be written before an OSD is full. Of what is used, both tell the bytes with all replicas.
    """
    is_ceph = pool.source is not None and pool.source.type == "rbd"
    free = pool.available_bytes
    if is_ceph and replicas is not None:
        kept = pool.capacity_bytes - int(pool.capacity_bytes * CEPH_FULL_RATIO)
        free = max(0, free - kept) // replicas
    return Storage(
        size_bytes=pool.capacity_bytes,
        used_bytes=pool.allocation_bytes,
        free_bytes=free,
        is_raw=is_ceph and replicas is None,
    )

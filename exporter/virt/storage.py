"""Storage in numbers: of a file system, and of libvirt's storage pools."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from exporter.errors import ExporterError
from exporter.model import Storage, StoragePool, UnreadPool
from exporter.virt.libvirt_xml import XmlError, parse_xml

# Nova's default, and libvirt's default for a host without Nova. Tried in this order if no path is configured.
DEFAULT_INSTANCES_PATHS = ("/var/lib/nova/instances", "/var/lib/libvirt/images")


class StorageError(ExporterError):
    """The storage is not known: the path does not exist, or it is not clear which pool counts.

    :param reason: of its problem
    """

    def __init__(self, message: str, *, reason: str = "storage") -> None:
        super().__init__(message)
        self.reason = reason


def get_instances_info(configured: str | None) -> Storage:
    """Return the size and use of the file system that holds the instances path.

    :raises StorageError: if the path does not exist or may not be reached
    """
    return get_fs_info(find_instances_path(configured))


def find_instances_path(configured: str | None) -> str:
    """Return the configured path, else the first of the default ones that exists.

    A configured path is never replaced: the numbers of another file system would be wrong, without any sign.

    :raises StorageError: if no path is configured and none of the defaults exists
    """
    if configured is not None:
        return configured
    for path in DEFAULT_INSTANCES_PATHS:
        if Path(path).is_dir():
            return path
    raise StorageError(
        f"none of {', '.join(DEFAULT_INSTANCES_PATHS)} exists: set instances_path or storage_pool"
    )


def get_fs_info(path: str) -> Storage:
    """Return the size and use of the file system that holds `path` (nova.virt.libvirt.utils.get_fs_info).

    :raises StorageError: if the path does not exist or may not be reached
    """
    try:
        status = os.statvfs(path)
    except OSError as error:
        raise StorageError(f"instances_path {path}: {error.strerror}") from error
    return Storage(
        size_bytes=status.f_frsize * status.f_blocks,
        used_bytes=status.f_frsize * (status.f_blocks - status.f_bfree),
        free_bytes=status.f_frsize * status.f_bavail,
    )


def find_pool_info(pools: Sequence[StoragePool], source_name: str) -> Storage | None:
    """Return the size and use of the pool with this volume group or Ceph pool; None if there is none."""
    for pool in pools:
        if pool.source_name == source_name:
            return Storage(
                size_bytes=pool.capacity_bytes,
                used_bytes=pool.allocation_bytes,
                free_bytes=pool.available_bytes,
            )
    return None


def parse_source_name(xml: str) -> str | None:
    """Return the source of a storage pool: for LVM the volume group, for Ceph the pool.

    :raises StorageError: if it is not XML that libvirt writes
    """
    try:
        return parse_xml(xml).findtext("source/name")
    except XmlError as error:
        raise StorageError(f"unexpected XML, expected <pool> with its <source>: {error}") from error


def describe_unread(pool: UnreadPool) -> str:
    """Return which pool cannot be read, and why."""
    return f"storage pool {pool.name} cannot be read: {pool.error}"


def get_pools_info(active: Sequence[StoragePool | UnreadPool], configured: Sequence[str]) -> Storage:
    """Return the sum of the configured pools, or the one active pool if none is configured.

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
    chosen = [pool for pool in wanted if isinstance(pool, StoragePool)]
    return Storage(
        size_bytes=sum(pool.capacity_bytes for pool in chosen),
        used_bytes=sum(pool.allocation_bytes for pool in chosen),
        free_bytes=sum(pool.available_bytes for pool in chosen),
    )

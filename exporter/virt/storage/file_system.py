"""Storage in numbers: of a file system."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from exporter.errors import ExporterError
from exporter.model import Storage
from exporter.virt.masks import find_mask

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

    :raises StorageError: if the path does not exist, may not be reached, or is not the host's here
    """
    path = find_instances_path(configured)
    mask = find_mask(path)
    try:
        storage = get_fs_info(path)
    except StorageError as error:
        raise error if mask is None else StorageError(f"{error}: {mask}") from error
    if mask is not None:
        raise StorageError(f"instances_path {path}: {mask}")
    return storage


def find_instances_path(configured: str | None, *, defaults: Sequence[str] = DEFAULT_INSTANCES_PATHS) -> str:
    """Return the configured path, else the first of the default ones that exists.

    A configured path is never replaced: the numbers of another file system would be wrong, without any sign.
    Nor is a default one that may be there and cannot be reached. Whoever reads it is told why.

    :raises StorageError: if no path is configured and none of the defaults exists
    """
    if configured is not None:
        return configured
    for path in defaults:
        try:
            is_folder = stat.S_ISDIR(os.stat(path).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            return path
        if is_folder:
            return path
    raise StorageError(f"none of {', '.join(defaults)} exists: set instances_path or storage_pool")


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

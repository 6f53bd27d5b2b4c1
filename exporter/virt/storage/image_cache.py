"""The space that Nova's cache of images takes (nova.virt.imagecache, libvirt's ImageCacheManager)."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from exporter.virt.masks import find_mask
from exporter.virt.storage.file_system import StorageError

_BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system


def get_image_cache_bytes(instances_path: str, subdirectory: str) -> int:
    """Return what the files of the cache take (`ImageCacheManager.get_disk_usage`).

    0 if there is no cache yet, or if it is on another device than the instances path: it takes nothing of
    that. For any error Nova counts 0. Here only what disappears meanwhile counts 0.

    :param subdirectory: its name below the instances path: "_base"
    :raises StorageError: if it may not be read, or is not the host's here
    """
    cache = Path(instances_path, subdirectory)
    mask = find_mask(str(cache))
    if mask is not None:
        raise StorageError(f"image cache {cache}: {mask}")
    try:
        if Path(instances_path).stat().st_dev != cache.stat().st_dev:
            return 0
        with os.scandir(cache) as entries:
            return sum(map(_get_allocated_bytes, entries))
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise StorageError(f"image cache {cache}: {error.strerror}") from error


def _get_allocated_bytes(entry: os.DirEntry[str]) -> int:
    """Return what a file takes; 0 for a folder or another thing. A link counts as what it leads to."""
    try:
        status = entry.stat()
    except FileNotFoundError:
        return 0
    return status.st_blocks * _BLOCK_BYTES if stat.S_ISREG(status.st_mode) else 0

"""Disk images: how large each may grow, read from its stat and its header.

Images are written by the guests' owners: nothing in a header is believed beyond the one number read here.
"""

from __future__ import annotations

import os
import stat
import struct
from dataclasses import dataclass

from exporter.errors import ExporterError
from exporter.model import Disk, Guest, ImageSize

# https://gitlab.com/qemu-project/qemu/-/blob/master/docs/interop/qcow2.txt: magic and version stand at
# offset 0, the virtual size in bytes, a big-endian u64, at offset 24.
_QCOW2_MAGIC = b"QFI\xfb"
_QCOW2_HEADER = struct.Struct(">4sI16xQ")
_BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system's own block size


class ImageError(ExporterError):
    """An image is gone, unreadable, or not what the domain's XML says of it."""


def is_sized(disk: Disk, guest: Guest) -> bool:
    """Whether Nova counts the disk's over-commit: an image file that is no Cinder volume.

    Only a volume gets a serial from Nova, which skips its block device mappings. Block, network and volume
    disks and empty drives commit nothing.
    """
    if disk.source_type != "file" or disk.path is None:
        return False
    return not (guest.has_nova_metadata and disk.serial)


def overcommitted_bytes(disk: Disk, size: ImageSize) -> int:
    """Return by how much the image may still grow (Nova's over_committed_disk_size)."""
    difference = size.virtual_bytes - size.allocated_bytes
    return max(0, difference) if disk.driver_format == "qcow2" else difference


@dataclass(frozen=True, slots=True)
class _Seen:
    """An image's size, and by what its file is recognised as not rewritten since."""

    identity: tuple[int, int, int, int]  # device, inode, size, mtime in ns
    virtual_bytes: int


class ImageReader:
    """Reads images' sizes; a header is read again only when its file changed."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str | None], _Seen] = {}

    def read(self, path: str, driver_format: str | None) -> ImageSize:
        """Return the image's size.

        :param driver_format: the domain XML's word for the format; everything but "qcow2" is taken as raw,
            as Nova does
        :raises ImageError: when it is gone, unreadable, no regular file, or has another format
        """
        try:
            return self._read(path, driver_format)
        except (OSError, ValueError) as error:
            self._seen.pop((path, driver_format), None)
            raise ImageError(f"{path}: {getattr(error, 'strerror', None) or error}") from error

    def forget_others(self, paths: set[str]) -> None:
        """Forget every image that is not at one of these paths."""
        self._seen = {key: seen for key, seen in self._seen.items() if key[0] in paths}

    def _read(self, path: str, driver_format: str | None) -> ImageSize:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("not a regular file")
        allocated = status.st_blocks * _BLOCK_BYTES
        if driver_format != "qcow2":
            return ImageSize(virtual_bytes=status.st_size, allocated_bytes=allocated)
        identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        seen = self._seen.get((path, driver_format))
        if seen is None or seen.identity != identity:
            seen = _Seen(identity, _read_qcow2_virtual_size(path))
            self._seen[path, driver_format] = seen
        return ImageSize(virtual_bytes=seen.virtual_bytes, allocated_bytes=allocated)


def _read_qcow2_virtual_size(path: str) -> int:
    # O_NONBLOCK: between stat and here the path may have become a FIFO, which would block for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        header = os.read(descriptor, _QCOW2_HEADER.size)
    finally:
        os.close(descriptor)
    if len(header) < _QCOW2_HEADER.size:
        raise ValueError("too short for a qcow2 header")
    magic, _version, size = _QCOW2_HEADER.unpack(header)
    if magic != _QCOW2_MAGIC:
        raise ValueError("not a qcow2 image, though the domain's XML says so")
    return int(size)

"""Disk images: how large each may grow, read from its stat and its header.

The guests' owners write the images. So only one number of a header is used.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass

from exporter.model import Disk, ImageSize, UnsizedImage

# https://gitlab.com/qemu-project/qemu/-/blob/master/docs/interop/qcow2.txt: magic and version stand at
# offset 0, the virtual size in bytes, a big-endian u64, at offset 24.
_QCOW2_MAGIC = b"QFI\xfb"
_QCOW2_HEADER = struct.Struct(">4sI16xQ")
_MAX_IMAGE_BYTES = 2**63 - 1  # the maximum of an off_t: no program can address more
_BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system's own block size

# If all of these are equal, a file has not changed: device, inode, size, blocks, mtime in ns.
_Identity = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class UnopenedImage:
    """An image that this user may stat but not open. Its full size is in its header.

    :ivar file: device and inode; they identify the file if another one gets this path later
    """

    allocated_bytes: int
    file: tuple[int, int]


def overcommitted_bytes(disk: Disk, size: ImageSize) -> int:
    """Return how much the image can still grow (Nova's over_committed_disk_size): at least 0.

    An image may take more space than its full size. Nova subtracts the excess of a raw image from what the
    other images can grow by. But they can still grow by that much, so here it counts 0, as for qcow2.
    """
    return max(0, size.virtual_bytes - size.allocated_bytes)


class ImageReader:
    """Reads the sizes of images. A header is read again only if its file changed. Thread-safe.

    :param find_mask: returns what hides the host's file at a path from this process; None if nothing does
    """

    def __init__(self, *, find_mask: Callable[[str], str | None] = lambda _path: None) -> None:
        self._find_mask = find_mask
        self._seen: dict[tuple[str, str | None], tuple[_Identity, ImageSize]] = {}

    def read(self, disk: Disk) -> ImageSize | UnsizedImage | UnopenedImage | None:
        """Return the image's size, or what a stat shows if this user may not open it.

        None if this user may not even stat it, or a sandbox hides it. Every format except "qcow2" counts as
        raw, as in Nova. An image has no size if it is gone, is not a regular file, or has another format than
        the domain's XML says.
        """
        key = (disk.path or "", disk.driver_format)
        try:
            return self._read(key)
        except PermissionError:
            self._seen.pop(key, None)
            return None
        except (OSError, ValueError) as error:
            self._seen.pop(key, None)
            if isinstance(error, FileNotFoundError | NotADirectoryError) and self._find_mask(key[0]):
                return None
            return UnsizedImage(f"{disk.path}: {getattr(error, 'strerror', None) or error}")

    def forget_others(self, paths: Collection[str]) -> None:
        """Forget every image that is not at one of these paths."""
        # Iterate over a copy: an abandoned thread may return now and add its result.
        self._seen = {key: seen for key, seen in self._seen.copy().items() if key[0] in paths}

    def _read(self, key: tuple[str, str | None]) -> ImageSize | UnopenedImage:
        path, driver_format = key
        status = os.stat(path)
        identity = (status.st_dev, status.st_ino, status.st_size, status.st_blocks, status.st_mtime_ns)
        seen = self._seen.get(key)
        if seen is not None and seen[0] == identity:
            return seen[1]
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("not a regular file")
        allocated_bytes = status.st_blocks * _BLOCK_BYTES
        try:
            virtual_bytes = _read_qcow2_virtual_size(path) if driver_format == "qcow2" else status.st_size
        except PermissionError:
            self._seen.pop(key, None)
            return UnopenedImage(allocated_bytes, (status.st_dev, status.st_ino))
        size = ImageSize(virtual_bytes=virtual_bytes, allocated_bytes=allocated_bytes)
        self._seen[key] = (identity, size)
        return size


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
    if size > _MAX_IMAGE_BYTES:
        raise ValueError(f"a virtual size of {size} bytes, which no image can have")
    return int(size)

"""Reads of small files of control groups and of /proc."""

from __future__ import annotations

import os

from exporter.virt.cgroups.contents import MAX_BYTES


def read_file(folder: str, name: str) -> bytes:
    """Return a file's content; nothing if it cannot be read, as while its group is being removed."""
    try:
        descriptor = os.open(f"{folder}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, MAX_BYTES)
    except OSError:
        return b""
    finally:
        os.close(descriptor)

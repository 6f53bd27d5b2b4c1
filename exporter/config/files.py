"""Reads a file of the configuration, up to a size that no configuration has."""

from __future__ import annotations

import errno
from pathlib import Path

MAX_MIB = 16


def read_file(path: Path) -> bytes:
    """Return the file's content.

    :raises OSError: if it cannot be read, or is larger than any configuration (with a wrong path: an image,
        a device)
    """
    with path.open("rb") as file:
        content = file.read(MAX_MIB * 1024 * 1024 + 1)
    if len(content) > MAX_MIB * 1024 * 1024:
        raise OSError(errno.EFBIG, f"it is larger than {MAX_MIB} MiB")
    return content

"""Reads a file of the configuration, up to a size that no configuration has."""

from __future__ import annotations

import codecs
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


def find_encoding(content: bytes) -> str:
    """Return the encoding of a text by its byte order mark, as YAML has it; UTF-8 if there is none."""
    for mark, encoding in (
        (codecs.BOM_UTF32_LE, "utf-32"),
        (codecs.BOM_UTF32_BE, "utf-32"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if content.startswith(mark):
            return encoding
    return "utf-8-sig"

"""Reads of small files of control groups and of /proc."""

from __future__ import annotations

import os

# What is read of a file at most: a page. The longest, memory.stat, has 2 kB.
MAX_BYTES = 4096
# The kernel's counters have 64 bits. One in the upper half is a negative number, which makes no sense.
MAX_COUNTER = 2**63 - 1
# More than Linux lets all processes together have (PID_MAX_LIMIT), with 7 digits each.
_MAX_READS = 2**22 * 8 // MAX_BYTES


def exists(path: str) -> bool:
    """Whether a file is there. What is below a folder that may not be entered counts as not there."""
    return os.path.exists(path)  # noqa: PTH110 # Path.exists() raises the errors that it does not expect


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


def read_lines(folder: str, name: str) -> list[bytes]:
    """Return the lines of a file of any length, such as a list of threads; nothing if it cannot be read.

    The kernel gives a page with each read. A line that is cut off is left out: it would be another number.
    """
    parts: list[bytes] = []
    try:
        descriptor = os.open(f"{folder}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        while len(parts) < _MAX_READS and (part := os.read(descriptor, MAX_BYTES)):
            parts.append(part)
    except OSError:
        return []
    finally:
        os.close(descriptor)
    return b"".join(parts).split(b"\n")[:-1]

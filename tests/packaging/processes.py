"""Finding the process that a chain of wrappers (make, a shell, buildah) has started."""

from __future__ import annotations

from pathlib import Path


def find_last_descendant(pid: int) -> int:
    """Return the process at the end of a chain of only children."""
    while children := _list_children(pid):
        (pid,) = children
    return pid


def _list_children(pid: int) -> list[int]:
    return [
        int(child)
        for listing in Path(f"/proc/{pid}/task").glob("*/children")
        for child in listing.read_text().split()
    ]

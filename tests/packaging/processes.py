"""Finding the process that a chain of wrappers (make, a shell, buildah) has started, and a port for it."""

from __future__ import annotations

import socket
from pathlib import Path


def find_last_descendant(pid: int) -> int:
    """Return the process at the end of a chain of only children."""
    while children := _list_children(pid):
        (pid,) = children
    return pid


def find_free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _list_children(pid: int) -> list[int]:
    return [
        int(child)
        for listing in Path(f"/proc/{pid}/task").glob("*/children")
        for child in listing.read_text().split()
    ]

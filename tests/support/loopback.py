"""Servers of the tests' own on this machine: a port for one, and whether it answers."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request


def find_free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(url: str) -> bool:
    """Whether a server answers there, and is content."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except urllib.error.HTTPError as error:
        error.close()  # it is the answer, with a connection of its own
        return False
    except (urllib.error.URLError, ConnectionError):
        return False

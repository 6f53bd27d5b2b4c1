"""Servers of the tests' own on this machine: a port for one, and whether it answers."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Sequence
from random import SystemRandom

# Below those that Linux gives to clients, of which there are many at a time.
_PORTS = range(20_000, 32_000)


def find_free_port(ports: Sequence[int] = _PORTS) -> int:
    """Return a free port of 127.0.0.1. No other caller gets the same port.

    Others are the workers beside this one, and those of `make test-bare`, which share the network. What tells
    them is an abstract socket named after the port, which a network can have once. It lasts as long as this
    process.

    :raises OSError: when none of them is free
    """
    for port in SystemRandom().sample(ports, len(ports)):
        with socket.socket(socket.AF_UNIX) as claim, socket.socket() as probe:
            try:
                claim.bind(f"\0hypervisor-exporter-tests-{port}")
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            claim.detach()
            return port
    raise OSError(f"no port is free of {len(ports)}")


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

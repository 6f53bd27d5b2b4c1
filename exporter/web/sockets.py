"""The sockets that the server listens on: of an IP address or of a path."""

from __future__ import annotations

import contextlib
import socket
import stat
from pathlib import Path

UNIX_PREFIX = "unix:"
_UNIX_MODE = 0o660


def bind(address: str) -> socket.socket:
    """Return a socket bound to `host:port`, `[v6]:port`, `:port` or `unix:/path`.

    `:port` is for both IP versions. Nobody can connect before the server listens.

    :raises OSError: if the address is in use, or does not belong to this machine
    """
    if address.startswith(UNIX_PREFIX):
        return _bind_unix(address.removeprefix(UNIX_PREFIX))
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    is_dual_stack = not host and socket.has_dualstack_ipv6()
    where = "::" if is_dual_stack else host or "0.0.0.0"
    family, kind, protocol, _, name = socket.getaddrinfo(where, int(port), type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not is_dual_stack))
        bound.bind(name)
    except OSError:
        bound.close()
        raise
    bound.setblocking(False)
    return bound


def _bind_unix(path: str) -> socket.socket:
    """Bind to a path. Replace a socket without a listener."""
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _is_left_over(path):
            Path(path).unlink()
        bound.bind(path)
        # A client needs the right to write. The socket's group has it, whatever the unit's UMask is. The
        # folder's mode decides who can reach the socket.
        Path(path).chmod(_UNIX_MODE)
    except OSError:
        bound.close()
        raise
    bound.setblocking(False)
    return bound


def _is_left_over(path: str) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        if not stat.S_ISSOCK(Path(path).stat().st_mode):
            return False
        probe.setblocking(False)  # a listener that accepts no connections would block this
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
    return False


def describe(bound: socket.socket) -> str:
    """Return the address that a socket is bound to, in the form for `bind`."""
    if bound.family == socket.AF_UNIX:
        return f"{UNIX_PREFIX}{bound.getsockname()}"
    host, port, *_ = bound.getsockname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

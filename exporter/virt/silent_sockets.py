"""Sockets of this process on which nothing arrives: those of connections that libvirt cannot open.

libvirt does not say which socket a call uses. So a socket is judged by what the kernel knows of it
(TCP_INFO): libvirt's keep-alive makes something arrive on every open connection within seconds.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

# Of the kernel's struct tcp_info: state, retransmits; milliseconds since the last data arrived, or since the
# connection; bytes that arrived.
_STATE, _RETRANSMITS, _LAST_DATA_RECEIVED, _BYTES_RECEIVED = 0, 2, 52, 128
_INFO_BYTES = 136
_ESTABLISHED, _SYN_SENT = 1, 2


@dataclass(frozen=True, slots=True)
class SilentSocket:
    """A TCP connection that this process has made, or tries to make.

    :ivar descriptor: its number
    :ivar inode: tells whether the number is still that socket
    :ivar silent_seconds: how long nothing has arrived; of one without an answer to SYN, at least
    :ivar has_received: whether anything has ever arrived
    """

    descriptor: int
    inode: int
    silent_seconds: float
    has_received: bool


def list_sockets() -> list[SilentSocket]:
    """Return the TCP connections that this process has made, those that are silent for longest first.

    Connections of clients to a port that this process listens on are not among them.
    """
    found: list[tuple[int, SilentSocket]] = []
    listening: set[int] = set()
    for path in Path("/proc/self/fd").iterdir():
        with suppress(OSError), _borrow(int(path.name)) as (inode, borrowed):
            if borrowed.family not in (socket.AF_INET, socket.AF_INET6):
                continue
            port = borrowed.getsockname()[1]
            if borrowed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                listening.add(port)
            elif borrowed.type == socket.SOCK_STREAM:
                found.append((port, _judge(int(path.name), inode, borrowed)))
    made = [each for port, each in found if port not in listening]
    return sorted(made, key=lambda each: each.silent_seconds, reverse=True)


def shut_down(silent: SilentSocket) -> None:
    """End the connection: whoever reads from it or connects it gets an error at once."""
    with suppress(OSError), _borrow(silent.descriptor) as (inode, borrowed):
        if inode == silent.inode:
            borrowed.shutdown(socket.SHUT_RDWR)


@contextmanager
def _borrow(descriptor: int) -> Iterator[tuple[int, socket.socket]]:
    """Yield the inode of a socket, and the socket by a number of our own, which nobody else can close.

    :raises OSError: if it is no socket, or not there any more
    """
    copy = os.dup(descriptor)
    try:
        status = os.fstat(copy)
        if not stat.S_ISSOCK(status.st_mode):
            raise OSError("no socket")
        borrowed = socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise
    with borrowed:
        yield status.st_ino, borrowed


def _judge(descriptor: int, inode: int, borrowed: socket.socket) -> SilentSocket:
    info = borrowed.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
    state, retransmits = info[_STATE], info[_RETRANSMITS]
    (silent_milliseconds,) = struct.unpack_from("=I", info, _LAST_DATA_RECEIVED)
    (received,) = struct.unpack_from("=Q", info, _BYTES_RECEIVED)
    if state == _SYN_SENT:
        # SYN is sent again after a second, then after longer and longer pauses.
        silent_seconds = float(2**retransmits - 1)
    else:
        silent_seconds = silent_milliseconds / 1000 if state == _ESTABLISHED else 0.0
    return SilentSocket(descriptor, inode, silent_seconds, has_received=received > 0)

"""Bytes to and from a client, plain or over TLS. The socket is read and written only on request.

asyncio's own TLS keeps 256 KiB for each connection, and its drain() waits for the client's next bytes if no
write buffer is allowed. Here nothing is buffered: written data is in the kernel, and nothing is read before
it is needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import ssl
import struct
import termios
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from exporter.web.handshake import Handshake

T = TypeVar("T")

_READ_BYTES = 16 * 1024
_WRITE_BYTES = 16 * 1024  # one TLS record; larger pieces would only enlarge OpenSSL's buffers
# The limit of the kernel's buffer for one connection. The kernel uses twice as much, with its own data.
KERNEL_BUFFER_BYTES = 64 * 1024


class PlainStream:
    """A socket without TLS.

    :ivar certificate: the client's, if it was verified, in the form of ssl's getpeercert
    """

    certificate: Any = None

    def __init__(self, client: socket.socket) -> None:
        self._socket = client
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BUFFER_BYTES)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BUFFER_BYTES)
        if client.family != socket.AF_UNIX:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def open(self) -> None:
        """Do nothing: there is no handshake."""

    async def read(self) -> bytes:
        """Return the next bytes; empty at the end.

        :raises OSError: if the connection is lost
        """
        return await self.read_raw()

    async def read_raw(self) -> bytes:
        """Return the next bytes from the network."""
        # Available bytes are returned at once. So let other tasks run if a client sends fast.
        await asyncio.sleep(0)
        return await asyncio.get_running_loop().sock_recv(self._socket, _READ_BYTES)

    async def write(self, content: bytes) -> None:
        """Return when the kernel has all of it.

        :raises OSError: if the connection is lost
        """
        await asyncio.get_running_loop().sock_sendall(self._socket, content)

    def has_unread_bytes(self) -> bool:
        """Whether the client has sent bytes that were not read here."""
        return self._count_bytes(termios.FIONREAD) > 0

    def has_untaken_bytes(self) -> bool:
        """Whether the client has not taken all that was written.

        Over TCP its kernel takes it. What a client sends after it has read everything also acknowledges
        everything, so this is false when that is read.
        """
        return self._count_bytes(termios.TIOCOUTQ) > 0  # a socket's SIOCOUTQ is the same number

    def _count_bytes(self, request: int) -> int:
        (count,) = struct.unpack("i", fcntl.ioctl(self._socket, request, bytes(4)))
        return int(count)

    def end(self) -> None:
        """End the written data, without waiting."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)


class TlsStream(PlainStream):
    """A socket with TLS. Its bytes go through OpenSSL in memory."""

    def __init__(self, client: socket.socket, context: ssl.SSLContext) -> None:
        super().__init__(client)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._handshake: Handshake | None = Handshake()

    async def open(self) -> None:
        """Do the handshake.

        :raises OSError: if the client does not speak TLS, has no common version, or announces a long message
        """
        await self._run(self._tls.do_handshake)
        self._handshake = None
        self.certificate = self._tls.getpeercert()

    async def read(self) -> bytes:
        """Return the next bytes; none at the end."""
        try:
            return await self._run(partial(self._tls.read, _READ_BYTES))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    async def write(self, content: bytes) -> None:
        """Return when the kernel has all of it."""
        view = memoryview(content)
        while view:
            written = await self._run(partial(self._tls.write, view[:_WRITE_BYTES]))
            view = view[written:]

    def has_unread_bytes(self) -> bool:
        """Whether the client has sent bytes that were not read here: a TLS record is read alone."""
        return bool(self._incoming.pending or self._tls.pending()) or super().has_unread_bytes()

    def end(self) -> None:
        """End the written data, without waiting."""
        # unwrap() writes the alert. Then it raises, because it would wait for the client's alert.
        with contextlib.suppress(OSError, ValueError):
            self._tls.unwrap()
        with contextlib.suppress(OSError):
            self._socket.send(self._outgoing.read())
        super().end()

    async def _run(self, step: Callable[[], T]) -> T:
        """Repeat the step until it has read what it needs. Send what it has written."""
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                pass
            finally:
                if self._outgoing.pending:
                    await self._send()
            received = await self.read_raw()
            if self._handshake is not None:
                self._handshake.check(received)
            if received:
                self._incoming.write(received)
            else:
                self._incoming.write_eof()

    async def _send(self) -> None:
        sent = self._outgoing.read()
        if self._handshake is not None:
            self._handshake.note_sent(sent)
        await super().write(sent)

"""Count a client's calls to libvirtd, with a proxy between the two."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from pathlib import Path
from types import TracebackType

# https://libvirt.org/kbase/internals/rpc.html: a message's length, its own bytes included; then program,
# version, procedure and type, of which 0 is a call.
_HEAD = struct.Struct(">I4I")
_CALL = 0


class CallCounter:
    """A socket that passes on to libvirtd's whatever comes, and counts the calls in it.

    :ivar calls: how many there were so far
    """

    def __init__(self, path: Path, libvirtd_socket: Path) -> None:
        self.calls = 0
        self._libvirtd_socket = libvirtd_socket
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._path = path
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> CallCounter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        self._path.unlink()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # what accept() raises once the listener is closed
            while True:
                client, _ = self._listener.accept()
                libvirtd = socket.socket(socket.AF_UNIX)
                libvirtd.connect(str(self._libvirtd_socket))
                threading.Thread(target=self._pass_calls, args=(client, libvirtd), daemon=True).start()
                threading.Thread(target=_pass_replies, args=(libvirtd, client), daemon=True).start()

    def _pass_calls(self, client: socket.socket, libvirtd: socket.socket) -> None:
        with contextlib.suppress(OSError), client.makefile("rb") as stream:
            while head := stream.read(_HEAD.size):
                length, _program, _version, _procedure, kind = _HEAD.unpack(head)
                if kind == _CALL:
                    self.calls += 1
                libvirtd.sendall(head + stream.read(length - len(head)))
        _hang_up(libvirtd)


def _pass_replies(libvirtd: socket.socket, client: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := libvirtd.recv(65536):
            client.sendall(piece)
    _hang_up(client)


def _hang_up(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)

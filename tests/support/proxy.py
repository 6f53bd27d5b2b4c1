"""A proxy on the loopback that can do to a connection whatever a network can."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

_READ_BYTES = 64 * 1024


class Proxy:
    """Passes on what comes to its port; as a context manager it ends with all its connections.

    :ivar port: where it listens, on 127.0.0.1

    :param port: where it connects to, on 127.0.0.1
    """

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._passing = threading.Event()
        self._passing.set()
        self._left_behind: list[threading.Event] = []
        self._garbage = False
        self._lag = 0.0
        self._cut_after: int | None = None
        self._sockets: list[socket.socket] = []
        self._stalled: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        sockets = [*self._sockets, *self._stalled]
        _shut(*sockets)
        for passing in (self._passing, *self._left_behind):
            passing.set()
        for thread in self._threads:
            thread.join(timeout=5)
        for each in (self._listener, *sockets):
            each.close()

    def stall(self) -> None:
        """Accept everything and pass nothing on."""
        self._passing.clear()

    def go_on(self) -> None:
        """Behave again. Connections that stall stay so, as if their other end had been switched off."""
        self._left_behind.append(self._passing)
        self._stalled += self._sockets
        self._sockets = []
        self._passing, self._garbage, self._cut_after = threading.Event(), False, None
        self._passing.set()

    def lag(self, seconds: float) -> None:
        """Pass each answer on so much later, as a long way does."""
        self._lag = seconds

    def cut(self) -> None:
        """Close every connection."""
        _shut(*self._sockets)

    def cut_after(self, answered_bytes: int) -> None:
        """Close each connection in the middle of the answer that reaches so many bytes."""
        self._cut_after = answered_bytes

    def answer_garbage(self) -> None:
        """Put other bytes in the place of whatever is answered."""
        self._garbage = True

    def _accept(self) -> None:
        while True:
            try:
                client, _address = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._upstream))
            self._sockets += [client, server]
            for source, sink, is_answer in ((client, server, False), (server, client, True)):
                arguments = (source, sink, is_answer, self._passing)
                self._start(self._pass_on, *arguments)

    def _start(self, work: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, name="proxy", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _pass_on(
        self, source: socket.socket, sink: socket.socket, is_answer: bool, passing: threading.Event
    ) -> None:
        answered = 0
        with contextlib.suppress(OSError):
            while content := source.recv(_READ_BYTES):
                passing.wait()
                if is_answer:
                    time.sleep(self._lag)
                if is_answer and self._garbage:
                    content = bytes(byte ^ 0x5A for byte in content)
                if is_answer and self._cut_after is not None:
                    content = content[: max(0, self._cut_after - answered)]
                sink.sendall(content)
                answered += len(content)
                if is_answer and answered == self._cut_after:
                    break
        _shut(source, sink)


def _shut(*sockets: socket.socket) -> None:
    for each in sockets:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)

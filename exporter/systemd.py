"""The protocol between systemd and its services: passed sockets, readiness, the watchdog."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping

_FIRST_SOCKET = 3


def get_passed_sockets(environment: Mapping[str, str]) -> list[socket.socket]:
    """Return the sockets of the socket unit that started this process (sd_listen_fds(3)).

    :param environment: of this process
    :raises OSError: if there are none
    """
    count = environment.get("LISTEN_FDS", "")
    if environment.get("LISTEN_PID") != str(os.getpid()) or not count.isdigit() or count == "0":
        raise OSError(0, "systemd passed no socket: --web.systemd-socket needs a socket unit")
    taken = [socket.socket(fileno=number) for number in range(_FIRST_SOCKET, _FIRST_SOCKET + int(count))]
    for each in taken:
        each.setblocking(False)
        os.set_inheritable(each.fileno(), False)
    return taken


class Notifier:
    """Reports the state of the service to the service manager (sd_notify(3)), if there is one.

    :param environment: of this process
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        path = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path

    def ready(self) -> None:
        """Report that requests are answered from now on."""
        self._send("READY=1")

    def alive(self) -> None:
        """Send the watchdog message. systemd restarts the service if it is missing for WatchdogSec."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Report that the service is stopping."""
        self._send("STOPPING=1")

    def _send(self, state: str) -> None:
        if not self._address:
            return
        # Keep serving if the service manager does not listen.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.setblocking(False)
            manager.sendto(state.encode(), self._address)

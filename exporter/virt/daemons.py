"""libvirt's daemons by name: where they listen, and what to do when one cannot be reached.

libvirt runs as one daemon, libvirtd, or as several with their own sockets: https://libvirt.org/daemons.html.
A client then talks to virtqemud. For storage pools virtqemud asks virtstoraged, for node devices
virtnodedevd. It opens this connection once for each client, and does not open it again if it breaks.
"""

from __future__ import annotations

import errno

STORAGE = "virtstoraged"
NODE_DEVICES = "virtnodedevd"

_FORBIDDEN = {errno.EACCES, errno.EPERM}


def is_forbidden(error_number: int) -> bool:
    """Whether the system denied opening a socket. The socket exists then."""
    return error_number in _FORBIDDEN


def explain_unreachable(daemon: str, message: str) -> str:
    """Return the message if the connected daemon cannot reach this one.

    :param message: libvirt's own
    """
    return (
        f"{daemon} cannot be reached: {message}."
        f" If it is not running, start it: systemctl enable --now {daemon}.socket"
    )


def explain_silence(daemon: str, what: str, seconds: float) -> str:
    """Return the message if a call waits for an answer that may have to come from another daemon.

    :param what: what was asked for: "node devices"
    """
    return (
        f"{what}: no answer from libvirt for {seconds:.0f} s; the last answer is used. If {daemon} runs, it"
        f" may hang: systemctl restart {daemon}"
    )


def explain_denied(daemon: str | None, message: str) -> str:
    """Return the message if libvirt's access control or a socket's mode denies a call.

    :param daemon: the daemon that denies it; None for the connected one
    :param message: libvirt's own
    """
    by = "libvirt" if daemon is None else daemon
    return (
        f"{by} denies it: {message}. Look at access_drivers and unix_sock_ro_perms in its configuration"
        f"{'' if daemon is None else f', /etc/libvirt/{daemon}.conf'}"
    )

"""libvirt's daemons by name: where they listen, and what to do when one cannot be reached.

libvirt runs as one daemon, libvirtd, or as several with their own sockets: https://libvirt.org/daemons.html.
A client then talks to virtqemud, about guests. What it asks about storage pools or node devices, virtqemud
asks virtstoraged or virtnodedevd, over a connection that it opens once for this client, and not again when it
breaks.
"""

from __future__ import annotations

import errno

STORAGE = "virtstoraged"
NODE_DEVICES = "virtnodedevd"

_FORBIDDEN = {errno.EACCES, errno.EPERM}


def is_forbidden(error_number: int) -> bool:
    """Whether the system refused to open a socket, which is then there."""
    return error_number in _FORBIDDEN


def explain_unreachable(daemon: str, message: str) -> str:
    """Return what to say when the daemon does not answer the one that this client is connected to.

    :param message: libvirt's own
    """
    return (
        f"{daemon} cannot be reached: {message}."
        f" If it is not running, start it: systemctl enable --now {daemon}.socket"
    )


def explain_silence(daemon: str, what: str, seconds: float) -> str:
    """Return what to say when a call waits for an answer that may be another daemon's to give.

    :param what: what was asked for: "node devices"
    """
    return (
        f"{what}: no answer from libvirt for {seconds:.0f} s; the last answer counts. Where {daemon} runs, it"
        f" may be what hangs: systemctl restart {daemon}"
    )


def explain_denied(daemon: str | None, message: str) -> str:
    """Return what to say when libvirt's access control, or a socket's mode, is in the way.

    :param daemon: the one that denies it; None for the one that this client is connected to
    :param message: libvirt's own
    """
    by = "libvirt" if daemon is None else daemon
    return (
        f"{by} denies it: {message}. Look at access_drivers and unix_sock_ro_perms in its configuration"
        f"{'' if daemon is None else f', /etc/libvirt/{daemon}.conf'}"
    )

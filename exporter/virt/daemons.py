"""libvirt's daemons by name: where they listen, and what to do when one cannot be reached.

libvirt runs as one daemon, libvirtd, or as several with their own sockets: https://libvirt.org/daemons.html.
A client then talks to virtqemud, about guests. What it asks about storage pools or node devices, virtqemud
asks virtstoraged or virtnodedevd, over a connection that it opens once for this client, and not again when it
breaks.
"""

from __future__ import annotations

import errno

from exporter.config.libvirt_uri import LibvirtUri

STORAGE = "virtstoraged"
NODE_DEVICES = "virtnodedevd"

_HYPERVISORS = {
    "bhyve": "virtbhyved",
    "ch": "virtchd",
    "lxc": "virtlxcd",
    "qemu": "virtqemud",
    "vbox": "virtvboxd",
    "xen": "virtxend",
}
_NOBODY_LISTENS = {errno.ENOENT, errno.ECONNREFUSED}
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


def explain_no_connection(uri: str, message: str, error_number: int) -> str:
    """Return what to say when no connection could be opened.

    :param uri: as it is configured; it may hold a password, and is not quoted
    :param message: libvirt's own, without a password
    :param error_number: the system's (errno); 0 where it was not the system that refused
    """
    advice = _advise(uri, error_number)
    return f"{message}. {advice}" if advice else message


def _advise(uri: str, error_number: int) -> str:
    try:
        parsed = LibvirtUri.parse(uri)
    except ValueError:
        return ""
    daemon = _HYPERVISORS.get(parsed.driver)
    if daemon is None:
        return ""
    if parsed.is_local and error_number in _NOBODY_LISTENS:
        return (
            "libvirt does not run here, or listens elsewhere. As one daemon it is libvirtd, with the socket"
            " /run/libvirt/libvirt-sock-ro (systemctl enable --now libvirtd); as several it is"
            f" {daemon}, with /run/libvirt/{daemon}-sock-ro (systemctl enable --now {daemon}.socket)"
        )
    if parsed.is_local and error_number in _FORBIDDEN:
        return (
            "This user may not open that socket: add the user to the socket's group, or let everybody open"
            f" the read-only one (unix_sock_ro_perms in libvirtd.conf or {daemon}.conf, SocketMode in"
            f" libvirtd-ro.socket or {daemon}-ro.socket)"
        )
    if error_number in _NOBODY_LISTENS and parsed.transport in ("tcp", "tls", None):
        kind = parsed.transport or "tls"
        return (
            f"On that host nothing listens for {kind.upper()}: it is libvirtd-{kind}.socket there, or with"
            f" modular daemons virtproxyd-{kind}.socket"
        )
    return ""

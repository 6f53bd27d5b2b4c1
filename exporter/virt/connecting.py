"""Advice for a connection to libvirt that could not be opened.

Only libvirt's message says what failed: the system's error number is the same for a missing socket,
certificate or directory. The messages are in English, because this process never calls setlocale for them.
"""

from __future__ import annotations

import errno
import re
from urllib.parse import unquote_to_bytes, urlsplit

from exporter.config.libvirt_uri import LibvirtUri

_DAEMONS = {
    "bhyve": "virtbhyved",
    "ch": "virtchd",
    "lxc": "virtlxcd",
    "qemu": "virtqemud",
    "vbox": "virtvboxd",
    "xen": "virtxend",
}
_OTHER_DRIVERS = {
    "esx",
    "gsx",
    "hyperv",
    "openvz",
    "parallels",
    "test",
    "vmwarefusion",
    "vmwareplayer",
    "vmwarews",
    "vpx",
    "vz",
}
_QEMU_PATHS = ("", "/", "/system", "/session", "/embed")
_NOBODY_LISTENS = {errno.ENOENT, errno.ECONNREFUSED}
_FORBIDDEN = {errno.EACCES, errno.EPERM}

_TRY = "Try the URI by hand, as the exporter's user: virsh --readonly --connect URI list"

_STEPS = "docs/fleet.md has the steps (SSH, step by step)"
_PROGRAM = (
    "The URI's transport needs that program on this machine; ssh is in the package openssh-client."
    " qemu+libssh2 needs no program"
)
_SANDBOX = (
    "The sandbox of the service refuses what libvirt does before it starts ssh: copy"
    " /usr/share/hypervisor-exporter/ssh/unit.conf to"
    " /etc/systemd/system/hypervisor-exporter.service.d/ssh.conf, then systemctl daemon-reload and systemctl"
    f" restart hypervisor-exporter. {_STEPS}. qemu+libssh2 starts no program and needs no change"
)
_SSH_ENDED = (
    f"ssh, or what starts it, ended at once without a reason. If the service has a sandbox: {_SANDBOX}"
)
_NAME = "The name of that host is not known on this machine: check it in the URI, and the name service"
_HOST_KEY = (
    "ssh does not know that host's key: add it to the known_hosts of the exporter's user. For the packaged"
    " service this is /etc/hypervisor-exporter/ssh/known_hosts, because its user has no home."
    f" {_STEPS}"
)
_KEY = (
    "That host's ssh refuses the exporter's user: it needs a key without a passphrase, and the host must"
    " accept it. For the packaged service this is /etc/hypervisor-exporter/ssh/id_ed25519, readable for the"
    f" group hypervisor-exporter. {_STEPS}"
)
_CERTIFICATE = (
    "That file belongs on this machine, readable for the exporter's user: TLS needs a CA certificate and a"
    " client's (https://libvirt.org/kbase/tlscerts.html), or in the URI pkipath= with their folder"
)
_FOLDER = (
    "libvirt keeps a folder for the exporter's user: give it a HOME or XDG_RUNTIME_DIR where it may write."
    " The guests of the whole machine are those of qemu:///system"
)

_ENDED_AT_ONCE = r"client socket is closed|Cannot write data: Broken pipe|End of file while reading data"

# A pattern for the message, and the advice. The first match counts.
_BY_MESSAGE = (
    (r"Cannot find '.+' in path", _PROGRAM),
    (r"Unable to resolve address|Could not resolve hostname|address lookup for host", _NAME),
    (r"cannot apply process capabilities", _SANDBOX),
    (
        r"Host key verification failed|callback for host key verification|HOST KEY VERIFICATION FAILED",
        _HOST_KEY,
    ),
    (r"Permission denied \(|Permission denied, please try again", _KEY),
    (r"Password request failed|failed to retrieve private key passphrase", _KEY),
    (r"(?:Cannot|Unable to) (?:read|load|access).*(?:certificate|private key)", _CERTIFICATE),
    (r"(?i)cannot create .*directory", _FOLDER),
)


def advise(uri: str, message: str, error_number: int) -> str:
    """Return what to do when no connection could be opened.

    :param uri: as configured; it may contain a password, so it is not quoted
    :param message: libvirt's own
    :param error_number: the system's errno; 0 if the error did not come from the system
    """
    try:
        parsed, path = LibvirtUri.parse(uri), urlsplit(uri).path
    except ValueError:
        return _TRY
    return (
        _advise_on_uri(parsed, path)
        or _advise_on_message(message)
        or _advise_on_ssh(parsed, message)
        or _advise_on_listening(parsed, message, error_number)
        or _TRY
    )


def has_daemon(uri: str) -> bool:
    """Whether a daemon answers for the hypervisor. The test driver plays one inside this process."""
    try:
        parsed = LibvirtUri.parse(uri)
    except ValueError:
        return True
    return parsed.driver != "test" or bool(parsed.transport or parsed.host)


def find_test_file(uri: str) -> bytes | None:
    """Return the path of the file that libvirt's test driver would read; None if it reads none."""
    try:
        parsed, path = LibvirtUri.parse(uri), urlsplit(uri).path
    except ValueError:
        return None
    is_file = parsed.driver == "test" and not parsed.transport and not parsed.host
    return unquote_to_bytes(path) if is_file and path not in ("", "/", "/default") else None


def _advise_on_uri(uri: LibvirtUri, path: str) -> str:
    if uri.driver not in _DAEMONS and uri.driver not in _OTHER_DRIVERS:
        return f"libvirt has no driver {uri.driver}: check the URI; for QEMU and KVM it begins with qemu"
    if uri.driver == "test" and not uri.transport and not uri.host:
        return (
            "libvirt's test driver plays the hypervisor that a file describes: check the path and what is"
            " there, or take test:///default"
        )
    if uri.driver == "qemu" and path not in _QEMU_PATHS:
        return (
            "The path in the URI of QEMU is /system, or /session for the guests of one user: qemu:///system"
        )
    return ""


def _advise_on_message(message: str) -> str:
    return next((advice for pattern, advice in _BY_MESSAGE if re.search(pattern, message)), "")


def _advise_on_ssh(uri: LibvirtUri, message: str) -> str:
    # What ssh printed may be lost when it ends at once. libvirt then says only that it ended.
    return _SSH_ENDED if uri.transport == "ssh" and re.search(_ENDED_AT_ONCE, message) else ""


def _advise_on_listening(uri: LibvirtUri, message: str, error_number: int) -> str:
    daemon = _DAEMONS.get(uri.driver)
    if daemon is None:
        return ""
    is_socket = message.startswith("Failed to connect socket")
    if uri.is_local and is_socket and error_number in _NOBODY_LISTENS:
        return (
            "libvirt does not run here, or listens elsewhere. As one daemon it is libvirtd, with the socket"
            " /run/libvirt/libvirt-sock-ro (systemctl enable --now libvirtd); as several it is"
            f" {daemon}, with /run/libvirt/{daemon}-sock-ro (systemctl enable --now {daemon}.socket)"
        )
    if uri.is_local and is_socket and error_number in _FORBIDDEN:
        return (
            "This user may not open that socket: add the user to the socket's group, or let everybody open"
            f" the read-only one (unix_sock_ro_perms in libvirtd.conf or {daemon}.conf, SocketMode in"
            f" libvirtd-ro.socket or {daemon}-ro.socket)"
        )
    is_refused = message.startswith("unable to connect to server") and error_number == errno.ECONNREFUSED
    if is_refused and uri.transport in ("tcp", "tls", None):
        kind = uri.transport or "tls"
        return (
            f"On that host nothing listens for {kind.upper()}: it is libvirtd-{kind}.socket there, or with"
            f" modular daemons virtproxyd-{kind}.socket"
        )
    return ""

"""Errors that cross module borders. Each has the `reason` under which it is counted."""

from __future__ import annotations


class ExporterError(Exception):
    """Base of all errors of this exporter. The message fits into one line of the log."""


class ConfigError(ExporterError):
    """The configuration is wrong.

    `mistakes` has one complete line for each mistake: where, what was found, what is expected.
    """

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class UnreadConfigError(ExporterError):
    """The configuration could not be read in time: a file system hangs."""


class LibvirtMissingError(ExporterError):
    """libvirt's library or its Python binding is missing, or cannot be loaded."""


class HypervisorError(ExporterError):
    """A hypervisor could not be read; `reason` is the label of hypervisor_refresh_errors_total.

    `advice` says what to do; empty if the advice of the reason is enough.
    """

    reason = "libvirt"

    def __init__(self, message: str, *, advice: str = "") -> None:
        super().__init__(message)
        self.advice = advice


class ConnectError(HypervisorError):
    """No connection to libvirt could be opened."""

    reason = "connect"


class ConnectionLostError(HypervisorError):
    """The connection to libvirt broke while it was in use."""

    reason = "connection_lost"


class NoAnswerError(HypervisorError):
    """A call was not answered in time. The answer may still come."""

    reason = "timeout"


class BusyError(NoAnswerError):
    """libvirt's wait for a guest's job timed out: another client holds it (libvirt code 68)."""


class DaemonError(HypervisorError):
    """The connected daemon cannot reach another daemon of libvirt (modular daemons)."""

    reason = "daemon"


class DeniedError(HypervisorError):
    """libvirt or one of its daemons denies the call (libvirt code 88, or a socket's mode)."""

    reason = "denied"


class ThreadLimitError(HypervisorError):
    """The process may not start another thread, so a call could not be made."""

    reason = "internal"


class UnsupportedError(HypervisorError):
    """The hypervisor's libvirt driver does not implement the call (libvirt codes 3, 74 and 84)."""

    reason = "unsupported"


class GoneError(HypervisorError):
    """A domain or pool disappeared after it was listed (libvirt codes 42, 49 and 55)."""

    reason = "gone"

"""Errors that cross module borders: each carries the `reason` under which it is counted."""

from __future__ import annotations


class ExporterError(Exception):
    """Anything this exporter refuses or fails at, with a message fit for one line of a log."""


class ConfigError(ExporterError):
    """The configuration is wrong.

    `mistakes` holds one finished line for each mistake: where, what was found, what is wanted.
    """

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class LibvirtMissingError(ExporterError):
    """libvirt's library, or its Python binding, is not there or cannot be loaded."""


class HypervisorError(ExporterError):
    """A hypervisor could not be read; `reason` is the label of hypervisor_refresh_errors_total.

    `advice` is what to do about this one; empty where the reason alone says it.
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
    """A call was not answered in time; it may still be."""

    reason = "timeout"


class BusyError(NoAnswerError):
    """libvirt gave up waiting for a guest's job, which somebody else holds (libvirt code 68)."""


class DaemonError(HypervisorError):
    """Another daemon of libvirt cannot be reached, which the one connected to asks (modular daemons)."""

    reason = "daemon"


class DeniedError(HypervisorError):
    """libvirt, or a daemon of it, denies the call (libvirt code 88, or a socket's mode)."""

    reason = "denied"


class UnsupportedError(HypervisorError):
    """The hypervisor's libvirt driver does not implement the call (libvirt codes 3, 74 and 84)."""

    reason = "unsupported"


class GoneError(HypervisorError):
    """A domain or pool vanished between being listed and being read (libvirt codes 42, 49 and 55)."""

    reason = "gone"

"""Calls of libvirt that fail although the connection is well. Each costs only what depends on it."""

from __future__ import annotations

from exporter.errors import HypervisorError, UnsupportedError
from exporter.model import Problem, Severity


def make_failed_call(call: str, error: HypervisorError) -> Problem:
    """Return the problem of a call that failed: a note if this hypervisor does not have it.

    :param call: libvirt's name of the function
    """
    severity = Severity.NOTE if isinstance(error, UnsupportedError) else Severity.ERROR
    return Problem(
        severity=severity, reason=error.reason, subject=call, message=f"{call}: {error}", advice=error.advice
    )

"""Notes on what of the guests' use cannot be read: no error of the hypervisor, but a property of its host."""

from __future__ import annotations

import os

from exporter.model import Problem, Severity
from exporter.virt.masks import Sandbox

REASON = "cgroups"


def make_note(subject: str, message: str, advice: str = "") -> Problem:
    """Return a note.

    :param advice: the setting that cures it, as a sentence without a full stop
    """
    return Problem(severity=Severity.NOTE, reason=REASON, subject=subject, message=message, advice=advice)


def explain_threads(sandbox: Sandbox, *, are_hidden: bool, are_silent: bool) -> tuple[str, str] | None:
    """Return that it is not known how long vCPUs wait for CPUs, and the cure; None if guests just end.

    :param are_hidden: whether their threads have no numbers here: a container has its own
    :param are_silent: whether a thread is seen, and the kernel tells nothing of it
    """
    message = (
        "how long the guests' vCPUs wait for CPUs is not known, as this process does not see their threads"
    )
    if are_hidden:
        return message, "Run the container with the host's processes (--pid=host, hostPID: true)"
    # Others' processes are not there (hidepid=2), or may not be entered (hidepid=1).
    if not os.access(sandbox.root / "proc/1", os.X_OK):
        if sandbox.is_service:
            return (
                message,
                "Install the drop-in guests/unit.conf (docs/guests.md): the unit hides them (ProtectProc=)",
            )
        return message, "Mount /proc without hidepid"
    if not are_silent:
        return None
    message = "how long the guests' vCPUs wait for CPUs is not known, as the kernel does not count it"
    return message, "Set the kernel's option task_delayacct (sysctl kernel.task_delayacct=1)"

"""Notes on what of the guests' use cannot be read: no error of the hypervisor, but a property of its host."""

from __future__ import annotations

from exporter.model import Problem, Severity

REASON = "cgroups"


def make_note(subject: str, message: str, advice: str = "") -> Problem:
    """Return a note.

    :param advice: the setting that cures it, as a sentence without a full stop
    """
    return Problem(severity=Severity.NOTE, reason=REASON, subject=subject, message=message, advice=advice)

"""Problems: what is wrong with one hypervisor. Counted each time; logged when it begins and when it ends."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Set

from exporter.errors import HypervisorError
from exporter.model import Problem, Severity

log = logging.getLogger(__name__)

# Every value of the label `reason`, so that each counter exists with 0 before its first increment.
REASONS = (
    "capabilities",
    "connect",
    "connection_lost",
    "cpu_set",
    "daemon",
    "denied",
    "device",
    "domains",
    "duplicate",
    "gone",
    "guest_xml",
    "hostname",
    "incomplete",
    "internal",
    "libvirt",
    "metadata",
    "storage",
    "timeout",
    "unsupported",
)

# HostNames finds this problem among all targets. So a refresh cannot end it.
_DUPLICATE = ("duplicate", "")


class Problems:
    """The problems of one hypervisor, by reason and subject.

    :ivar target: what the hypervisor is called in the log
    """

    def __init__(self, *, target: str) -> None:
        self.target = target
        self._errors = Counter(dict.fromkeys(REASONS, 0))
        self._problems: dict[tuple[str, str], Problem] = {}
        # Problems whose start was logged and whose end was not yet.
        self._logged: dict[tuple[str, str], Problem] = {}

    def get(self) -> tuple[Problem, ...]:
        """Return what is wrong now."""
        return tuple(self._problems.values())

    def get_errors(self) -> Mapping[str, int]:
        """Return how many refreshes had an error, by reason."""
        return dict(self._errors)

    def list_reasons(self) -> list[str]:
        """Return the reasons of what is wrong now."""
        return sorted({reason for reason, _subject in self._problems})

    def note_failure(self, error: Exception) -> None:
        """Record that a refresh failed. A failed refresh ends no other problem."""
        is_expected = isinstance(error, HypervisorError)
        reason = error.reason if isinstance(error, HypervisorError) else "internal"
        message = str(error) if is_expected else f"unexpected {type(error).__name__}: {error}"
        advice = error.advice if isinstance(error, HypervisorError) else ""
        problem = Problem(severity=Severity.FATAL, reason=reason, subject="", message=message, advice=advice)
        if not is_expected and (reason, "") not in self._problems:
            log.error("a defect of this program", exc_info=error, extra={"target": self.target})
        self._update((problem,))

    def note_found(self, problems: Iterable[Problem]) -> None:
        """Record the problems that a refresh found. Problems that it did not find have ended."""
        self._update(problems)
        self._log_end(self._logged.keys() - self._problems.keys() - {_DUPLICATE})

    def note_late(self) -> None:
        """Record that a scrape could not wait for the refresh."""
        self._errors["timeout"] += 1
        self._problems["timeout", ""] = Problem(
            severity=Severity.FATAL,
            reason="timeout",
            subject="",
            message="no answer within the scrape's deadline; the refresh goes on; the last numbers are shown",
        )
        self._log_begin(self._problems.values())

    def note_duplicate(self, problem: Problem | None, *, is_counted: bool) -> None:
        """Record that another target is shown instead of this one (None: not any more).

        :param is_counted: whether it is counted as an error: once for each refresh, not for each scrape
        """
        if problem is None:
            self._log_end({_DUPLICATE})
        else:
            self._errors[problem.reason] += is_counted
            self._log_begin([problem])

    def _update(self, problems: Iterable[Problem]) -> None:
        found = tuple(problems)
        self._errors.update({problem.reason for problem in found if problem.severity is not Severity.NOTE})
        self._problems = {(problem.reason, problem.subject): problem for problem in found}
        self._log_begin(self._problems.values())

    def _log_begin(self, problems: Iterable[Problem]) -> None:
        """Log new problems, once."""
        for problem in problems:
            key = (problem.reason, problem.subject)
            if key not in self._logged:
                level = logging.WARNING if problem.severity is Severity.NOTE else logging.ERROR
                # Message and advice are two sentences in the log; the page shows them separately.
                text = f"{problem.message}. {problem.advice}" if problem.advice else problem.message
                log.log(level, "%s", text, extra={"target": self.target, "reason": problem.reason})
            self._logged[key] = problem

    def _log_end(self, keys: Set[tuple[str, str]]) -> None:
        """Log each problem's end, once. A failed refresh ends no problem."""
        for key in [key for key in self._logged if key in keys]:
            problem = self._logged.pop(key)
            extra = {"target": self.target, "reason": problem.reason, "was": problem.message}
            log.info("no longer a problem", extra=extra)


def make_duplicate(hostname: str | None, owner: str) -> Problem:
    """Return the problem of a target that is not shown, because another is shown by its host name."""
    message = f"host name {hostname} belongs to target {owner}; this target is not shown"
    return Problem(severity=Severity.FATAL, reason="duplicate", subject="", message=message)


def make_unreadable(source: str, error: Exception, *, severity: Severity = Severity.ERROR) -> Problem:
    """Return the problem of a source that cannot be read."""
    if isinstance(error, HypervisorError):
        reason, text, advice = error.reason, str(error), error.advice
    else:
        reason, text, advice = "internal", f"unexpected {type(error).__name__}: {error}", ""
    message = f"{source} cannot be read: {text}"
    return Problem(severity=severity, reason=reason, subject=source, message=message, advice=advice)

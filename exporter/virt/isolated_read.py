"""IsolatedRead: a read that costs its own source only, whatever it raises."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from exporter.attempt import Failure, attempt
from exporter.compute.problems import make_unreadable
from exporter.errors import HypervisorError
from exporter.model import Problem

log = logging.getLogger(__name__)

T = TypeVar("T")


class IsolatedRead:
    """Makes the read of a source that asks the hypervisor nothing, and keeps why it failed. Not thread-safe.

    Without it, an error that nobody expects would fail the refresh, and cost the host all its numbers.

    :param source: the name of the source
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._problem: Problem | None = None

    def make(self, read: Callable[[], T]) -> T | None:
        """Return what was read; None if it raises. A defect is logged when it comes, with its traceback."""
        before, self._problem = self._problem, None
        outcome = attempt(read)
        if not isinstance(outcome, Failure):
            return outcome.value
        error = outcome.error
        self._problem = make_unreadable(self._source, error)
        if not isinstance(error, HypervisorError) and before is None:
            log.error("a defect of this program", exc_info=error, extra={"job": self._source})
        return None

    def get_problems(self) -> Sequence[Problem]:
        """Return why the last read failed."""
        return () if self._problem is None else (self._problem,)

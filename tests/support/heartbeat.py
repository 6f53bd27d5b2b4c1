"""A line while tests take long, so that it is clear that the run does not hang."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import pytest

_SECONDS = 25


class Heartbeat:
    """A pytest plugin. It names the current tests if nothing was printed for some time.

    With parallel workers it runs in the controller, which gets the reports of all workers.

    :param seconds: for how long nothing is printed
    :param clock: monotonic seconds
    """

    def __init__(self, *, seconds: float = _SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._output = os.dup(1)  # while a test runs, pytest keeps what is written to standard output
        self._seconds = seconds
        self._clock = clock
        self._printed = self._quiet_since = clock()
        self._started: dict[str, float] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def pytest_sessionstart(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Record a running test."""
        with self._lock:
            self._started[nodeid] = self._clock()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Record that a test has ended."""
        self._forget(nodeid)

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str) -> None:
        """Record that a worker crashed in this test."""
        self._forget(crashitem)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record that something was printed."""
        if report.when == "call" or report.outcome != "passed":
            self._printed = self._clock()

    def pytest_sessionfinish(self) -> None:
        """Watch no longer."""
        self._ended.set()
        self._thread.join()
        os.close(self._output)

    def _forget(self, nodeid: str) -> None:
        with self._lock:
            self._started.pop(nodeid, None)
            self._quiet_since = self._clock()

    def _run(self) -> None:
        while not self._ended.wait(self._seconds / 25):
            now = self._clock()
            if now - self._printed >= self._seconds:
                self._printed = now
                os.write(self._output, f"\n    at it for {self._describe(now)}\n".encode())

    def _describe(self, now: float) -> str:
        """Return the running tests, the oldest first: "31 s: tests/…; 4 s: tests/…"."""
        with self._lock:
            started = dict(self._started) or {"no test (it collects them, or cleans up)": self._quiet_since}
        return "; ".join(f"{now - since:.0f} s: {name}" for name, since in started.items())

"""A sign of life while tests take long, so that nobody has to wonder whether the run hangs."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import pytest

_SECONDS = 25


class Heartbeat:
    """A plugin of pytest's that names the tests that it is at when nothing was printed for long.

    Where tests run in workers, it is the controller's, which is told of all of them.

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
        """Note what runs now."""
        with self._lock:
            self._started[nodeid] = self._clock()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Note what does not run any more."""
        self._forget(nodeid)

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str) -> None:
        """Note that a worker ended in the midst of this test."""
        self._forget(crashitem)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note that something was printed."""
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
        """Return what runs, what began first first: "31 s: tests/…; 4 s: tests/…"."""
        with self._lock:
            started = dict(self._started) or {"no test (it collects them, or cleans up)": self._quiet_since}
        return "; ".join(f"{now - since:.0f} s: {name}" for name, since in started.items())

"""A sign of life while one test takes long, so that nobody has to wonder whether the run hangs."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

_SECONDS = 25


class Heartbeat:
    """A plugin of pytest's that names the test that it is at when nothing was printed for long.

    :param seconds: for how long nothing is printed
    :param clock: monotonic seconds
    """

    def __init__(self, *, seconds: float = _SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._output = os.dup(1)  # while a test runs, pytest keeps what is written to standard output
        self._seconds = seconds
        self._clock = clock
        self._test = "collecting"
        self._printed = self._started = self._clock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def pytest_sessionstart(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Note what runs now."""
        self._test = nodeid
        self._printed = self._started = self._clock()

    def pytest_runtest_logreport(self) -> None:
        """Note that something was printed."""
        self._printed = self._clock()

    def pytest_sessionfinish(self) -> None:
        """Watch no longer."""
        self._ended.set()
        self._thread.join()
        os.close(self._output)

    def _run(self) -> None:
        while not self._ended.wait(self._seconds / 25):
            now = self._clock()
            if now - self._printed >= self._seconds:
                self._printed = now
                os.write(
                    self._output, f"\n    at it for {now - self._started:.0f} s: {self._test}\n".encode()
                )

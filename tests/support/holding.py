"""Holding threads up in a test, so that nothing is left of them when they are let go."""

from __future__ import annotations

import threading
import time

_TIMEOUT_SECONDS = 20
_POLL_SECONDS = 0.002


class Hold:
    """Blocks every thread that enters, until it is released.

    The release also waits until the calls of these threads have ended: otherwise a test might or might not
    see their effects. So only threads may enter whose calls end soon after their release. Such a thread may
    be idle then, which its name says (exporter.attempt.Threads).

    :ivar threads: all threads that are blocked
    """

    def __init__(self, *, timeout: float = _TIMEOUT_SECONDS) -> None:
        self.threads: list[threading.Thread] = []
        self._timeout = timeout
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._entered: list[tuple[threading.Thread, str]] = []

    def enter(self) -> None:
        """Register this thread for the join. Called before a test can see that the thread came this far."""
        thread = threading.current_thread()
        with self._lock:
            if not self._is_over.is_set():
                self.threads.append(thread)
                self._entered.append((thread, thread.name))

    def wait(self) -> None:
        """Wait for the release.

        :raises TimeoutError: if there is none
        """
        is_over = self._is_over.wait(self._timeout)
        with self._lock:
            if threading.current_thread() in self.threads:
                self.threads.remove(threading.current_thread())
        if not is_over:
            raise TimeoutError(f"held up and not let go for {self._timeout:g} s")

    def let_go(self) -> None:
        """Let the threads go on."""
        with self._lock:
            self._is_over.set()

    def join(self) -> None:
        """Wait until the calls of all threads that were blocked have ended.

        :raises TimeoutError: if one does not end
        """
        deadline = time.monotonic() + self._timeout
        for thread, name in self._entered:
            while thread.is_alive() and thread.name == name:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"thread {name!r} was let go and has not ended in {self._timeout:g} s")
                thread.join(_POLL_SECONDS)

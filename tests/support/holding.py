"""Block threads in a test, and join them when they are released."""

from __future__ import annotations

import threading

_TIMEOUT_SECONDS = 20


class Hold:
    """Blocks every thread that enters, until it is released.

    The release also joins these threads: otherwise a test might or might not see their effects. So only
    threads may enter that end soon after their release.

    :ivar threads: all threads that are or were blocked
    """

    def __init__(self, *, timeout: float = _TIMEOUT_SECONDS) -> None:
        self.threads: list[threading.Thread] = []
        self._timeout = timeout
        self._lock = threading.Lock()
        self._is_over = threading.Event()

    def enter(self) -> None:
        """Register this thread for the join. Called before a test can see that the thread came this far."""
        with self._lock:
            if not self._is_over.is_set():
                self.threads.append(threading.current_thread())

    def wait(self) -> None:
        """Wait for the release.

        :raises TimeoutError: if there is none
        """
        if not self._is_over.wait(self._timeout):
            raise TimeoutError(f"held up and not let go for {self._timeout:g} s")

    def let_go(self) -> None:
        """Let the threads go on."""
        with self._lock:
            self._is_over.set()

    def join(self) -> None:
        """Wait until all blocked threads have ended.

        :raises TimeoutError: if one does not end
        """
        for thread in self.threads:
            thread.join(self._timeout)
            if thread.is_alive():
                name = thread.name
                raise TimeoutError(f"thread {name!r} was let go and has not ended in {self._timeout:g} s")

"""Holding threads up in a test, so that nothing is left of them when they are let go."""

from __future__ import annotations

import threading

_PATIENCE_SECONDS = 20


class Hold:
    """Holds up every thread that enters, until it is let go.

    Whoever lets go then joins these threads: a test that goes on before they have ended sees what they did,
    or does not see it, as luck has it. So only threads may enter that end soon after they were let go.

    :ivar threads: those that are held up, or were
    """

    def __init__(self, *, patience: float = _PATIENCE_SECONDS) -> None:
        self.threads: list[threading.Thread] = []
        self._patience = patience
        self._lock = threading.Lock()
        self._is_over = threading.Event()

    def enter(self) -> None:
        """Be one of those that are joined; to be called before a test can see that the thread came so far."""
        with self._lock:
            if not self._is_over.is_set():
                self.threads.append(threading.current_thread())

    def wait(self) -> None:
        """Wait until it is let go.

        :raises TimeoutError: when nobody does that
        """
        if not self._is_over.wait(self._patience):
            raise TimeoutError(f"held up and not let go for {self._patience:g} s")

    def let_go(self) -> None:
        """Let the threads go on."""
        with self._lock:
            self._is_over.set()

    def join(self) -> None:
        """Wait until all threads have ended that were held up.

        :raises TimeoutError: when one does not end
        """
        for thread in self.threads:
            thread.join(self._patience)
            if thread.is_alive():
                name = thread.name
                raise TimeoutError(f"thread {name!r} was let go and has not ended in {self._patience:g} s")

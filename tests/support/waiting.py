"""Waiting for something to become true, and no longer than it may take."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_POLL_SECONDS = 0.02
# To start a program takes half a second of CPU time. On a busy machine it gets a tenth of a CPU.
_PATIENCE_SECONDS = 60.0
# Who has a line to write has written it within this time, even on a busy machine.
_WRITE_SECONDS = 0.1
_MAX_WRITE_SECONDS = 2.0


def wait_until(condition: Callable[[], T], what: str, *, seconds: float = _PATIENCE_SECONDS) -> T:
    """Return the first true value that the condition returns.

    :param what: what is waited for, to follow "waited in vain for"
    :raises TimeoutError: when it is still false after so many seconds
    """
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited in vain for {what}, {seconds:g} s")
        time.sleep(_POLL_SECONDS)
    return value


def read_settled(log: Path) -> str:
    """Return what a log has when no more lines come. The exporter writes it in a thread of its own."""
    deadline = time.monotonic() + _MAX_WRITE_SECONDS
    before, text = None, log.read_text(errors="replace")
    while text != before and time.monotonic() < deadline:
        time.sleep(_WRITE_SECONDS)
        before, text = text, log.read_text(errors="replace")
    return text

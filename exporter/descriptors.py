"""File descriptors: how many the process may have, and whether there are enough to open a connection.

GLib, which libvirt uses, ends the process (SIGTRAP) when it finds none for a new connection. So connections
are opened only while there are some to spare.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Condition

from exporter.errors import ExporterError

MAX_OPEN_FILES = 65536
# Measured with libvirt 9.0: --once has 10 without a connection. Each hypervisor that a daemon answers for has
# three connections of two descriptors each: the list of domains, other calls, node devices.
START_DESCRIPTORS = 10
HYPERVISOR_DESCRIPTORS = 6
# To open a connection over ssh takes this many for a moment: two pairs of sockets and pipes, and those above.
OPENING_DESCRIPTORS = 6
# To serve at all: listening sockets, and some clients.
SERVING_DESCRIPTORS = 20
# How long an opening waits for those under way to give back what they needed for a moment.
WAIT_SECONDS = 2.0
_RAISE = "raise the hard limit (ulimit -Hn, or LimitNOFILE= in a unit of systemd)"


class DescriptorsError(ExporterError):
    """There are too few file descriptors."""


def raise_limit() -> int:
    """Raise the soft limit of file descriptors to the hard one, and return it: up to MAX_OPEN_FILES.

    The usual soft limit of 1024 is for programs that use select(2). This one does not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # forbidden, as by systemd's SystemCallFilter=~@resources
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return get_limit()


def get_limit() -> int:
    """Return the limit in force; MAX_OPEN_FILES if there is none, or a higher one."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_OPEN_FILES if soft == resource.RLIM_INFINITY else min(soft, MAX_OPEN_FILES)


def check_limit(limit: int, *, hypervisors: int, is_serving: bool) -> str:
    """Check that the limit is enough to read so many hypervisors.

    :param hypervisors: how many have a daemon to connect to
    :return: a warning if it may be too low while serving; empty if it is enough
    :raises DescriptorsError: if it is too low for a single scrape, or to serve even one hypervisor
    """
    needed = count_needed(hypervisors) + OPENING_DESCRIPTORS + (SERVING_DESCRIPTORS if is_serving else 0)
    if limit >= needed:
        return ""
    purpose = f" for {hypervisors} hypervisors that have a daemon" if hypervisors else ""
    shortage = f"too few file descriptors: {limit} are allowed, and {needed} are needed{purpose}: {_RAISE}"
    if is_serving and hypervisors > 1:
        check_limit(limit, hypervisors=1, is_serving=True)
        return shortage
    raise DescriptorsError(shortage)


def count_needed(hypervisors: int) -> int:
    """Return how many descriptors are in use when so many hypervisors are connected."""
    return START_DESCRIPTORS + HYPERVISOR_DESCRIPTORS * hypervisors


class Descriptors:
    """The process's free file descriptors, shared by all that open connections. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._changed = Condition()
        self._clock = clock
        self._started: list[float] = []

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """Open a connection in this block. It may have to wait a moment for others that are being opened.

        :raises DescriptorsError: if that might use the last descriptors
        """
        with self._changed:
            if not self._changed.wait_for(self._has_room, timeout=WAIT_SECONDS):
                raise DescriptorsError(
                    f"no file descriptor is free for another connection: {get_limit()} are allowed,"
                    f" and nearly all are in use: {_RAISE}"
                )
            started = self._clock()
            self._started.append(started)
        try:
            yield
        finally:
            with self._changed:
                self._started.remove(started)
                self._changed.notify_all()

    def _has_room(self) -> bool:
        """Whether there is room for one more, beside those that have just begun.

        An opening that takes longer, as it gets no answer, has long given back what it needed for a moment.
        """
        used, now = _count_open(), self._clock()
        beginning = sum(now - each < WAIT_SECONDS for each in self._started)
        return used is not None and get_limit() - used >= (beginning + 1) * OPENING_DESCRIPTORS


def _count_open() -> int | None:
    """Return how many descriptors are open; None if there is not even one left to look."""
    try:
        return len(os.listdir("/proc/self/fd")) - 1  # noqa: PTH208 # Path.iterdir() takes three times as long
    except OSError:
        return None

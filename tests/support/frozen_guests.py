"""Guests that do not answer, and what others do to them meanwhile.

Each of these is a context manager: the guest is stopped in it, and goes on at its end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import libvirt

from tests.support.libvirtd import LibvirtDaemon
from tests.support.waiting import wait_until

_MAX_WORKERS = 20  # libvirtd's own bound of ordinary workers (libvirtd.conf, max_workers)
_ENDS_SECONDS = 60


@contextlib.contextmanager
def frozen(libvirtd: LibvirtDaemon, *names: str) -> Iterator[None]:
    """Stop guests. No client asks them anything or holds their jobs."""
    with stopped(*(libvirtd.guest_pid(name) for name in names)):
        yield


@contextlib.contextmanager
def frozen_with_jobs_held(libvirtd: LibvirtDaemon, *names: str) -> Iterator[None]:
    """Stop guests. In each, another client's `virsh domblkinfo` hangs and holds the guest's job."""
    with frozen(libvirtd, *names):
        calls = [_Call(_domain(libvirtd, name).blockInfo, "vda") for name in names]
        for name in names:
            wait_until(lambda name=name: is_job_held(libvirtd, name), f"the job of {name} to be held")
        yield
    _end(*calls)


@contextlib.contextmanager
def frozen_while_changed(libvirtd: LibvirtDaemon, name: str, device: str) -> Iterator[None]:
    """Stop a guest into which another client plugs a device: it is there when the guest goes on."""
    with frozen(libvirtd, name):
        call = _Call(_domain(libvirtd, name).attachDevice, device)
        wait_until(lambda: is_job_held(libvirtd, name), f"the job of {name} to be held")
        yield
    _end(call)


@contextlib.contextmanager
def being_destroyed(libvirtd: LibvirtDaemon, name: str) -> Iterator[threading.Thread]:
    """Stop a guest that is destroyed: libvirtd holds the lock of its domain until it is dead, 10 s later.

    :returns: the thread that destroys it; it ends with the guest
    """
    pid = libvirtd.guest_pid(name)
    with stopped(pid):
        call = _Call(_domain(libvirtd, name).destroy)
        wait_until(lambda: is_to_be_terminated(pid), "libvirtd to end the guest")
        yield call.thread
    _end(call)


@contextlib.contextmanager
def all_workers_taken(libvirtd: LibvirtDaemon, name: str) -> Iterator[None]:
    """Stop a guest in which other clients' calls hang, one for each of libvirtd's ordinary workers."""
    with frozen(libvirtd, name):
        calls = [_Call(_domain(libvirtd, name).blockInfo, "vda") for _ in range(_MAX_WORKERS)]
        # One more call that waits for a worker: this shows that the pool is full.
        domain = _domain(libvirtd, name)
        wait_until(lambda: not _answers(domain.connect().getCapabilities), "all workers to be taken")
        yield
    _end(*calls)


@contextlib.contextmanager
def migrating(
    source: LibvirtDaemon, destination: LibvirtDaemon, name: str, *, stopped: LibvirtDaemon
) -> Iterator[None]:
    """Migrate a guest and stop it half way; it goes on and arrives at the end.

    :param stopped: the side on which its QEMU is stopped
    """
    domain, target = _domain(source, name), libvirt.open(destination.uri)
    where = {libvirt.VIR_MIGRATE_PARAM_URI: "tcp://127.0.0.1", libvirt.VIR_MIGRATE_PARAM_BANDWIDTH: 1}
    # The two share the images, though they do not know it.
    call = _Call(domain.migrate3, target, where, libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_UNSAFE)
    wait_until(lambda: _has_guest(destination, name), "the guest to be there on the other side")
    with frozen(stopped, name):
        yield
    _end(call)


@contextlib.contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """Stop processes where they stand."""
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        # On a busy machine this takes time. A SIGTERM that comes meanwhile would be handled first.
        wait_until(lambda: all(_is_stopped(pid) for pid in pids), "processes to be stopped")
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def is_job_held(libvirtd: LibvirtDaemon, name: str) -> bool:
    """Whether a call waits for the guest or works on it. This call itself does not wait."""
    state, _, _ = libvirtd.connection.lookupByName(name).controlInfo()
    return bool(state != libvirt.VIR_DOMAIN_CONTROL_OK)


def is_to_be_terminated(pid: int) -> bool:
    """Whether a stopped process has a pending SIGTERM."""
    status = Path(f"/proc/{pid}/status").read_text()
    pending = int(status.partition("ShdPnd:")[2].split()[0], 16)
    return bool(pending & 1 << (signal.SIGTERM - 1))


class _Call:
    """A call that hangs, in its own thread. An error or an answer ends it."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self._function = function
        self._arguments = arguments
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        with contextlib.suppress(libvirt.libvirtError):
            self._function(*self._arguments)


def _end(*calls: _Call) -> None:
    """Wait for the end of calls that nothing keeps waiting any more."""
    for call in calls:
        call.thread.join(_ENDS_SECONDS)
        assert not call.thread.is_alive(), "a call hangs though its guest goes on"


def _answers(function: Callable[[], object]) -> bool:
    call = _Call(function)
    call.thread.join(0.5)
    return not call.thread.is_alive()


def _domain(libvirtd: LibvirtDaemon, name: str) -> Any:
    """Return a guest on its own connection. It plays another client, and it may hang."""
    return libvirt.open(libvirtd.uri).lookupByName(name)


def _has_guest(libvirtd: LibvirtDaemon, name: str) -> bool:
    try:
        return libvirtd.guest_pid(name) > 0
    except (FileNotFoundError, ValueError):
        return False


def _is_stopped(pid: int) -> bool:
    """Whether all threads of a process are stopped: their state comes after their name in parentheses."""
    stats = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)

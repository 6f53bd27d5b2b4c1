"""Measure what libvirt's calls wait for, with a libvirtd and two guests. One guest is stopped on purpose.

usage: python -m tests.support.call_waits

It prints the table of docs/decisions.md for this machine's libvirt. tests/faults/test_which_calls_wait.py
compares the two. It needs root and takes half a minute.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import libvirt

from tests.support.frozen_guests import is_job_held, is_to_be_terminated, stopped
from tests.support.guests import GIB, file_disk, guest_xml, make_qcow2
from tests.support.libvirtd import LibvirtDaemon
from tests.support.waiting import wait_until

# A call that waits for nothing takes a few milliseconds, on a busy machine a hundred.
_PATIENCE_SECONDS = 1.5

# The calls are made at the same time if possible, so each waiting call needs a worker of libvirtd. All
# workers exist from the start: libvirtd 9.0 starts too few if many calls come at once.
_ENOUGH_WORKERS = """listen_tls = 0
min_workers = 80
max_workers = 80
prio_workers = 40
max_clients = 400
"""
_MAX_WORKERS = 20  # libvirtd's own bound
_FEW_WORKERS = f"listen_tls = 0\nmin_workers = {_MAX_WORKERS}\nmax_clients = 400\n"

_NOWAIT = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
_CPU = "<cpu><arch>x86_64</arch><model>qemu64</model></cpu>"


@dataclass(frozen=True)
class Subject:
    """The objects for a call, on a connection of their own. They are looked up before anything is stopped."""

    uri: str
    connection: Any
    guest: Any
    other: Any
    pool: Any
    volume: Any
    path: str


def _stats(group: int, flags: int = 0) -> Callable[[Subject], object]:
    return lambda on: on.connection.getAllDomainStats(group, flags)


# By the name in the table. Each call is made on the stopped guest, unless its name says otherwise.
CALLS: Mapping[str, Callable[[Subject], object]] = {
    "openReadOnly, close": lambda on: libvirt.openReadOnly(on.uri).close(),
    "isAlive": lambda on: on.connection.isAlive(),
    "getLibVersion": lambda on: on.connection.getLibVersion(),
    "getVersion": lambda on: on.connection.getVersion(),
    "getHostname": lambda on: on.connection.getHostname(),
    "getInfo": lambda on: on.connection.getInfo(),
    "getMemoryStats": lambda on: on.connection.getMemoryStats(-1),
    "getCellsFreeMemory": lambda on: on.connection.getCellsFreeMemory(0, 1),
    "getFreePages": lambda on: on.connection.getFreePages([4], 0, 1),
    "getCPUMap": lambda on: on.connection.getCPUMap(),
    "getCapabilities": lambda on: on.connection.getCapabilities(),
    "baselineCPU": lambda on: on.connection.baselineCPU([_CPU]),
    "listAllDevices": lambda on: on.connection.listAllDevices(),
    "listAllStoragePools": lambda on: on.connection.listAllStoragePools(),
    "storagePoolLookupByName": lambda on: on.connection.storagePoolLookupByName("images"),
    "pool.info": lambda on: on.pool.info(),
    "storageVolLookupByPath": lambda on: on.connection.storageVolLookupByPath(on.path),
    "vol.info": lambda on: on.volume.info(),
    "numOfDomains": lambda on: on.connection.numOfDomains(),
    "listAllDomains": lambda on: on.connection.listAllDomains(),
    "getAllDomainStats STATE": _stats(libvirt.VIR_DOMAIN_STATS_STATE),
    "getAllDomainStats VCPU NOWAIT": _stats(libvirt.VIR_DOMAIN_STATS_VCPU, _NOWAIT),
    "getAllDomainStats BALLOON NOWAIT": _stats(libvirt.VIR_DOMAIN_STATS_BALLOON, _NOWAIT),
    "getAllDomainStats BLOCK NOWAIT": _stats(libvirt.VIR_DOMAIN_STATS_BLOCK, _NOWAIT),
    "lookupByUUIDString": lambda on: on.connection.lookupByUUIDString(on.guest.UUIDString()),
    "state": lambda on: on.guest.state(),
    "controlInfo": lambda on: on.guest.controlInfo(),
    "info": lambda on: on.guest.info(),
    "vcpus": lambda on: on.guest.vcpus(),
    "XMLDesc": lambda on: on.guest.XMLDesc(),
    "XMLDesc INACTIVE": lambda on: on.guest.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE),
    "blockInfo": lambda on: on.guest.blockInfo("vda"),
    "another guest's state": lambda on: on.other.state(),
    "another guest's info": lambda on: on.other.info(),
    "another guest's XMLDesc": lambda on: on.other.XMLDesc(),
    "another guest's blockInfo": lambda on: on.other.blockInfo("vda"),
}


class _Attempt:
    """One call in its own thread. An error is an answer too."""

    def __init__(self, call: str, subject: Subject) -> None:
        self._call = call
        self._subject = subject
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._started = time.monotonic()
        self._thread.start()

    def waits(self) -> bool:
        """Whether it has no answer after enough time."""
        self._thread.join(max(0.0, self._started + _PATIENCE_SECONDS - time.monotonic()))
        return self._thread.is_alive()

    def end(self) -> None:
        """Wait for its end, after everything that it could wait for is gone."""
        self._thread.join(30)
        assert not self._thread.is_alive(), f"{self._call} waits for something else"

    def _run(self) -> None:
        with contextlib.suppress(libvirt.libvirtError):
            CALLS[self._call](self._subject)


class Bench:
    """Two guests, `guest` and `other`, and the calls that are made while the first one is stopped.

    Each method except `close` returns the calls that wait, and leaves both guests running.
    """

    def __init__(self, libvirtd: LibvirtDaemon) -> None:
        self._libvirtd = libvirtd
        for name in ("guest", "other"):
            xml = guest_xml(name, disks=[file_disk(make_qcow2(libvirtd.images / name, GIB))])
            # Nova's guests have a balloon, so that statistics of it ask them.
            libvirtd.start_guest(xml.replace("<memballoon model='none'/>", "<memballoon model='virtio'/>"))
        libvirtd.define_pool("images", libvirtd.images).refresh()
        for call in CALLS:  # what libvirt does at the first time only is done then
            _make_at_once([_Attempt(call, self._subject())])

    def for_monitor(self) -> set[str]:
        """The guest is stopped, and no call holds its job."""
        waiting: set[str] = set()
        for call in CALLS:
            attempt = _Attempt(call, self._subject())
            with self._stopped():
                attempt.start()
                if attempt.waits():
                    waiting.add(call)
            attempt.end()
        return waiting

    def for_job(self) -> set[str]:
        """The guest is stopped, and another client's `virsh domblkinfo` holds its job."""
        attempts = self._prepare()
        holder = _Attempt("blockInfo", self._subject())
        with self._stopped():
            holder.start()
            wait_until(lambda: is_job_held(self._libvirtd, "guest"), "the guest's job to be held")
            waiting = _make_at_once(attempts.values())
        _end(holder, *attempts.values())
        return {call for call, attempt in attempts.items() if attempt in waiting}

    def for_lock(self) -> set[str]:
        """The guest is stopped, and libvirtd waits for its end after a destroy.

        While it waits, it holds the lock of the domain object.
        """
        attempts = self._prepare()
        domain = libvirt.open(self._libvirtd.uri).lookupByName("guest")
        pid = self._libvirtd.guest_pid("guest")
        destroyer = threading.Thread(target=domain.destroy, daemon=True)
        with self._stopped():
            destroyer.start()
            wait_until(lambda: is_to_be_terminated(pid), "libvirtd to end the guest")
            waiting = _make_at_once(attempts.values())
            assert destroyer.is_alive(), "the guest died though it was stopped"
        destroyer.join(30)
        _end(*attempts.values())
        domain.create()
        return {call for call, attempt in attempts.items() if attempt in waiting}

    def for_worker(self) -> set[str]:
        """Every ordinary worker hangs in another client's call; no call below asks the stopped guest."""
        attempts = {
            call: _Attempt(call, replace(on, guest=on.other)) for call, on in self._subjects().items()
        }
        hogs = [_Attempt("blockInfo", self._subject()) for _ in range(_MAX_WORKERS)]
        canary = _Attempt("another guest's blockInfo", self._subject())
        with self._stopped():
            _make_at_once(hogs)
            canary.start()
            assert canary.waits(), "a worker is left"
            waiting = _make_at_once(attempts.values())
        _end(*hogs, canary, *attempts.values())
        return {call for call, attempt in attempts.items() if attempt in waiting}

    def _prepare(self) -> dict[str, _Attempt]:
        return {call: _Attempt(call, on) for call, on in self._subjects().items()}

    def _subjects(self) -> dict[str, Subject]:
        return {call: self._subject() for call in CALLS}

    def _subject(self) -> Subject:
        uri = self._libvirtd.uri_read_only
        connection = libvirt.openReadOnly(uri)
        path = str(self._libvirtd.images / "guest")
        return Subject(
            uri=uri,
            connection=connection,
            guest=connection.lookupByName("guest"),
            other=connection.lookupByName("other"),
            pool=connection.storagePoolLookupByName("images"),
            volume=connection.storageVolLookupByPath(path),
            path=path,
        )

    def _stopped(self) -> AbstractContextManager[None]:
        return stopped(self._libvirtd.guest_pid("guest"))


def _make_at_once(attempts: Collection[_Attempt]) -> list[_Attempt]:
    """Make these calls and return those that wait."""
    for attempt in attempts:
        attempt.start()
    return [attempt for attempt in attempts if attempt.waits()]


def _end(*attempts: _Attempt) -> None:
    for attempt in attempts:
        attempt.end()


def measure(cache: Path | None = None) -> dict[str, dict[str, bool]]:
    """Return for each call whether it waits for each of monitor, job, lock and worker."""
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    with LibvirtDaemon(cache=cache, settings=_ENOUGH_WORKERS) as libvirtd:
        bench = Bench(libvirtd)
        waiting = {"monitor": bench.for_monitor(), "job": bench.for_job(), "lock": bench.for_lock()}
    with LibvirtDaemon(cache=cache, settings=_FEW_WORKERS) as libvirtd:
        waiting["worker"] = Bench(libvirtd).for_worker()
    return {call: {what: call in calls for what, calls in waiting.items()} for call in CALLS}


def main() -> None:
    """Print the table."""
    rows = measure()
    print(f"libvirt {libvirt.getVersion() // 1_000_000}.{libvirt.getVersion() // 1000 % 1000}\n")
    print("| call | monitor | job | lock | worker |\n|---|---|---|---|---|")
    for call, waits in rows.items():
        print(f"| {call} | " + " | ".join("waits" if each else "" for each in waits.values()) + " |")


if __name__ == "__main__":
    main()

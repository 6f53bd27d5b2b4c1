"""Guest events: how often something happened to guests that libvirt tells once, and no later read shows."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

# libvirt's virDomainEventID. These numbers, and all below, are part of its API and never change.
LIFECYCLE, WATCHDOG, IO_ERROR_REASON = 0, 3, 6

# virDomainEventType and the detail of each.
_STARTED, _SUSPENDED, _RESUMED, _STOPPED, _CRASHED = 2, 3, 4, 5, 8
_STARTED_MIGRATED = (_STARTED, 1)
_RESUMED_MIGRATED = (_RESUMED, 1)
_SUSPENDED_PAUSED = (_SUSPENDED, 0)
_STOPPED_MIGRATED = (_STOPPED, 3)

# What is counted, by the event of libvirt that tells it.
_TOLD_BY: Mapping[str, int] = MappingProxyType(
    {
        "io_error": IO_ERROR_REASON,
        "watchdog": WATCHDOG,
        "panic": LIFECYCLE,
        "migrated_in": LIFECYCLE,
        "migrated_out": LIFECYCLE,
    }
)


class GuestEvents:
    """Counts events of guests since the start, over all connections. Thread-safe.

    While there is no connection, libvirt tells nothing, so nothing is counted.

    A guest that migrates in begins with STARTED_MIGRATED and waits for its memory. It has arrived with
    RESUMED_MIGRATED, or with SUSPENDED_PAUSED if it was paused before. The hypervisor that it leaves tells
    RESUMED_MIGRATED too, if a migration ends without success (qemuMigrationDstPrepareActive,
    qemuMigrationDstComplete, qemuDomainRunningReasonToResumeEvent). So only who was seen to begin counts.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._arriving: set[str] = set()

    def get_counts(self) -> dict[str, int]:
        """Return the number of events by name; those that libvirt does not tell here are left out."""
        with self._lock:
            return dict(self._counts)

    def note_reconnected(self) -> None:
        """Forget which guests were arriving: nothing was heard of them meanwhile."""
        with self._lock:
            self._arriving.clear()

    def note_watched(self, told: Collection[int]) -> None:
        """Record which events this libvirt tells (virDomainEventID)."""
        with self._lock:
            for name, event in _TOLD_BY.items():
                if event in told:
                    self._counts.setdefault(name, 0)

    def note(self, uuid: str, event: int, details: Sequence[object]) -> None:
        """Count an event of a guest.

        :param event: libvirt's virDomainEventID
        :param details: what libvirt's callback gets beside the domain; of LIFECYCLE its type and detail
        """
        with self._lock:
            if event == IO_ERROR_REASON:
                self._count("io_error")
            elif event == WATCHDOG:
                self._count("watchdog")
            elif event == LIFECYCLE:
                self._note_lifecycle(uuid, tuple(details))

    def _note_lifecycle(self, uuid: str, change: tuple[object, ...]) -> None:
        if change == _STARTED_MIGRATED:
            self._arriving.add(uuid)
        elif change in (_RESUMED_MIGRATED, _SUSPENDED_PAUSED) and uuid in self._arriving:
            self._arriving.discard(uuid)
            self._count("migrated_in")
        elif change[0] == _STOPPED:
            self._arriving.discard(uuid)
            if change == _STOPPED_MIGRATED:
                self._count("migrated_out")
        elif change[0] == _CRASHED:  # PANICKED, or CRASHLOADED if the guest's own kernel dumps its memory
            self._count("panic")

    def _count(self, name: str) -> None:
        self._counts[name] = self._counts.get(name, 0) + 1

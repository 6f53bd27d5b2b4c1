"""Guests that are migrating in: another hypervisor has them still, and their claims too."""

from __future__ import annotations

from collections.abc import Iterable

from exporter.model import DomainRecord, DomainState
from exporter.state_reasons import get_reason

_STARTS = (DomainState.PAUSED, "starting_up")
_WAITS = (DomainState.PAUSED, "migration")
_IN_POSTCOPY = ((DomainState.RUNNING, "postcopy"), (DomainState.RUNNING, "postcopy_failed"))


class ArrivingGuests:
    """Tells which guests of a list are migrating in. Not thread-safe.

    At the destination a guest waits for its memory: paused, by migration (qemuMigrationDstPrepareActive). At
    the source it has the same state only while it is handed over, or during a migration that is not live. But
    there it was in another state before, under the same id. A guest in post-copy runs at the destination.

    A guest that an admin has paused has another reason, and so has one that starts up.
    """

    def __init__(self) -> None:
        self._settled: frozenset[tuple[str, int]] = frozenset()

    def find(self, domains: Iterable[DomainRecord]) -> frozenset[str]:
        """Return the UUIDs of the guests that are migrating in. Call it with each new list, in order."""
        active = {
            (domain.uuid, domain.id): (domain.state, get_reason(domain.state, domain.reason))
            for domain in domains
            if domain.is_active
        }
        # A guest that is migrating in is never in another state than these.
        settled = {run for run, state in active.items() if state not in (_STARTS, _WAITS, *_IN_POSTCOPY)}
        self._settled = (self._settled & active.keys()) | settled
        return frozenset(
            run[0]
            for run, state in active.items()
            if state in _IN_POSTCOPY or (state == _WAITS and run not in self._settled)
        )

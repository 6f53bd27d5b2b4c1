"""Guests that are migrating in: another hypervisor has them still, and their claims too."""

from __future__ import annotations

from collections.abc import Iterable

from exporter.model import DomainRecord, DomainState

# libvirt's virDomainPausedReason and virDomainRunningReason.
_PAUSED_MIGRATION, _PAUSED_STARTING_UP = 2, 11
_RUNNING_POSTCOPY, _RUNNING_POSTCOPY_FAILED = 10, 11


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
        active = [domain for domain in domains if domain.is_active]
        settled = self._settled.intersection((domain.uuid, domain.id) for domain in active)
        self._settled = settled.union((domain.uuid, domain.id) for domain in active if _is_settled(domain))
        return frozenset(
            domain.uuid
            for domain in active
            if _is_in_postcopy(domain)
            or (_is_waiting(domain) and (domain.uuid, domain.id) not in self._settled)
        )


def _is_settled(domain: DomainRecord) -> bool:
    """Whether a guest that is migrating in is never like this."""
    is_starting = domain.state is DomainState.PAUSED and domain.reason == _PAUSED_STARTING_UP
    return not (is_starting or _is_waiting(domain) or _is_in_postcopy(domain))


def _is_waiting(domain: DomainRecord) -> bool:
    return domain.state is DomainState.PAUSED and domain.reason == _PAUSED_MIGRATION


def _is_in_postcopy(domain: DomainRecord) -> bool:
    return domain.state is DomainState.RUNNING and domain.reason in (
        _RUNNING_POSTCOPY,
        _RUNNING_POSTCOPY_FAILED,
    )

"""Storage that several hypervisors share: each of them reports all of it, and the totals count it once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from exporter.model import StorageIdentity
from exporter.page.amount import Amount, merge_amounts, sum_amounts

GIB = 2**30

# Begins the id of storage of which nothing says that others may share it (exporter/virt/storage/identity.py).
OWN_PREFIX = "host:"


@dataclass(frozen=True, kw_only=True, slots=True)
class StorageUse:
    """What one hypervisor says of its storage.

    :ivar name: the hypervisor's
    :ivar identity: which storage it is; None if it is not known
    :ivar amount: the whole storage, with the growth and the claims of this hypervisor's guests
    :ivar slots: how many more guests of each flavor fit on the hypervisor
    :ivar requests: what one guest of each flavor claims of the disk, in GiB
    """

    name: str
    identity: StorageIdentity | None
    amount: Amount
    slots: Mapping[str, int] = field(default_factory=dict)
    requests: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedStorage:
    """A storage of at least two hypervisors.

    :ivar id: equal on all of them (the label `storage`)
    :ivar names: the hypervisors'
    :ivar amount: the storage once, with the growth and the claims of all their guests
    """

    id: str
    names: tuple[str, ...]
    amount: Amount
    uses: tuple[StorageUse, ...]

    def get_slots(self, flavor: str) -> list[tuple[int, str]]:
        """Return how many more guests fit on each hypervisor, none more than the storage has room for."""
        limit = self._get_limit(flavor)
        return [
            (use.slots[flavor] if limit is None else min(limit, use.slots[flavor]), use.name)
            for use in self.uses
            if flavor in use.slots
        ]

    def count_slots(self, flavor: str) -> int:
        """Return how many more guests fit on all of them together."""
        limit, slots = self._get_limit(flavor), sum(use.slots.get(flavor, 0) for use in self.uses)
        return slots if limit is None else min(limit, slots)

    def _get_limit(self, flavor: str) -> int | None:
        """Return how many guests the storage has room for.

        None if they claim nothing of it, or if it is not known.
        """
        request = max((use.requests.get(flavor, 0) for use in self.uses), default=0)
        left = self.amount.left
        return None if not request or left is None else max(0, left) // (request * GIB)


def is_own(identity: StorageIdentity) -> bool:
    """Return whether no other hypervisor can have this storage, as far as is known."""
    return identity.id.startswith(OWN_PREFIX)


def find_shared_storages(uses: Sequence[StorageUse]) -> tuple[SharedStorage, ...]:
    """Return the storages that at least two hypervisors have, by id."""
    by_id: dict[str, list[StorageUse]] = {}
    for use in uses:
        if use.identity is not None:
            by_id.setdefault(use.identity.id, []).append(use)
    return tuple(
        SharedStorage(
            id=id_,
            names=tuple(sorted(user.name for user in users)),
            amount=merge_amounts(user.amount for user in users),
            uses=tuple(users),
        )
        for id_, users in sorted(by_id.items())
        if len(users) > 1
    )


def list_own(uses: Iterable[StorageUse], shared: Iterable[SharedStorage]) -> list[StorageUse]:
    """Return what is no shared storage's."""
    shared_ids = {storage.id for storage in shared}
    return [use for use in uses if use.identity is None or use.identity.id not in shared_ids]


def sum_disks(uses: Sequence[StorageUse], shared: Sequence[SharedStorage]) -> Amount:
    """Return the disk of the fleet: each storage once."""
    own = (use.amount for use in list_own(uses, shared))
    return sum_amounts([*own, *(storage.amount for storage in shared)])

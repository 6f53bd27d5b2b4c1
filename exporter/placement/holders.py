"""Holders: what each guest claims, and what some of the guests claim together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import cast

from exporter.model import AnyResourceClass, Guest, GuestDevices, NodeDevices, Resources
from exporter.placement.claims import Claim
from exporter.placement.devices import Holding, find_missing_class, list_held_addresses

# At most so many holders of a kind, such as projects, have claims of their own; the others are OTHERS.
MAX_HOLDERS = 200
OTHERS = "other"

# By resource class; a class of which the guest claims nothing is left out. None where it is not known.
GuestClaim = Mapping[AnyResourceClass, int | None]


class DeviceClaims:
    """What single guests claim of the host's devices.

    :param devices: None if they are not known
    """

    def __init__(self, devices: NodeDevices | None) -> None:
        self._devices = devices
        providers = () if devices is None else devices.providers
        self._classes = frozenset(each.resource_class for each in providers)
        self._mdev_classes = frozenset(each.resource_class for each in providers if each.is_mdev)
        self._class_of = {member: each.resource_class for each in providers for member in each.members}
        self._mdevs = frozenset() if devices is None else frozenset(each.uuid for each in devices.mdevs)

    def claim_of(self, holding: Holding) -> GuestClaim:
        """Return what a guest claims of devices (`exporter.placement.devices`)."""
        own, requested = holding
        if self._devices is None or own == _NOTHING:
            return {}
        if not own.are_known:
            return dict.fromkeys(self._classes)
        claim: dict[AnyResourceClass, int | None] = {}
        for member in list_held_addresses(self._devices, [own]) | own.mdev_uuids:
            if member in self._class_of:
                name = self._class_of[member]
                claim[name] = (claim.get(name) or 0) + 1
        missing = len(own.mdev_uuids - self._mdevs)
        if missing and self._mdev_classes:
            found = find_missing_class(self._mdev_classes, requested)
            if found is None:
                return {**claim, **dict.fromkeys(self._mdev_classes)}
            claim[found] = (claim.get(found) or 0) + missing
        return claim


_NOTHING = GuestDevices()


def make_guest_claim(claim: Claim, devices: GuestClaim, *, unknown: Iterable[AnyResourceClass]) -> GuestClaim:
    """Join what a guest claims of CPUs, memory and disk, and of devices.

    :param unknown: the classes of which it is not known
    """
    own = cast("GuestClaim", claim)  # a mapping that is only read
    return own if not devices and not unknown else {**own, **devices, **dict.fromkeys(unknown)}


def sum_guest_claims(
    claims: Iterable[GuestClaim], classes: Sequence[AnyResourceClass]
) -> dict[AnyResourceClass, int | None]:
    """Return the sum of these claims for each of the classes; None if one of the claims is not known."""
    total: dict[AnyResourceClass, int | None] = dict.fromkeys(classes, 0)
    for claim in claims:
        for name, amount in claim.items():
            before = total.get(name)
            if before is not None:
                total[name] = None if amount is None else before + amount
    return total


def sum_shut_off(resources: Resources) -> Mapping[AnyResourceClass, int | None]:
    """Return what guests claim that are not active, for each class that the host offers.

    It is empty if the guests are not known.
    """
    if resources.domains is None:
        return {}
    return sum_claims_of(
        resources, [domain.uuid for domain in resources.domains.domains if not domain.is_active]
    )


def sum_migrating_in(resources: Resources) -> Mapping[AnyResourceClass, int | None]:
    """Return what guests claim that are migrating in, for each class that the host offers.

    It is empty if the guests are not known.
    """
    return {} if resources.domains is None else sum_claims_of(resources, resources.domains.arriving)


def group_claims(
    resources: Resources, find_holder: Callable[[Guest], str], *, maximum: int = MAX_HOLDERS
) -> Mapping[str, Mapping[AnyResourceClass, int | None]]:
    """Return what the guests of each holder claim, for each class that the host offers.

    The holders with the most guests have their own entry. All others are one, OTHERS, and a holder of this
    name is in it, too. Guests whose holder is not known are not among them.

    :param find_holder: returns whose a guest is; empty if that is not known
    :param maximum: how many have an entry of their own
    """
    by_holder: dict[str, list[str]] = {}
    for uuid, guest in (resources.domains.guests if resources.domains else {}).items():
        if guest is not None:
            by_holder.setdefault(find_holder(guest), []).append(uuid)
    nameless = {"": by_holder.pop("")} if "" in by_holder else {}
    largest = sorted(by_holder, key=lambda holder: (-len(by_holder[holder]), holder))
    kept = {holder: by_holder[holder] for holder in largest[:maximum]} | nameless
    for holder in largest[maximum:]:
        kept[OTHERS] = [*kept.get(OTHERS, ()), *by_holder[holder]]
    return {holder: sum_claims_of(resources, uuids) for holder, uuids in kept.items()}


def sum_claims_of(resources: Resources, uuids: Iterable[str]) -> Mapping[AnyResourceClass, int | None]:
    """Return what these guests claim, for each class that the host offers.

    A guest of which nothing could be read claims nothing, as in `hypervisor_claimed`.
    """
    claims = resources.guest_claims
    classes = [each.resource_class for each in resources.inventories]
    return sum_guest_claims((claims[uuid] for uuid in uuids if uuid in claims), classes)

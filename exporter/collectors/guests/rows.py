"""The guests that are shown, with the labels that all series of a guest have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from exporter.guest_records import MAX_DEVICES, ChosenGuest, ChosenGuests
from exporter.label import make_label_value
from exporter.metric import LabelSet
from exporter.model import DomainRecord, Guest, Interface, Snapshot

COMMON_LABELS = ("hypervisor_hostname", "domain")
OTHER_DEVICES = "other"
IDENTITY = (
    "uuid",
    "instance_name",
    "flavor",
    "project_id",
    "project_name",
    "user_id",
    "user_name",
    "image_id",
)


T = TypeVar("T")


class _Kept:
    """What is made of a guest once, and kept as long as its XML is the same. Two threads may make the same.

    :ivar labels: what all its series have
    """

    __slots__ = ("labels", "made", "pairs")

    def __init__(self, pairs: tuple[tuple[str, str], ...]) -> None:
        self.pairs = pairs
        self.labels = LabelSet(pairs)
        self.made: dict[object, Any] = {}


class Row:
    """A guest that is shown, as of one scrape.

    :ivar chosen: the guest
    :ivar labels: what all its series have: the same object in each scrape, so that it is rendered once
    """

    __slots__ = ("_kept", "chosen", "labels")

    def __init__(self, chosen: ChosenGuest, kept: _Kept) -> None:
        self.chosen = chosen
        self.labels = kept.labels
        self._kept = kept

    @property
    def record(self) -> DomainRecord:
        """Its row of the list of domains."""
        return self.chosen.record

    @property
    def guest(self) -> Guest | None:
        """Its XML; None if it is not known."""
        return self.chosen.guest

    @property
    def uuid(self) -> str:
        """Its UUID, by which statistics are kept."""
        return self.chosen.record.uuid

    def extend(self, *more: tuple[str, str]) -> LabelSet:
        """Return the guest's labels with these, such as ("device", "vda"): the same object each time."""
        made = self._kept.made
        labels: LabelSet | None = made.get(more)
        if labels is None:
            labels = made[more] = LabelSet((*self._kept.pairs, *more))
        return labels

    def keep(self, make: Callable[[Row], T]) -> T:
        """Return what `make` made of the guest the first time: it depends on the guest's XML only."""
        kept = self._kept.made
        if make not in kept:
            kept[make] = make(self)
        made: T = kept[make]
        return made


def list_rows(snapshot: Snapshot, chosen: ChosenGuests) -> list[Row]:
    """Return the guests that are shown, active or not."""
    hostname = snapshot.resources.hypervisor_hostname
    key = ("rows", hostname, chosen.series_labels, chosen.show_owner_names)
    return [_make_row(each, key, hostname, chosen) for each in chosen.guests]


def list_interfaces(guest: Guest) -> dict[str, tuple[str, Interface]]:
    """Return the interfaces that have series of their own, by target, with their label value.

    No two have the same label value: of names that look the same, only the first is shown.
    """
    taken = {OTHER_DEVICES} if len(guest.interfaces) > MAX_DEVICES else set()
    shown: dict[str, tuple[str, Interface]] = {}
    for each in guest.interfaces[:MAX_DEVICES]:
        value = make_label_value(each.target)
        if each.target and value not in taken:
            taken.add(value)
            shown[each.target] = value, each
    return shown


def list_active(rows: list[Row]) -> list[tuple[Row, Guest]]:
    """Return the guests that run or are paused, and whose XML is known. Only they use anything."""
    return [(row, row.guest) for row in rows if row.guest is not None and row.record.is_active]


def describe(each: ChosenGuest, *, show_owner_names: bool) -> dict[str, str]:
    """Return who a guest is: the labels of hypervisor_guest_info. What is not known is empty."""
    guest = each.guest
    if guest is None:
        return {**dict.fromkeys(IDENTITY, ""), "uuid": each.record.uuid}
    instance, flavor = guest.nova_instance, guest.nova_flavor
    return {
        "uuid": each.record.uuid,
        "instance_name": instance.instance_name,
        "flavor": "" if flavor is None else make_label_value(flavor.name),
        "project_id": instance.project_id,
        "project_name": instance.project_name if show_owner_names else "",
        "user_id": instance.user_id,
        "user_name": instance.user_name if show_owner_names else "",
        "image_id": instance.image_id,
    }


def _make_row(each: ChosenGuest, key: object, hostname: str, chosen: ChosenGuests) -> Row:
    kept: _Kept | None = each.kept.get(key)
    if kept is None:
        identity = describe(each, show_owner_names=chosen.show_owner_names)
        more = tuple((name, identity[name]) for name in chosen.series_labels)
        pairs = (("hypervisor_hostname", hostname), ("domain", each.record.name), *more)
        kept = each.kept[key] = _Kept(pairs)
    return Row(each, kept)

"""The guests that are shown, with the labels that all series of a guest have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from exporter.guest_use import ChosenGuest, ChosenGuests
from exporter.label import make_label_value
from exporter.metric import LabelSet, keep_labels
from exporter.model import DomainRecord, Guest, Snapshot

COMMON_LABELS = ("hypervisor_hostname", "domain")
# A guest with more disks or interfaces shows the first ones; the counters of the others are summed up.
MAX_DEVICES = 32
OTHER_DEVICES = "other"


@dataclass(frozen=True, slots=True)
class Row:
    """A guest that is shown."""

    chosen: ChosenGuest
    pairs: tuple[tuple[str, str], ...]
    labels: LabelSet

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
        """Return the guest's labels with these: ("device", "vda")."""
        return keep_labels(*self.pairs, *more)


def list_rows(snapshot: Snapshot, chosen: ChosenGuests) -> list[Row]:
    """Return the guests that are shown, active or not."""
    return list(_list_rows(snapshot, chosen))


def list_active(rows: list[Row]) -> list[tuple[Row, Guest]]:
    """Return the guests that run or are paused, and whose XML is known. Only they use anything."""
    return [(row, row.guest) for row in rows if row.guest is not None and row.record.is_active]


def _list_rows(snapshot: Snapshot, chosen: ChosenGuests) -> Iterator[Row]:
    host = ("hypervisor_hostname", snapshot.resources.hypervisor_hostname)
    for each in chosen.guests:
        pairs: tuple[tuple[str, str], ...] = (host, ("domain", each.record.name))
        if chosen.series_labels:
            identity = describe(each, show_owner_names=chosen.show_owner_names)
            pairs += tuple((name, identity[name]) for name in chosen.series_labels)
        yield Row(each, pairs, keep_labels(*pairs))


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

"""The state of the fleet, and of a hypervisor, in words."""

from __future__ import annotations

from dataclasses import dataclass

from exporter.page.fleet import Fleet, HostRow, HostStatus
from exporter.page.quantity import NAME_CHARACTERS, format_age, format_count, printable
from exporter.page.storages import SharedStorage, is_own

# At most this many hypervisors are named for a shared storage.
SHARERS_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Headline:
    """The state of the whole fleet in two sentences."""

    level: str  # "all", "some", "none" answer, or "waiting"
    text: str
    detail: str


def describe_fleet(fleet: Fleet) -> Headline:
    """Answer the first question: does it work?"""
    count, up = len(fleet.rows), fleet.up
    if up == count:
        text = "The hypervisor answers" if count == 1 else f"All {count} hypervisors answer"
        return Headline("all", text, _describe_numbers(fleet))
    if any(row.status is HostStatus.WAITING for row in fleet.rows) and not fleet.faults:
        return Headline("waiting", f"{up} of {count} hypervisors answered so far", _describe_numbers(fleet))
    if any(row.status is HostStatus.INCOMPLETE for row in fleet.rows):
        text = (
            "The hypervisor answers in part" if count == 1 else f"{up} of {count} hypervisors answer in full"
        )
        return Headline("some", text, _describe_numbers(fleet))
    if up == 0:
        text = "The hypervisor does not answer" if count == 1 else f"None of {count} hypervisors answers"
        return Headline("none", text, _describe_numbers(fleet))
    return Headline("some", f"{up} of {count} hypervisors answer", _describe_numbers(fleet))


def describe_age(row: HostRow) -> str:
    """Return how old the numbers are, or how long they have been missing."""
    if row.status is HostStatus.WAITING:
        return "no answer yet"
    if row.status is HostStatus.DUPLICATE:
        return "not shown twice"
    if row.age_seconds is not None:
        if row.age_seconds < 1:
            return "read just now"
        return f"read {format_age(row.age_seconds)} ago"
    if row.down_seconds is None:
        return "has never answered"
    return f"for {format_age(row.down_seconds)}"


def describe_storage(row: HostRow) -> str | None:
    """Return whose storage the disk is; None if it is the hypervisor's own, or if that is not known."""
    if row.storage is None or is_own(row.storage):
        return None
    if row.sharers == 1:
        return f"on {row.storage.id}"
    others = row.sharers - 1
    return f"shared with {others} other{'' if others == 1 else 's'}: {row.storage.id}"


def describe_sharing(row: HostRow) -> str:
    """Return in two words how many hypervisors have the same storage: "by 3"; nothing if it is not shared."""
    return f"by {row.sharers}" if row.sharers > 1 else ""


def describe_sharers(storage: SharedStorage) -> str:
    """Return which hypervisors share a storage: "2 hypervisors: kvm01, kvm02"."""
    names = [printable(name, NAME_CHARACTERS) for name in storage.names[:SHARERS_SHOWN]]
    more = len(storage.names) - len(names)
    listed = ", ".join(names) + (f" and {more} more" if more else "")
    return f"{len(storage.names)} hypervisors: {listed}"


def describe_counted_once(fleet: Fleet) -> str | None:
    """Return what the total of the disk contains only once; None if no storage is shared."""
    if not fleet.storages:
        return None
    sharing = sum(len(storage.names) for storage in fleet.storages)
    if len(fleet.storages) == 1:
        return f"The storage that {sharing} hypervisors share counts once."
    return f"The {len(fleet.storages)} storages that {sharing} hypervisors share count once each."


def _describe_numbers(fleet: Fleet) -> str:
    if not fleet.shown:
        return "There are no numbers to show."
    guests = f"{format_count(fleet.running_vms)} active guest{'' if fleet.running_vms == 1 else 's'}"
    if fleet.running_vms is None:
        guests = "The guests are not known"
    elif fleet.without_guests:
        guests += f", not counting those of {fleet.without_guests} of {len(fleet.rows)} hypervisors"
    age = f"the oldest numbers were read {format_age(fleet.oldest_seconds)} ago"
    hidden = len(fleet.rows) - fleet.shown
    missing = f" The totals lack {hidden} of {len(fleet.rows)}." if hidden else ""
    return f"{guests}; {age}.{missing}"

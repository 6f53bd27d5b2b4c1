"""The state of the fleet, and of a hypervisor, in words."""

from __future__ import annotations

from dataclasses import dataclass

from exporter.model import DomainState, ResourceClass
from exporter.page.fleet import GIB, MIB, Fleet, HostRow, HostStatus
from exporter.page.guests import GuestList
from exporter.page.quantity import NAME_CHARACTERS, format_age, format_bytes, format_count, printable
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


def describe_guests(guests: GuestList) -> Headline:
    """Say how a hypervisor's guests are, and what those hold that are shut off."""
    if not guests.are_known:
        age = f"{guests.host.status.value}, {describe_age(guests.host)}"
        return Headline("none", "The guests are not known", f"The hypervisor is {age}.")
    active = guests.count - guests.states.get(DomainState.SHUTOFF, 0)
    text = (
        f"{format_count(guests.count)} guest{'' if guests.count == 1 else 's'}, {format_count(active)} active"
    )
    faulty = sum(guests.faults.values())
    if faulty:
        text += f", {format_count(faulty)} with a fault"
    parts = [f"{format_count(count)} {fault}" for fault, count in guests.faults.items()]
    sentences = [f"{', '.join(parts)}."] if parts else []
    sentences += [_describe_shut_off(guests), _describe_source(guests.host)]
    level = "some" if faulty or not guests.host.is_up else "all"
    return Headline(level, text, " ".join(sentence for sentence in sentences if sentence))


def _describe_shut_off(guests: GuestList) -> str:
    """Return what guests hold that are shut off; nothing if there are none, or if it is not known."""
    count = guests.states.get(DomainState.SHUTOFF, 0)
    vcpus = _add(guests.shut_off.get(ResourceClass.VCPU), guests.shut_off.get(ResourceClass.PCPU, 0))
    memory = guests.shut_off.get(ResourceClass.MEMORY_MB)
    if not count or vcpus is None or memory is None:
        return ""
    disk = guests.shut_off.get(ResourceClass.DISK_GB)
    amounts = [
        f"{format_count(vcpus)} vCPU{'' if vcpus == 1 else 's'}",
        f"{format_bytes(memory * MIB)} of memory",
    ]
    amounts += [f"{format_bytes(disk * GIB)} of disk"] if disk is not None else []
    who = (
        "1 guest that is shut off holds"
        if count == 1
        else f"{format_count(count)} guests that are shut off hold"
    )
    return f"{who} {', '.join(amounts[:-1])} and {amounts[-1]}."


def _add(*amounts: int | None) -> int | None:
    return None if None in amounts else sum(amount or 0 for amount in amounts)


def _describe_source(row: HostRow) -> str:
    """Return how old the list is, and whether the hypervisor still answers."""
    age = f"read {format_age(row.age_seconds)} ago"
    return f"The hypervisor is {row.status.value}; {age}." if not row.is_up else f"{age[0].upper()}{age[1:]}."


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

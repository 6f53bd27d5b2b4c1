"""The state of the fleet, and of a hypervisor, in words."""

from __future__ import annotations

from dataclasses import dataclass

from exporter.page.fleet import Fleet, HostRow, HostStatus
from exporter.page.quantity import format_age, format_count


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

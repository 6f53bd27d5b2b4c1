"""The page of one hypervisor's guests: the record, its words, and the document."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from exporter.guest_records import AllGuestStatistics
from exporter.model import DomainRecord, DomainState, HostView, NovaInstance, Problem, ResourceClass, Severity
from exporter.page.guest_rates import GuestRate
from exporter.page.guests import MAX_GUESTS, GuestList, GuestRow, make_guest_list
from exporter.page.quantity import UNKNOWN
from exporter.page.words import describe_guests
from exporter.web.page import render_guests_page
from tests.support.records import make_domain, make_inventory, make_resources, make_snapshot, make_view
from tests.support.simulated_guests import add_guests

GIB = 2**30
RUNNING, PAUSED, SHUTOFF = DomainState.RUNNING, DomainState.PAUSED, DomainState.SHUTOFF
CLASSES = (ResourceClass.VCPU, ResourceClass.MEMORY_MB, ResourceClass.DISK_GB)
OFFERED = tuple(make_inventory(each, 1000) for each in CLASSES)


def view(count: int = 24, *, parts: dict[str, Any] | None = None, **changes: Any) -> HostView:
    """Return the view of a host with so many guests, of which some have a fault (simulated_guests.py)."""
    resources = add_guests(make_resources(hypervisor_hostname="kvm01", inventories=OFFERED), count)
    resources = replace(resources, parts=parts or {})
    return make_view(
        target="kvm01",
        **{"snapshot": replace(make_snapshot(), resources=resources), "age_seconds": 3.0, **changes},
    )


def with_states(*states: tuple[DomainState, int]) -> HostView:
    """Return the view of a host whose guests have these states and reasons."""
    seen = view(len(states))
    assert seen.snapshot is not None
    assert seen.snapshot.resources.domains is not None
    records: Sequence[DomainRecord] = [
        make_domain(number, state, reason=reason) for number, (state, reason) in enumerate(states, 1)
    ]
    domains = replace(seen.snapshot.resources.domains, domains=tuple(records), arriving=frozenset())
    resources = replace(seen.snapshot.resources, domains=domains)
    return replace(seen, snapshot=replace(seen.snapshot, resources=resources))


def find(guests: GuestList, domain: str) -> GuestRow:
    (row,) = [row for row in guests.rows if row.domain == domain]
    return row


def render(guests: GuestList) -> str:
    return render_guests_page(guests).body.decode()


def test_a_guest_is_who_it_is_in_novas_metadata_and_has_what_it_claims() -> None:
    row = find(make_guest_list(view()), "instance-00000006")
    assert (row.instance_name, row.flavor, row.project) == ("billing-6", "r1.huge", "shop")
    assert (row.vcpus, row.memory_bytes, row.disk_bytes) == (16, 128 * GIB, 40 * GIB)
    assert (row.state, row.reason, row.fault) == (RUNNING, "booted", "")


def test_what_is_not_known_of_a_guest_is_empty_and_no_zero() -> None:
    """The ninth guest is not Nova's, the tenth cannot be read."""
    guests = make_guest_list(view())
    foreign, unread = find(guests, "instance-00000009"), find(guests, "instance-0000000a")
    assert (foreign.instance_name, foreign.flavor, foreign.project, foreign.vcpus) == ("", "", "", 8)
    assert unread.instance_name == ""
    assert (unread.vcpus, unread.memory_bytes, unread.disk_bytes) == (None, None, None)
    cells = render(guests).rpartition("instance-0000000a")[2].partition("</tr>")[0]
    assert re.findall(r'class="amount"[^>]*>([^<]*)<', cells) == [UNKNOWN] * 3


def test_the_projects_name_is_its_id_where_names_are_not_to_be_shown() -> None:
    row = find(make_guest_list(view(), show_owner_names=False), "instance-00000006")
    assert row.project == "7d1b3f5a9c8e4d2b6f0a1c3e5d7b9f8a"
    assert "shop" not in {row.project for row in make_guest_list(view(), show_owner_names=False).rows}


def test_guests_with_a_fault_come_first_then_those_that_claim_the_most_memory() -> None:
    rows = make_guest_list(view()).rows
    assert [row.domain for row in rows[:4]] == [
        "instance-00000002",
        "instance-0000000d",
        "instance-00000006",
        "instance-0000000e",
    ]
    assert rows[-1].domain == "instance-0000000a"


@pytest.mark.parametrize(
    ("state", "reason", "fault"),
    [
        (PAUSED, 5, "paused by an I/O error"),
        (PAUSED, 6, "paused by its watchdog"),
        (PAUSED, 10, "paused after a crash"),
        (PAUSED, 1, ""),
        (PAUSED, 2, ""),
        (SHUTOFF, 3, "shut off by a crash"),
        (SHUTOFF, 6, "shut off, as it could not be started"),
        (SHUTOFF, 1, ""),
        (SHUTOFF, 2, ""),
        (RUNNING, 1, ""),
    ],
)
def test_a_fault_is_what_nobody_wanted(state: DomainState, reason: int, fault: str) -> None:
    guests = make_guest_list(with_states((state, reason)))
    assert guests.rows[0].fault == fault
    assert (f'class="fault">{fault}' in render(guests)) == bool(fault)
    assert ('<tr class="faulty">' in render(guests)) == bool(fault)


def test_a_guest_whose_qemu_does_not_answer_has_a_fault() -> None:
    """The collector `guests` tells it. Of a guest that was not asked it is not known, which is no fault."""
    uuid = "00000000-0000-4000-8000-000000000006"
    statistics = AllGuestStatistics(
        statistics={}, is_responsive={uuid: False, uuid[:-1] + "7": True}, is_suspended=False
    )
    guests = make_guest_list(view(parts={"guest statistics": statistics}))
    assert [row.fault for row in guests.rows if row.fault].count("QEMU does not answer") == 1
    assert find(guests, "instance-00000006").fault == "QEMU does not answer"


def test_what_guests_use_has_columns_where_the_collector_reads_it() -> None:
    uuid = "00000000-0000-4000-8000-000000000006"
    rates = {uuid: GuestRate(cpus=14.2, waiting=0.31)}
    page = render(make_guest_list(view(), rates=rates))
    cells = page.partition(f"<small>{uuid}</small>")[2].partition("</tr>")[0]
    assert re.findall(r'class="amount"[^>]*>([^<]*)<', cells)[3:] == ["14", "31 %"]
    assert "CPU use" in page
    assert "CPU use" not in render(make_guest_list(view()))
    first_look = render(make_guest_list(view(), rates={}))
    assert first_look.count(f'data-label="CPU use" data-v="-1">{UNKNOWN}<') == 24


def test_a_guest_that_is_migrating_in_is_told() -> None:
    assert find(make_guest_list(view()), "instance-00000007").reason == "migrating in"


def test_the_headline_counts_and_says_what_is_wrong_and_what_shut_off_guests_hold() -> None:
    headline = describe_guests(make_guest_list(view()))
    assert headline.level == "some"
    assert headline.text == "24 guests, 21 active, 2 with a fault"
    assert headline.detail == (
        "1 paused by an I/O error, 1 shut off by a crash. 3 guests that are shut off hold 20 vCPUs, 32 GiB of"
        " memory and 160 GiB of disk. Read 3 s ago."
    )


@pytest.mark.parametrize(
    ("states", "text", "detail"),
    [
        ((), "0 guests, 0 active", "Read 3 s ago."),
        (((RUNNING, 1),), "1 guest, 1 active", "Read 3 s ago."),
        (
            ((SHUTOFF, 1), (RUNNING, 1)),
            "2 guests, 1 active",
            "1 guest that is shut off holds 8 vCPUs, 8 GiB of memory and 40 GiB of disk. Read 3 s ago.",
        ),
    ],
)
def test_where_all_is_well_the_headline_is_short(states: Any, text: str, detail: str) -> None:
    headline = describe_guests(make_guest_list(with_states(*states)))
    assert (headline.level, headline.text, headline.detail) == ("all", text, detail)


def test_the_last_list_of_a_hypervisor_that_does_not_answer_says_so() -> None:
    problem = Problem(severity=Severity.FATAL, reason="timeout", subject="", message="kvm01 is late")
    stale = view(is_up=False, age_seconds=40.0, problems=(problem,))
    guests = make_guest_list(stale)
    headline = describe_guests(guests)
    assert headline.level == "some"
    assert headline.detail.endswith("The hypervisor is stale; read 40 s ago.")
    assert "kvm01 is late" in render(guests)


def test_of_a_hypervisor_without_a_list_nothing_is_claimed_to_be_known() -> None:
    down = view(is_up=False, snapshot=None, age_seconds=None, seconds_since_success=120.0)
    guests = make_guest_list(down)
    assert not guests.are_known
    headline = describe_guests(guests)
    assert (headline.level, headline.text) == ("none", "The guests are not known")
    assert headline.detail == "The hypervisor is down, for 2 min."
    assert "<tbody" in render(guests)


def test_no_more_than_so_many_are_listed_and_the_others_counted() -> None:
    guests = make_guest_list(view(MAX_GUESTS + 7))
    assert (len(guests.rows), guests.count, guests.omitted) == (MAX_GUESTS, MAX_GUESTS + 7, 7)
    page = render(guests)
    assert page.count('<th scope="row"') == MAX_GUESTS
    assert "7 more guests are not listed" in page
    assert len(page) < 1_000_000
    assert "more guests are not listed" not in render(make_guest_list(view()))


def test_texts_are_escaped_and_made_visible() -> None:
    hostile = "<script>\u202e\n"
    seen = with_states((RUNNING, 1))
    assert seen.snapshot is not None
    assert seen.snapshot.resources.domains is not None
    domains = seen.snapshot.resources.domains
    (uuid,) = domains.guests
    guest = domains.guests[uuid]
    assert guest is not None
    assert guest.nova_flavor is not None
    changed = replace(
        guest,
        nova_instance=NovaInstance(instance_name=hostile, project_id=hostile, project_name=hostile),
        nova_flavor=replace(guest.nova_flavor, name=hostile),
    )
    records = tuple(each._replace(name=hostile) for each in domains.domains)
    resources = replace(
        seen.snapshot.resources, domains=replace(domains, domains=records, guests={uuid: changed})
    )
    page = render(make_guest_list(replace(seen, snapshot=replace(seen.snapshot, resources=resources))))
    assert hostile not in page
    assert page.count(r"&lt;script&gt;\u202e\n") == 8, "of name, instance, flavor and project, and to sort by"

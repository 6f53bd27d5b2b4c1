"""The record of the fleet, and its words."""

from __future__ import annotations

import re
from typing import Any

import pytest

from exporter.compute.problems import REASONS
from exporter.model import FlavorSlots, HostView, Ignored, Problem, ResourceClass, Severity, Storage
from exporter.page.advice import ADVICE, UNKNOWN, get_advice
from exporter.page.fleet import HostStatus, make_fleet, make_row
from exporter.page.quantity import (
    format_age,
    format_bytes,
    format_count,
    format_left,
    format_of,
    format_share,
    format_share_of,
    printable,
)
from exporter.page.words import describe_fleet
from exporter.web.page import render_page
from tests.support.records import GIB, make_inventory, make_snapshot, make_storage_identity, make_view

MIB = 2**20


def view(target: str = "kvm01", **changes: Any) -> HostView:
    """Return the view of a host of 8 CPUs, 100 MiB and 100 GiB, half used, with changes to its resources."""
    resources = {
        "hypervisor_hostname": target,
        "vcpus": 8,
        "vcpus_used": 4,
        "memory_mb": 100,
        "memory_mb_used": 50,
        "storage": Storage(size_bytes=100 * GIB, used_bytes=50 * GIB, free_bytes=45 * GIB),
        "storage_identity": make_storage_identity(id=f"host:{target}"),
        "storage_overcommitted_bytes": 0,
        "inventories": (),
        "flavor_slots": (),
        **changes,
    }
    return make_view(target=target, snapshot=make_snapshot(target=target, **resources), age_seconds=3.0)


def down(target: str = "kvm01", *, reason: str = "connect", **changes: Any) -> HostView:
    """Return the view of a host of which nothing is known."""
    problem = Problem(severity=Severity.FATAL, reason=reason, subject="", message=f"{target} is gone")
    known = {"is_up": False, "snapshot": None, "age_seconds": None, "problems": (problem,), **changes}
    return make_view(target=target, **known)


def test_totals_are_sums_of_what_is_known() -> None:
    """A host that is down, and an amount that could not be told, are in no total."""
    fleet = make_fleet([view("a"), view("b", vcpus=None, memory_mb_used=70), down("c")])
    assert (fleet.cpu.total, fleet.cpu.used, fleet.cpu.free) == (8, 4, 4)
    assert (fleet.memory.total, fleet.memory.used) == (200 * MIB, 120 * MIB)
    assert (fleet.disk.total, fleet.disk.used, fleet.disk.free) == (200 * GIB, 100 * GIB, 90 * GIB)
    assert (fleet.up, fleet.shown) == (2, 2)


NO_GUESTS = {
    "vcpus_used": None,
    "running_vms": None,
    "domains_by_state": None,
    "storage_overcommitted_bytes": None,
    "inventories": (make_inventory(ResourceClass.VCPU, 64, claimed=None),),
}


def test_a_host_whose_guests_are_not_known_is_in_no_total_that_depends_on_them() -> None:
    """Shows that its CPUs do not count as free, and that nobody says how far all images may grow."""
    known = make_inventory(ResourceClass.VCPU, 8, claimed=4)
    views = [view("a", inventories=(known,), storage_overcommitted_bytes=GIB), view("b", **NO_GUESTS)]
    fleet = make_fleet(views)
    assert (fleet.cpu.total, fleet.cpu.used, fleet.cpu.free) == (8, 4, 4)
    assert (fleet.cpu.capacity, fleet.cpu.claimed) == (8, 4)
    assert (fleet.memory.total, fleet.disk.total) == (200 * MIB, 200 * GIB)
    assert (fleet.disk.growth, fleet.disk.over) == (None, 0)
    assert (fleet.running_vms, fleet.shown, fleet.without_guests) == (41, 2, 1)
    assert "41 active guests, not counting those of 1 of 2 hypervisors" in describe_fleet(fleet).detail


def test_where_no_guest_is_known_nothing_is_said_of_any() -> None:
    row = make_row(view(**NO_GUESTS))
    assert (row.cpu.amount.total, row.cpu.amount.used, row.cpu.amount.free) == (8, None, None)
    assert (row.cpu.amount.capacity, row.cpu.amount.claimed, row.cpu.amount.left) == (64, None, None)
    assert (row.running_vms, row.domains) == (None, {})
    assert row.memory.amount.used_share == 0.5
    fleet = make_fleet([view(**NO_GUESTS)])
    assert (fleet.cpu.total, fleet.cpu.capacity, fleet.running_vms) == (None, None, None)
    assert describe_fleet(fleet).detail.startswith("The guests are not known; the oldest numbers")
    page = render_page(fleet, metrics_path="/metrics", address="kvm01:9177").body.decode()
    guests = re.search(r'<td class="guests" data-v="-1">(.*?)</td>', page, re.DOTALL)
    assert guests is not None
    assert "not known" in guests[1]
    assert "grow by" not in page


def test_nothing_known_is_no_zero() -> None:
    fleet = make_fleet([down()])
    assert fleet.cpu.total is None
    assert fleet.memory.used is None
    assert fleet.disk.free is None
    assert fleet.oldest_seconds is None


def test_the_fullest_comes_first_and_the_unknown_last() -> None:
    """By the fullest of its resources, whichever that is."""
    half, cpu = view("half"), view("cpu", vcpus_used=7)
    memory, disk = (
        view("memory", memory_mb_used=95),
        view("disk", storage=Storage(size_bytes=10, used_bytes=9, free_bytes=1)),
    )
    fleet = make_fleet([down("gone"), half, cpu, memory, disk])
    assert [row.name for row in fleet.rows] == ["memory", "disk", "cpu", "half", "gone"]
    assert [row.fullest.name for row in fleet.rows if row.fullest] == ["memory", "disk", "cpu", "cpu"]


def test_claims_decide_how_full_the_cpus_are() -> None:
    """Twice as many vCPUs as CPUs are half of a capacity of four times as many."""
    inventory = make_inventory(ResourceClass.VCPU, 8, allocation_ratio=4.0, claimed=16)
    row = make_row(view(vcpus_used=16, inventories=(inventory,)))
    assert row.cpu.amount.used_share == 2.0
    assert row.cpu.fullness == row.cpu.amount.claimed_share == 0.5
    assert row.cpu.amount.over == 8


def test_claims_of_memory_and_disk_are_bytes() -> None:
    inventories = (
        make_inventory(ResourceClass.MEMORY_MB, 100, reserved=20, claimed=40),
        make_inventory(ResourceClass.DISK_GB, 100, claimed=80),
    )
    row = make_row(view(inventories=inventories))
    assert (row.memory.amount.capacity, row.memory.amount.claimed) == (80 * MIB, 40 * MIB)
    assert (row.disk.amount.capacity, row.disk.amount.claimed) == (100 * GIB, 80 * GIB)
    assert row.disk.fullness == 0.8


def test_images_that_may_outgrow_their_storage_are_over_committed() -> None:
    row = make_row(view(storage_overcommitted_bytes=60 * GIB))
    assert row.disk.amount.over == 15 * GIB
    assert make_row(view(storage_overcommitted_bytes=45 * GIB)).disk.amount.over == 0


def test_images_larger_than_their_size_do_not_make_others_shrink() -> None:
    """Nova's sum is negative then; nothing "grows by -5 MiB"."""
    larger, growing = (
        view("a", storage_overcommitted_bytes=-5 * MIB),
        view("b", storage_overcommitted_bytes=GIB),
    )
    fleet = make_fleet([larger, growing])
    assert make_row(larger).disk.amount.growth == 0
    assert fleet.disk.growth == GIB


def test_what_is_promised_beyond_the_capacity_is_told_as_such() -> None:
    inventory = make_inventory(ResourceClass.DISK_GB, 100, claimed=1024)
    row = make_row(view(inventories=(inventory,)))
    assert row.disk.amount.left == -924 * GIB
    assert make_row(view()).disk.amount.left is None


def test_the_page_of_a_toy_is_not_absurd() -> None:
    """As libvirt's own has it: 1 TiB claimed of 100 GiB, images larger than their size. And 17 vCPUs on 8."""
    toy = view(
        vcpus_used=17,
        storage=Storage(size_bytes=100 * GIB, used_bytes=0, free_bytes=100 * GIB),
        storage_overcommitted_bytes=-5 * MIB,
        inventories=(
            make_inventory(ResourceClass.MEMORY_MB, 3072, reserved=512, claimed=8192),
            make_inventory(ResourceClass.DISK_GB, 100, claimed=1024),
        ),
    )
    page = render_page(make_fleet([toy]), metrics_path="/metrics", address="kvm01:9177").body.decode()
    text = re.sub(r"<style>.*?</style>|<script>.*?</script>|<[^>]*>", " ", page, flags=re.DOTALL)
    text = re.sub(r"\s+", " ", text)
    for words in ("10 times the capacity", "3.2 times the capacity", "by 924 GiB", "by 5.5 GiB", "Left none"):
        assert words in text
    for words in ("2.1x used", "Free none", "Over-committed by 9"):
        assert words in text
    assert "grow by" not in text
    assert re.findall(r"-\d[\d.]* [A-Z]|\d{3,} %", text) == []


def test_slots_add_up_and_name_the_roomiest() -> None:
    slots = {"a": 2, "b": 5, "c": 0}
    fleet = make_fleet(
        [
            view(
                name,
                flavor_slots=(FlavorSlots(flavor="m1", slots=count, limited_by=frozenset(), request={}),),
            )
            for name, count in slots.items()
        ]
    )
    (room,) = fleet.flavors
    assert (room.flavor, room.slots, room.best, room.best_slots) == ("m1", 7, "b", 5)


@pytest.mark.parametrize(
    ("seen", "status"),
    [
        (view(), HostStatus.UP),
        (down(), HostStatus.DOWN),
        (down(reason="duplicate"), HostStatus.DUPLICATE),
        (down(snapshot=make_snapshot(), age_seconds=40.0), HostStatus.STALE),
        (down(reason="timeout", snapshot=make_snapshot(), age_seconds=40.0), HostStatus.STALE),
        (down(reason="domains", snapshot=make_snapshot(), age_seconds=1.0), HostStatus.INCOMPLETE),
        (down(reason="incomplete", snapshot=make_snapshot(), age_seconds=1.0), HostStatus.INCOMPLETE),
        (
            down(reason="incomplete", snapshot=make_snapshot(**NO_GUESTS), age_seconds=1.0),
            HostStatus.INCOMPLETE,
        ),
        (
            down(problems=(), refresh=None, seconds_since_success=None, is_refreshing=True),
            HostStatus.WAITING,
        ),
    ],
)
def test_each_state_has_its_word(seen: HostView, status: HostStatus) -> None:
    assert make_row(seen).status is status


@pytest.mark.parametrize(
    ("views", "level", "text"),
    [
        ([view()], "all", "The hypervisor answers"),
        ([view("a"), view("b")], "all", "All 2 hypervisors answer"),
        ([view("a"), down("b")], "some", "1 of 2 hypervisors answer"),
        ([down()], "none", "The hypervisor does not answer"),
        (
            [down(reason="storage", snapshot=make_snapshot(), age_seconds=1.0)],
            "some",
            "The hypervisor answers in part",
        ),
        ([down("a"), down("b")], "none", "None of 2 hypervisors answers"),
    ],
)
def test_the_headline_answers_whether_it_works(views: list[HostView], level: str, text: str) -> None:
    headline = describe_fleet(make_fleet(views))
    assert (headline.level, headline.text) == (level, text)


def test_what_a_nova_conf_says_in_vain_is_a_note_with_what_to_do() -> None:
    ignored = Ignored(option="", file="/etc/nova/nova-compute.conf", line=None, message="was not read")
    (group,) = make_fleet([make_view(ignored=(ignored,))]).troubles
    (trouble,) = group.troubles
    assert (trouble.message, trouble.is_note) == ("/etc/nova/nova-compute.conf: was not read", True)
    assert "nova_conf" in group.action


def test_the_same_trouble_is_told_once_with_all_it_befell() -> None:
    """Faults come before notes."""
    note = Problem(severity=Severity.NOTE, reason="image", subject="x", message="x")
    views = [make_view(target="c", problems=(note,)), down("a"), down("b")]
    groups = make_fleet(views).troubles
    assert [(group.reason, len(group.troubles), group.is_note) for group in groups] == [
        ("connect", 2, False),
        ("image", 1, True),
    ]


def test_what_is_to_be_done_about_one_problem_wins_over_its_reason() -> None:
    """Shows that two hypervisors which fail for different causes are not given one advice."""
    unknown = Problem(severity=Severity.FATAL, reason="connect", subject="", message="x", advice="Ask DNS")
    groups = make_fleet([down("a"), down("b", problems=(unknown,)), down("c")]).troubles
    assert [(group.action, len(group.troubles)) for group in groups] == [
        (ADVICE["connect"].action, 2),
        ("Ask DNS.", 1),
    ]


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_has_its_advice(reason: str) -> None:
    assert get_advice(reason) is ADVICE[reason]
    assert ADVICE[reason].action.endswith(".")


def test_a_reason_of_tomorrow_is_told_all_the_same() -> None:
    assert get_advice("tomorrow") is UNKNOWN


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1 KiB"),
        (999, "999 B"),
        (1536, "1.5 KiB"),
        (100 * GIB, "100 GiB"),
        (-12 * GIB, "-12 GiB"),
        (1023.9 * GIB, "1 TiB"),
        (None, "\N{EN DASH}"),
    ],
)
def test_bytes_have_three_digits(count: float | None, text: str) -> None:
    assert format_bytes(count) == text


def test_shares_are_rounded_down_so_that_only_the_full_is_full() -> None:
    assert [format_share(share) for share in (0.999, 1.0, 1.375, 0)] == ["99 %", "100 %", "137 %", "0 %"]


def test_from_twice_on_a_share_is_a_multiple() -> None:
    """Rounded down, too: nobody reads 1024 % as ten times."""
    shares = (1.999, 2.0, 2.59, 9.99, 10.24, None)
    assert [format_share(share) for share in shares] == ["199 %", "2x", "2.5x", "9.9x", "10x", "\N{EN DASH}"]
    assert format_share_of(0.625) == ("62 %", "of")
    assert [format_share_of(share) for share in (3.2, 10.24)] == [("3.2 times", ""), ("10 times", "")]


def test_less_than_nothing_is_none_left() -> None:
    assert [format_left(f"{count} B", count) for count in (1, 0, -5)] == ["1 B", "0 B", "none"]
    assert format_left("\N{EN DASH}", None) == "\N{EN DASH}"


def test_a_unit_that_both_amounts_have_stands_once() -> None:
    assert format_of("0 B", "100 GiB") == "0 of 100 GiB"
    assert format_of("23.4 GiB", "64 GiB") == "23.4 of 64 GiB"
    assert format_of("800 GiB", "3.9 TiB") == "800 GiB of 3.9 TiB"
    assert format_of("4", "8") == "4 of 8"


def test_ages_have_one_unit() -> None:
    assert [format_age(age) for age in (0.4, 59, 60, 7199, 90000)] == ["0 s", "59 s", "1 min", "1 h", "1 d"]


def test_thousands_are_set_apart_and_not_broken() -> None:
    assert format_count(12345) == "12\N{NO-BREAK SPACE}345"


def test_what_cannot_be_seen_is_escaped_and_what_is_long_is_cut() -> None:
    assert printable("a\nb\x1b\u202e\udcff") == r"a\nb\x1b\u202e\udcff"
    assert printable("Müller 🐧") == "Müller 🐧"
    assert printable("x" * 20, 5) == "xxxx…"

"""The guests of a hypervisor in a terminal and as JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from exporter.page.document import render_guests_json
from exporter.page.guest_rates import GuestRate
from exporter.page.guest_table import render_guest_table
from exporter.page.guests import MAX_GUESTS, GuestList, make_guest_list
from exporter.page.quantity import UNKNOWN
from exporter.page.text_table import Medium
from tests.support.hostile_names import HOSTILE
from tests.unit.test_page_guests import view


def rename(guests: GuestList, text: str) -> GuestList:
    """Return guests whose first one has this text wherever somebody else chooses it."""
    first, *others = guests.rows
    hostile = replace(first, domain=text, instance_name=text, flavor=text, project_id=text, project_name=text)
    return replace(guests, rows=(hostile, *others))


def test_the_table_has_a_line_for_each_guest_below_what_it_says_of_all() -> None:
    lines = render_guest_table(make_guest_list(view(10)), Medium()).splitlines()
    assert [line.replace(UNKNOWN, "-") for line in lines] == [
        "kvm01: 10 guests, 10 active, 1 with a fault. 1 paused by an I/O error. Read 3 s ago.",
        "",
        "GUEST              STATE                 INSTANCE     FLAVOR     PROJECT   VCPUS   MEMORY    DISK",
        "instance-00000002  paused: ioerror       mail-2       r1.huge    shop         16  128 GiB  40 GiB",
        "instance-00000006  running: booted       billing-6    r1.huge    shop         16  128 GiB  40 GiB",
        "instance-00000003  running: booted       ci-runner-3  m1.large   shop          4   16 GiB  80 GiB",
        "instance-00000007  paused: migrating in  web-7        m1.large   platform      4   16 GiB  80 GiB",
        "instance-00000001  running: booted       shop-db-1    c1.medium  platform      8    8 GiB  40 GiB",
        "instance-00000005  paused: user          batch-5      c1.medium  shop          8    8 GiB  40 GiB",
        "instance-00000009  running: booted       -            -          -             8    8 GiB  40 GiB",
        "instance-00000004  running: booted       jumphost-4   m1.small   platform      1    2 GiB  20 GiB",
        "instance-00000008  running: booted       shop-db-8    m1.small   shop          1    2 GiB  20 GiB",
        "instance-0000000a  running: booted       -            -          -             -        -       -",
    ]


@pytest.mark.parametrize(
    ("width", "titles"),
    [
        (100, ["GUEST", "STATE", "INSTANCE", "FLAVOR", "PROJECT", "VCPUS", "MEMORY", "DISK"]),
        (90, ["GUEST", "STATE", "INSTANCE", "FLAVOR", "VCPUS", "MEMORY", "DISK"]),
        (80, ["GUEST", "STATE", "INSTANCE", "VCPUS", "MEMORY", "DISK"]),
        (60, ["GUEST", "STATE", "VCPUS", "MEMORY"]),
    ],
)
def test_what_does_not_fit_is_left_out_the_least_important_first(width: int, titles: list[str]) -> None:
    lines = render_guest_table(make_guest_list(view(24)), Medium(width=width)).splitlines()
    assert all(len(line) <= width for line in lines)
    (head,) = [line for line in lines if line.startswith("GUEST")]
    assert head.split() == titles


USE = {
    "00000000-0000-4000-8000-000000000001": GuestRate(cpus=7.96, waiting=0.129),
    "00000000-0000-4000-8000-000000000002": GuestRate(cpus=0.0, waiting=None),
}


def test_what_guests_use_is_there_where_the_collector_reads_it() -> None:
    guests = make_guest_list(view(3), rates=USE)
    lines = render_guest_table(guests, Medium()).splitlines()[2:]
    assert [line.replace(UNKNOWN, "-")[-32:] for line in lines] == [
        "  MEMORY    DISK  CPU USE  WAITS",
        " 128 GiB  40 GiB     0.00      -",
        "  16 GiB  80 GiB        -      -",
        "   8 GiB  40 GiB      8.0   12 %",
    ]
    document = json.loads(render_guests_json(guests, now=1.75e9))
    assert [(each["used_cpus"], each["waiting_share"]) for each in document["guests"]] == [
        (0.0, None),
        (None, None),
        (7.96, 0.129),
    ]


def test_a_fault_is_red_and_a_guest_that_runs_green() -> None:
    table = render_guest_table(make_guest_list(view(3)), Medium(has_colours=True))
    assert "\x1b[31mpaused: ioerror" in table
    assert "\x1b[32mrunning: booted" in table


def test_a_hypervisor_without_guests_has_no_table() -> None:
    assert render_guest_table(make_guest_list(view(0)), Medium()) == (
        "kvm01: 0 guests, 0 active. Read 3 s ago.\n"
    )


def test_it_says_how_many_are_not_listed() -> None:
    lines = render_guest_table(make_guest_list(view(MAX_GUESTS + 2)), Medium()).splitlines()
    assert lines[-1] == "2 more are not listed."
    assert len(lines) == MAX_GUESTS + 5


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_the_terminal_gets_no_control_characters(text: str) -> None:
    table = render_guest_table(rename(make_guest_list(view(3)), text), Medium(width=100))
    assert all(line.isprintable() and len(line) <= 100 for line in table.splitlines())


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_the_document_has_every_name_as_it_is(text: str) -> None:
    document = json.loads(render_guests_json(rename(make_guest_list(view(3)), text), now=1.75e9))
    assert document["guests"][0]["instance_name"] == text


def test_the_document_has_all_that_is_known() -> None:
    document = json.loads(render_guests_json(make_guest_list(view(24)), now=1.75e9))
    assert (document["version"], document["timestamp_seconds"], document["count"]) == (1, 1.75e9, 24)
    assert document["hypervisor"]["target"] == "kvm01"
    assert document["guests"][0] == {
        "domain": "instance-00000002",
        "uuid": "00000000-0000-4000-8000-000000000002",
        "instance_name": "mail-2",
        "flavor": "r1.huge",
        "project_id": "7d1b3f5a9c8e4d2b6f0a1c3e5d7b9f8a",
        "project_name": "shop",
        "state": "paused",
        "reason": "ioerror",
        "fault": "paused by an I/O error",
        "claimed_vcpus": 16,
        "claimed_memory_bytes": 128 * 2**30,
        "claimed_disk_bytes": 40 * 2**30,
        "used_cpus": None,
        "waiting_share": None,
        "responsive": None,
    }
    unread = document["guests"][-1]
    assert unread["domain"] == "instance-0000000a"
    assert {unread[key] for key in ("flavor", "project_id", "fault", "claimed_vcpus")} == {None}


def test_the_document_of_a_hypervisor_that_does_not_answer_has_no_guests() -> None:
    down = view(is_up=False, snapshot=None, age_seconds=None)
    document = json.loads(render_guests_json(make_guest_list(down), now=1.75e9))
    assert (document["count"], document["guests"], document["hypervisor"]["up"]) == (None, [], False)

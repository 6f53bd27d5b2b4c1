"""The fleet in a terminal, in a pipe, and as JSON."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import pytest

from exporter.model import Problem, Resources, Severity
from exporter.page.document import render_json
from exporter.page.fleet import Fleet, make_fleet
from exporter.page.quantity import UNKNOWN
from exporter.page.table import render_table
from exporter.page.text_table import Medium, find_medium
from tests.support.records import make_inventory, make_snapshot, make_view
from tests.support.simulated_hypervisors import mixed_fleet

TERMINAL = Medium(width=160, has_bars=True, has_colours=True, has_blocks=True)


class _Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    encoding = "UTF-8"

    def isatty(self) -> bool:
        return True


def fleet() -> Fleet:
    """Return the mixed fleet as it is seen."""
    views = []
    for target, answer in mixed_fleet().items():
        if isinstance(answer, Resources):
            snapshot = make_snapshot(target=target)
            snapshot = type(snapshot)(target=target, resources=answer, timestamp_seconds=1.75e9)
            views.append(
                make_view(target=target, snapshot=snapshot, age_seconds=3.2, problems=answer.problems)
            )
        else:
            gone = Problem(severity=Severity.FATAL, reason="connect", subject="", message=str(answer))
            views.append(
                make_view(target=target, is_up=False, snapshot=None, age_seconds=None, problems=(gone,))
            )
    return make_fleet(views)


def test_a_pipe_gets_plain_text_with_everything() -> None:
    """No escape codes, no bars, nothing shortened."""
    text = render_table(fleet(), Medium())
    assert "\x1b" not in text
    assert "█" not in text
    row = next(line for line in text.splitlines() if line.startswith("kvm02"))
    assert re.split(r"  +", row) == [
        "kvm02.example.net", "up", "3 s", "137 %", "88 of 64", "36 %", "78 %", "402 of 512 GiB", "70 %",
        "82 %", "3.2 of 3.9 TiB", "100 %", "21",
    ]  # fmt: skip
    assert "qemu+tls://kvm05.example.net/system  down" in text
    assert "Room for more guests: " in text
    assert "systemctl status libvirtd" in text


@pytest.mark.parametrize("width", [48, 60, 80, 100, 120, 160, 250])
def test_every_line_fits_the_terminal(width: int) -> None:
    """Columns go before a line breaks: bars stay from 80 cells on."""
    medium = Medium(width=width, has_bars=True, has_blocks=True)
    text = render_table(fleet(), medium)
    assert max(map(len, text.splitlines())) <= width
    assert ("█" in text) is (width >= 80)
    assert all(title in text for title in ("HYPERVISOR", "STATE", "CPU", "MEMORY", "DISK"))


def test_a_terminal_gets_colours_that_change_no_column() -> None:
    plain = render_table(fleet(), Medium(width=160, has_bars=True, has_blocks=True))
    coloured = render_table(fleet(), TERMINAL)
    assert "\x1b[31m" in coloured
    assert "\x1b[32mup" in coloured
    stripped = re.sub(r"\x1b\[\d+m", "", coloured)
    assert [line.rstrip() for line in stripped.splitlines()] == plain.splitlines()


def test_a_wide_character_takes_two_cells() -> None:
    views = [
        make_view(target=name, snapshot=make_snapshot(target=name, hypervisor_hostname=name))
        for name in ("主機", "host")
    ]
    rows = [line for line in render_table(make_fleet(views), Medium()).splitlines() if "  up" in line]
    assert rows[0].index("up") - rows[1].index("up") in (2, -2)


@pytest.mark.parametrize(
    ("environment", "has_colours"),
    [
        ({"TERM": "xterm-256color"}, True),
        ({"TERM": "xterm-256color", "NO_COLOR": ""}, True),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
        ({}, False),
    ],
)
def test_no_color_is_honoured(environment: dict[str, str], has_colours: bool) -> None:
    medium = find_medium(_Terminal(), environment, columns=100)
    assert medium == Medium(width=100, has_bars=True, has_colours=has_colours, has_blocks=True)


def test_a_file_is_no_terminal() -> None:
    assert find_medium(io.StringIO(), {"TERM": "xterm"}, columns=100) == Medium()


def test_bars_are_ascii_where_blocks_are_not_to_be_had() -> None:
    text = render_table(fleet(), Medium(width=160, has_bars=True))
    assert "#####..." in text
    assert "█" not in text


def test_the_document_has_its_shape() -> None:
    """Programs rely on it: keys may come, none may go."""
    document = json.loads(render_json(fleet(), now=1.75e9))
    amount = {"total", "used", "free", "capacity", "claimed"}
    shares = {"used_share", "claimed_share"}
    amounts = {
        "cpu": amount | shares,
        "memory": {f"{name}_bytes" for name in amount} | shares,
        "disk": {f"{name}_bytes" for name in (*amount, "growth")} | shares,
    }
    assert set(document) == {"version", "timestamp_seconds", "fleet", "hypervisors"}
    assert document["version"] == 1
    counts = {"hypervisors", "up", "with_numbers", "running_vms", "flavor_slots", "shared_storages"}
    assert set(document["fleet"]) == counts | set(amounts)
    assert len(document["hypervisors"]) == 6
    for each in document["hypervisors"]:
        assert set(each) == {
            "target", "hypervisor_hostname", "state", "up", "age_seconds", "seconds_since_success", "fullest",
            "running_vms", "domains", "flavor_slots", "storage", "problems", *amounts,
        }  # fmt: skip
        assert {name: set(each[name]) for name in amounts} == amounts
    problem = document["hypervisors"][-1]["problems"][0]
    assert set(problem) == {"reason", "message", "meaning", "action", "is_note"}


def test_the_document_has_the_numbers() -> None:
    """In bytes and CPUs; null where a hypervisor is down."""
    document: dict[str, Any] = json.loads(render_json(fleet(), now=1.75e9))
    first, last = document["hypervisors"][0], document["hypervisors"][-1]
    assert first["hypervisor_hostname"] == "kvm02.example.net"
    assert first["fullest"] == {"resource": "disk", "share": 1.0}
    assert first["memory"]["used_bytes"] == 402 * 2**30
    assert first["cpu"] == {
        "total": 64, "used": 88, "free": -24, "capacity": 256, "claimed": 94,
        "used_share": 1.375, "claimed_share": 0.3672,
    }  # fmt: skip
    assert (last["state"], last["up"], last["hypervisor_hostname"], last["fullest"]) == (
        "down",
        False,
        None,
        None,
    )
    assert last["memory"]["total_bytes"] is None
    assert document["fleet"]["up"] == 5


def test_guests_that_are_not_known_are_a_dash_and_null() -> None:
    """Shows it where libvirt gives no list of domains: no 0, which would mean that all is free."""
    unknown = {
        "vcpus_used": None,
        "running_vms": None,
        "domains_by_state": None,
        "storage_overcommitted_bytes": None,
        "inventories": (make_inventory(claimed=None),),
        "flavor_slots": (),
    }
    seen = make_fleet([make_view(snapshot=make_snapshot(**unknown))])
    _, row, total = render_table(seen, Medium()).splitlines()[2:5]
    assert re.split(r"  +", row)[2:5] == ["1 min", UNKNOWN, UNKNOWN]
    assert (re.split(r"  +", row)[-1], re.split(r"  +", total)[-1]) == (UNKNOWN, UNKNOWN)
    document = json.loads(render_json(seen, now=1.75e9))
    (host,) = document["hypervisors"]
    assert host["cpu"] == {
        "total": 11, "used": None, "free": None, "capacity": 72, "claimed": None,
        "used_share": None, "claimed_share": None,
    }  # fmt: skip
    assert (host["running_vms"], host["domains"], host["disk"]["growth_bytes"]) == (None, {}, None)
    assert host["memory"]["used_bytes"] is not None
    assert document["fleet"]["running_vms"] is None

"""What `make run` shows a newcomer: a made-up hypervisor, but a believable one, as the documents print it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from exporter.model import DomainState

CHECKOUT = Path(__file__).resolve().parents[2]
URI = f"test://{CHECKOUT}/deploy/demo/hypervisor.xml"


def run(form: str) -> str:
    """Return what `--once` prints of it."""
    command = [sys.executable, "-m", "exporter", "--once", "--libvirt.uri", URI, "--format", form]
    result = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    """The one hypervisor, as --format json has it."""
    (hypervisor,) = json.loads(run("json"))["hypervisors"]
    return dict(hypervisor)


def test_the_pages_table_is_what_comes(seen: dict[str, Any]) -> None:
    """But for the columns' width, which the host's name decides, and for a slow machine's seconds."""
    page = (CHECKOUT / "docs" / "page.md").read_text()
    shown = page.partition("```console\n")[2].partition("\n```")[0].splitlines()[1:]
    printed = [re.split(r" {2,}", line) for line in shown if line]
    table = re.sub(r"\b\d+ s\b", "0 s", run("table"))
    came = [re.split(r" {2,}", line) for line in table.splitlines() if line]
    assert printed[2][0] == "kvm01"
    came[2][0] = came[2][0].replace(seen["hypervisor_hostname"], "kvm01")
    assert printed == came


def test_it_could_be_a_real_one(seen: dict[str, Any]) -> None:
    """256 GiB; nothing wrong, nothing negative, nothing promised twice. Six guests share 3 CPUs."""
    assert (seen["state"], seen["problems"]) == ("up", [])
    assert (seen["cpu"]["total"], seen["cpu"]["used_share"]) == (3, 2)
    assert seen["memory"]["total_bytes"] == 256 * 2**30
    for resource in ("memory", "disk"):
        amount = seen[resource]
        assert all(number > 0 for number in amount.values()), amount
        assert 0.1 < amount["used_share"] < 0.9
    for resource in ("cpu", "memory", "disk"):
        assert 0.1 < seen[resource]["claimed_share"] < 0.9
    assert seen["disk"]["growth_bytes"] == 30 * 2**30


def test_its_guests_are_in_several_states(seen: dict[str, Any]) -> None:
    states = {name: count for name, count in seen["domains"].items() if count}
    assert states == {
        DomainState.RUNNING.name.lower(): 5,
        DomainState.PAUSED.name.lower(): 1,
        DomainState.SHUTOFF.name.lower(): 1,
    }

"""docs/decisions.md says what each of libvirt's calls waits for; here that is measured again.

`python -m tests.support.call_waits` prints the table as this machine's libvirt has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest

from tests.support.call_waits import CALLS, measure
from tests.support.sandbox import SandboxError

_DECISIONS = Path(__file__).resolve().parents[2] / "docs/decisions.md"
_HEADER = ("monitor", "job", "lock", "worker")


def _read_table() -> dict[str, dict[str, str]]:
    """Return the rows of the table by their call: of each column what its cell says."""
    _, _, after = _DECISIONS.read_text().partition(f"\n| call | {' | '.join(_HEADER)} |\n")
    lines = after.partition("\n\n")[0].splitlines()[1:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {call.strip("`"): dict(zip(_HEADER, cells, strict=True)) for call, *cells in rows}


TABLE = _read_table()


@pytest.fixture(scope="module")
def measured(libvirt_cache: Path) -> Iterator[dict[str, dict[str, bool]]]:
    """What was measured here, of all calls."""
    try:
        yield measure(libvirt_cache)
    except SandboxError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.mark.parametrize("call", CALLS)
def test_a_call_waits_for_what_the_table_says(call: str, measured: dict[str, dict[str, bool]]) -> None:
    """Shows what a call waits for on this libvirt: a guest's monitor, its job, its lock, a worker."""
    assert measured[call] == {what: _is_said_to_wait(TABLE[call][what]) for what in _HEADER}


def test_the_table_has_each_call_that_is_measured_and_no_other() -> None:
    """Shows that nothing is written there that no test looks at."""
    assert list(TABLE) == list(CALLS)


def _is_said_to_wait(cell: str) -> bool:
    """Return what a cell says of this machine's libvirt: nothing, "waits" or "waits from 11.0"."""
    if not cell:
        return False
    since = re.fullmatch(r"waits(?: from (\d+)\.(\d+))?", cell)
    assert since, f"neither empty nor a word that is known: {cell}"
    major, minor = since.groups(default="0")
    return bool(libvirt.getVersion() >= int(major) * 1_000_000 + int(minor) * 1000)

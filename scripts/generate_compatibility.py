"""Write docs/compatibility.md from the records that the tests leave. `make compatibility` runs it.

The records of the machines that the page names are kept in docs/compatibility/; those that `make test-on`
left in .cache/results since then take their places.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_CHECKOUT = Path(__file__).resolve().parent.parent
RECORDS = _CHECKOUT / "docs" / "compatibility"
PAGE = _CHECKOUT / "docs" / "compatibility.md"
_RESULTS = _CHECKOUT / ".cache" / "results"

_PROGRAMS = ("Python", "libvirt", "QEMU", "Nova", "Prometheus")

_HEAD = """# What runs where

Made by `make compatibility` from what the tests wrote down; do not edit.

Each row is one run of `make run`, `make test` and `make lint` on a bare Debian: nothing is installed there
but git and make, and the commands install the rest. `make test-on RELEASE=trixie` does the same for you, on
any Debian machine, as root; CI does it for every change. All guests are emulated (QEMU without KVM).

"""
_TAIL = """

Other systems:

- Ubuntu 24.04 and 26.04: `make` knows the names of the packages; no run is on record. There is no Chromium as
  a .deb there, so that the tests of the page are left out, and say so.
- Fedora and its kin: `make` knows the names of the packages; no run is on record. There is no package of Nova
  there, so that the comparison with it is left out.
- The unit tests run under Python 3.10 to 3.14 (`make test-pythons`).
"""


def read_records(folder: Path) -> list[Mapping[str, Any]]:
    """Return the records in the folder, oldest libvirt first."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")]
    return sorted(
        records, key=lambda record: [int(each) for each in record["versions"]["libvirt"].split(".")]
    )


def render_page(records: Iterable[Mapping[str, Any]]) -> str:
    """Return the page's text."""
    records = list(records)
    if not records:
        return _HEAD + "No run is on record yet.\n" + _TAIL
    columns = ("machine", *_PROGRAMS, "tests passed", "failed", "left out", "minutes", "on")
    table = [_row(columns), "|" + "---|" * len(columns), *(_row(_cells(record)) for record in records)]
    return _HEAD + "\n".join([*table, "", *_list_left_out(records)]) + _TAIL


def _cells(record: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        record["machine"],
        *(record["versions"].get(program, "none") for program in _PROGRAMS),
        f"{record['passed']:,}{' (stopped before the end)' if record.get('stopped') else ''}",
        str(record["failed"]),
        str(sum(record["left_out"].values())),
        str(record["minutes"]),
        record["date"],
    )


def _list_left_out(records: Iterable[Mapping[str, Any]]) -> list[str]:
    reasons = [
        f"- {record['machine']}: {reason} ({count})"
        for record in records
        for reason, count in sorted(record["left_out"].items())
    ]
    return ["Left out, and why:", "", *reasons] if reasons else ["Nothing was left out."]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    RECORDS.mkdir(exist_ok=True)
    for result in _RESULTS.glob("*.json"):
        shutil.copy(result, RECORDS)
    PAGE.write_text(render_page(read_records(RECORDS)), encoding="utf-8")

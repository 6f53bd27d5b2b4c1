"""Write docs/compatibility.md from the records of the tests. `make compatibility` runs it.

docs/compatibility/ has the records of the machines on the page. Newer records that `make test-on` left in
.cache/results replace them.
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

Made by `make compatibility` from the records of the tests; do not edit.

Each row is one run of `make run`, `make test` and `make lint` on a bare Debian. Only git and make are
installed there; the commands install the rest. `make test-on RELEASE=trixie` does the same on any Debian
machine, as root. CI does it for every change. All guests are emulated (QEMU without KVM).

"""
_TAIL = """

Other systems:

- Ubuntu 24.04 and 26.04: `make` knows the names of the packages, but no run is recorded. Ubuntu has no .deb
  of Chromium, so the tests of the page are skipped and say so.
- Fedora and similar: `make` knows the names of the packages, but no run is recorded. Fedora has no package of
  Nova, so the comparison with Nova is skipped.
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
        return _HEAD + "No run is recorded yet.\n" + _TAIL
    columns = ("machine", *_PROGRAMS, "tests passed", "failed", "skipped", "minutes", "date")
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
    return ["Skipped, and why:", "", *reasons] if reasons else ["Nothing was skipped."]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    RECORDS.mkdir(exist_ok=True)
    for result in _RESULTS.glob("*.json"):
        shutil.copy(result, RECORDS)
    PAGE.write_text(render_page(read_records(RECORDS)), encoding="utf-8")

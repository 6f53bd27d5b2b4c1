"""docs/compatibility.md says what the tests wrote down."""

from __future__ import annotations

from typing import Any

from scripts.generate_compatibility import PAGE, RECORDS, read_records, render_page
from tests.support.recording import read_machine


def make_record(**changes: Any) -> dict[str, Any]:
    versions = {"Python": "3.13.5", "libvirt": "11.3.0", "QEMU": "10.0.2", "Prometheus": "2.53.3"}
    return {
        "machine": "Debian 13 (trixie)",
        "versions": versions,
        "passed": 1404,
        "failed": 0,
        "left_out": {"only root can build the image": 3},
        "minutes": 9,
        "date": "2026-11-28",
        **changes,
    }


def test_the_page_is_what_make_compatibility_writes() -> None:
    """Shows that nobody wrote a better row than the tests did."""
    assert PAGE.read_text(encoding="utf-8") == render_page(read_records(RECORDS))


def test_a_row_has_every_program_and_says_which_is_not_there() -> None:
    """Shows a row as it is drawn, and below the table the reason of what is skipped."""
    page = render_page([make_record()])
    row = "| Debian 13 (trixie) | 3.13.5 | 11.3.0 | 10.0.2 | none | 2.53.3 | 1,404 | 0 | 3 | 9 | 2026-11-28 |"
    assert row in page.splitlines()
    assert "- Debian 13 (trixie): only root can build the image (3)" in page.splitlines()


def test_a_page_without_reasons_says_that_nothing_was_skipped() -> None:
    """Shows that an empty list is no riddle."""
    assert "Nothing was skipped." in render_page([make_record(left_out={})]).splitlines()


def test_a_run_that_was_stopped_and_one_that_never_was_are_told_as_such() -> None:
    """Shows that nobody takes part of the tests for all of them."""
    assert "| 1,404 (stopped before the end) |" in render_page([make_record(stopped=True)])
    assert "No run is recorded yet." in render_page([])


def test_a_machine_is_called_what_it_calls_itself() -> None:
    """Shows it for a release and for unstable, whose os-release has no version."""
    assert read_machine('NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n') == "Debian 13 (trixie)"
    assert read_machine('PRETTY_NAME="Debian GNU/Linux forky/sid"\n') == "Debian forky/sid"

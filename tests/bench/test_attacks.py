"""What `make bench-attacks` counts as a broken promise."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.attacked import LeftLog, Look
from bench.attacks import Bounds, Outcome, Scrapes, describe, read_bounds

BOUNDS = Bounds(descriptors=600, threads=40, memory_mib=256)
SCRAPES = Scrapes(
    path="/metrics",
    count=40,
    failed=0,
    expected=39,
    median_seconds=0.1,
    longest_seconds=1.0,
    well_down=0,
)
GOOD = Outcome(
    seconds=600.0,
    scrapes=[SCRAPES],
    errors=[],
    looks=[Look(at=float(at), descriptors=600, threads=40, memory_mib=100.0 + at) for at in (1, 100, 500)],
    log=LeftLog(read_bytes=1000, dropped=7),
    begun={"send nothing": 3},
)


def test_a_run_without_a_failed_scrape_and_within_the_bounds_is_good() -> None:
    assert Outcome.find_failures(replace(GOOD, looks=GOOD.looks[:2]), BOUNDS) == []


@pytest.mark.parametrize(
    ("change", "failure"),
    [
        ({"scrapes": [replace(SCRAPES, failed=1)]}, "/metrics: 40 scrapes, 39 expected, 1 failed"),
        ({"scrapes": [replace(SCRAPES, count=38)]}, "/metrics: 38 scrapes, 39 expected, 0 failed"),
        ({"errors": ["/metrics at 1: EOF"]}, "/metrics at 1: EOF"),
        ({"looks": [Look(1.0, 601, 40, 256.0)]}, "descriptors: 601, SECURITY.md says 600"),
        ({"looks": [Look(1.0, 600, 41, 256.0)]}, "threads: 41, SECURITY.md says 40"),
        ({"looks": [Look(1.0, 600, 40, 257.0)]}, "memory_mib: 257, SECURITY.md says 256"),
        ({"log": LeftLog(2**21, 0)}, "log: 2097152 bytes waited for a reader"),
        ({"begun": {"send nothing": 0}}, "attack never begun: send nothing"),
    ],
)
def test_each_broken_promise_is_said(change: dict[str, object], failure: str) -> None:
    good = replace(GOOD, looks=GOOD.looks[:2])
    assert replace(good, **change).find_failures(BOUNDS) == [failure]  # type: ignore[arg-type]


def test_security_md_says_what_the_whole_process_uses() -> None:
    assert read_bounds().descriptors > 512


def test_the_page_shows_whether_the_process_grows() -> None:
    """The most of the first fifth, of the last one, and of all."""
    text = describe(replace(GOOD, begun={}), BOUNDS, attackers=[])
    assert "| resident memory, MiB | 200 | 600 | 600 | 256 |" in text
    assert "| `/metrics` | 40 | 0 | 0.10 | 1.00 | 0 |" in text

"""The benchmark of single guests runs from end to end, as small as it can be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bench.guests import OFF, ON

CHECKOUT = Path(__file__).resolve().parents[2]
SMALL = ["--guests=2", "--scrapes=5", "--rare=0", "--rounds=0", "--frozen=0"]


def test_everybody_is_measured_and_the_page_written(tmp_path: Path) -> None:
    """The collector has more series, and its section stands under a heading of its own."""
    page = tmp_path / "performance.md"
    page.write_text("# Performance\n")
    command = [sys.executable, "-m", "bench.guests", *SMALL, "--page", str(page)]
    subprocess.run(command, cwd=CHECKOUT, check=True, timeout=120)
    text = page.read_text()
    assert text.startswith("# Performance\n\n## The guests themselves\n")
    two = text.partition("**2 running guests**")[2].partition("**")[0]
    rows = {line.split("|")[1].strip(): line.split("|") for line in two.splitlines() if line.startswith("|")}
    series = {name: int(rows[name][7].replace(",", "")) for name in (OFF, ON)}
    assert series[ON] >= series[OFF] + 2 * 5

"""The benchmarks run from end to end, as small as they can be; how fast anything is, is not tested."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

from bench.measure import Cost
from bench.plot import Line, draw_plot

CHECKOUT = Path(__file__).resolve().parents[2]
SMALL = ["--guests=2", "--no-frozen", "--hypervisors=2", "--test-guests=2", "--rounds=1", "--scrapes=1"]


def test_everybody_is_measured_and_the_page_written(tmp_path: Path) -> None:
    """What a person wrote on the page stays; a cold scrape connects and reads guests, a warm one does not."""
    page = tmp_path / "performance.md"
    page.write_text("# Performance\n\nWritten by a person.\n")
    subprocess.run(
        [sys.executable, "-m", "bench", *SMALL, "--page", str(page)], cwd=CHECKOUT, check=True, timeout=120
    )
    text = page.read_text()
    assert text.startswith("# Performance\n\nWritten by a person.\n")
    rows = {line.split("|")[1].strip(): line.split("|") for line in text.splitlines() if line.startswith("|")}
    warm, cold = rows["this exporter, warm"], rows["this exporter, cold"]
    calls_for_each_guest, calls_to_connect = 1, 10
    assert 0 < int(warm[8]) <= int(cold[8]) - 2 * calls_for_each_guest - calls_to_connect  # libvirt calls
    assert int(rows["the floor: the same reads alone"][8]) == int(warm[8])
    assert {"2"} <= set(rows)
    ElementTree.parse(page.with_suffix(".svg"))


def test_a_plot_is_drawn_of_figures_that_are_orders_of_magnitude_apart(tmp_path: Path) -> None:
    """A thousand times as much lies three decades higher."""
    lines = [Line("one", [(0, 1.0), (10, 1.0)]), Line("other", [(0, 1000.0), (10, 1000.0)])]
    draw_plot(tmp_path / "plot.svg", lines, x="guests", y="ms")
    root = ElementTree.parse(tmp_path / "plot.svg").getroot()
    ends = [each.get("points", "").split()[-1] for each in root.iter("{http://www.w3.org/2000/svg}polyline")]
    assert ends == ["530.0,350.0", "530.0,20.0"]


def test_the_99th_percentile_of_few_scrapes_is_the_longest() -> None:
    assert Cost(scrape_seconds=[3.0, 1.0, 2.0]).p99_seconds == 3.0
    assert Cost(scrape_seconds=[float(number) for number in range(1000)]).p99_seconds == 990.0

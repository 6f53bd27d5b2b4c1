"""Draw docs/images/board-*.png: every board, dark and light, over a simulated fleet.

usage: make board-pictures RENDERER=PATH

RENDERER is a command that draws a dashboard without a Grafana server. It is not part of this project. It is
run as `RENDERER DASHBOARD.json PROMETHEUS_URL OUT.png --theme dark|light --var NAME=VALUE`. It fails if a
panel has an error or no data. If pngquant is installed, it makes the pictures smaller.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from tests.support.guest_samples import WAITING, domain_of
from tests.support.prometheus_server import PrometheusServer
from tests.support.simulated_fleet import SimulatedFleet

CHECKOUT = Path(__file__).resolve().parent.parent
IMAGES = CHECKOUT / "docs" / "images"
DASHBOARDS = CHECKOUT / "grafana" / "dashboards"

_HOUR = 3600
_PAST_HOURS = 13  # trends look back 6 hours, and the pictures show 6
_SHOWN_HOURS = 6
_STEP = 60


def main() -> None:
    """Fill a Prometheus and draw every picture."""
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: make board-pictures RENDERER=PATH  (a command that draws a dashboard)")
    hypervisors = int(sys.argv[2]) if len(sys.argv) > 2 else 100
    ends = int(time.time()) // _STEP * _STEP
    full_number = hypervisors * 3 // 10
    fleet = SimulatedFleet(
        hypervisors=hypervisors,
        ends=ends,
        pinned_every=3,
        down=frozenset({hypervisors // 2}),
        full=frozenset({full_number}),
        stale=frozenset({hypervisors // 4}),
        guests_of=frozenset({full_number, full_number + 1}),
    )
    prometheus = PrometheusServer(interval="1h")
    try:
        _fill(prometheus, fleet, ends)
        # It also has dedicated CPUs, devices and shared storage, so every panel of the detail board shows
        # something.
        (full,) = prometheus.query(
            'topk(1, hypervisor:resource:claimed_ratio{resource_class="MEMORY_MB"})', at=ends
        )
        for theme in ("dark", "light"):
            _draw(sys.argv[1], prometheus, ends, "hypervisor-overview", theme)
            name = full["metric"]["hypervisor_hostname"]
            _draw(sys.argv[1], prometheus, ends, "hypervisor-detail", theme, f"hypervisor={name}")
            guest = domain_of(full_number, WAITING)
            variables = (f"hypervisor={name}", f"guest={guest}")
            _draw(sys.argv[1], prometheus, ends, "hypervisor-guests", theme, *variables)
    finally:
        prometheus.__exit__(None, None, None)
    _draw_right_sizing(sys.argv[1])


def _draw_right_sizing(renderer: str) -> None:
    """Draw what guests use of what they claim. It needs a day, so it has a smaller fleet of its own."""
    step = 2 * _STEP
    ends = int(time.time()) // step * step
    fleet = SimulatedFleet(hypervisors=6, ends=ends, guests_of=frozenset(range(6)))
    prometheus = PrometheusServer(interval="1h")
    try:
        board = json.loads((DASHBOARDS / "hypervisor-right-sizing.json").read_text(encoding="utf-8"))
        asked = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
        _fill(prometheus, fleet, ends, hours=25, step=step, read_by=asked)
        for theme in ("dark", "light"):
            _draw(renderer, prometheus, ends, "hypervisor-right-sizing", theme)
    finally:
        prometheus.__exit__(None, None, None)


def _fill(
    prometheus: PrometheusServer,
    fleet: SimulatedFleet,
    ends: int,
    *,
    hours: int = _PAST_HOURS,
    step: int = _STEP,
    read_by: Sequence[str] | None = None,
) -> None:
    samples = prometheus.root / "samples"
    fleet.write(samples, seconds=hours * _HOUR, step=step)
    prometheus.fill(samples)
    samples.unlink()
    prometheus.start()
    prometheus.fill_rules(start=ends - hours * _HOUR, end=ends, interval=f"{step}s", read_by=read_by)


def _draw(
    renderer: str, prometheus: PrometheusServer, ends: int, board: str, theme: str, *variables: str
) -> None:
    """Draw one picture of the last simulated hours."""
    content = json.loads((DASHBOARDS / f"{board}.json").read_text(encoding="utf-8"))
    content["time"] = {"from": _iso(ends - _SHOWN_HOURS * _HOUR), "to": _iso(ends)}
    IMAGES.mkdir(exist_ok=True)
    picture = IMAGES / f"board-{board.removeprefix('hypervisor-')}-{theme}.png"
    with tempfile.TemporaryDirectory() as directory:
        dashboard = Path(directory, "board.json")
        dashboard.write_text(json.dumps(content), encoding="utf-8")
        more = [argument for variable in variables for argument in ("--var", variable)]
        command = [renderer, str(dashboard), prometheus.url, str(picture), "--theme", theme]
        subprocess.run([*command, "--scrape-interval", f"{_STEP}s", *more], check=True, timeout=300)
    if shutil.which("pngquant"):
        subprocess.run(["pngquant", "--force", "--ext=.png", "--quality=60-95", str(picture)], check=True)


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")


if __name__ == "__main__":
    main()

"""How fast the overview board's panels answer over a large fleet that is made up.

usage: python -m bench.boards [--hypervisors 10000] [--step 30] [--repeat 5]

One hour of simulated hypervisors goes into a real Prometheus, and the recording rules over that hour. Then
each panel's queries are sent together, as Grafana sends them, for the whole hour, and the time of the slowest
counts. Prints a table in Markdown; with 10,000 hypervisors this takes 15 minutes and 8 GB of disk.
"""

from __future__ import annotations

import argparse
import statistics
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.grafana.boards import BOARDS, Json, interpolate, panels
from tests.support.prometheus_server import PrometheusServer
from tests.support.simulated_fleet import FLAVORS, SimulatedFleet

_SECONDS = 3600
_PIXELS_OF_A_COLUMN = 60
_SHORTEST_STEP = 15  # Grafana asks for no more points than are scraped


@dataclass(frozen=True)
class Asker:
    """Asks as Grafana does.

    :param ends: the end of the time range, in seconds since the epoch
    :param chosen: what the hidden variables found: regular expressions, by name
    """

    prometheus: PrometheusServer
    ends: int
    chosen: Mapping[str, str]

    def measure(self, panel: Json) -> float:
        """Return in how many seconds all queries of the panel are answered."""
        started = time.monotonic()
        with ThreadPoolExecutor(max_workers=len(panel["targets"])) as pool:
            list(pool.map(lambda query: self._ask(panel, query), panel["targets"]))
        return time.monotonic() - started

    def _ask(self, panel: Json, query: Json) -> None:
        expr = interpolate(query["expr"], **self.chosen, flavor=next(iter(FLAVORS)), __range=f"{_SECONDS}s")
        if query["instant"]:
            self._send("query", query=expr, time=self.ends)
            return
        points = panel.get("maxDataPoints", panel["gridPos"]["w"] * _PIXELS_OF_A_COLUMN)
        step = max(_SHORTEST_STEP, _SECONDS / points)
        self._send("query_range", query=expr, start=self.ends - _SECONDS, end=self.ends, step=step)

    def _send(self, path: str, **parameters: str | float) -> None:
        """Ask and read the whole answer; what is made of it is the browser's business."""
        url = f"{self.prometheus.url}/api/v1/{path}"
        body = urllib.parse.urlencode(parameters).encode()
        with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=60) as response:
            answer = response.read()
        assert answer.startswith(b'{"status":"success"'), answer[:200]


def fill(prometheus: PrometheusServer, *, hypervisors: int, ends: int, step: int) -> int:
    """Put the fleet's hour into a Prometheus, which runs afterwards, and return the number of its series."""
    fleet = SimulatedFleet(hypervisors=hypervisors, ends=ends, pinned_every=4, zones=20, down=frozenset({5}))
    samples = prometheus.root / "samples"
    series = fleet.write(samples, seconds=_SECONDS, step=step)
    prometheus.fill(samples)
    samples.unlink()
    prometheus.start()
    prometheus.fill_rules(start=ends - _SECONDS, end=ends, interval=f"{step}s")
    return series


def measure(prometheus: PrometheusServer, *, ends: int, repeat: int) -> None:
    """Print how long each panel takes: at best, when nothing else runs, and in the median."""
    board = BOARDS["hypervisor-overview"]
    chosen = {}
    for variable in board["templating"]["list"]:
        if variable["name"] in ("fullest", "waiting"):
            query = variable["query"]["query"].removeprefix("query_result(").removesuffix(")")
            found = prometheus.query(interpolate(query), at=ends)
            chosen[variable["name"]] = "|".join(each["metric"]["hypervisor_hostname"] for each in found)
    asker = Asker(prometheus, ends, chosen)
    print("| panel | queries | fastest | median |\n|---|---:|---:|---:|")
    for panel in panels(board):
        seconds = [asker.measure(panel) for _ in range(repeat)]
        print(
            f"| {panel['title']} | {len(panel['targets'])} | {min(seconds) * 1000:.0f} ms "
            f"| {statistics.median(seconds) * 1000:.0f} ms |",
            flush=True,
        )


def main() -> None:
    """Fill and measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--hypervisors", type=int, default=10_000)
    parser.add_argument("--step", type=int, default=30, help="seconds between scrapes")
    parser.add_argument("--repeat", type=int, default=5)
    arguments = parser.parse_args()
    ends = int(time.time()) // 60 * 60
    prometheus = PrometheusServer(interval="1h")
    try:
        series = fill(prometheus, hypervisors=arguments.hypervisors, ends=ends, step=arguments.step)
        print(f"{arguments.hypervisors} hypervisors, {series} series, a sample every {arguments.step} s\n")
        measure(prometheus, ends=ends, repeat=arguments.repeat)
    finally:
        prometheus.__exit__(None, None, None)


if __name__ == "__main__":
    main()

"""Every query about guests answers, on a real Prometheus that holds simulated guests."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.grafana.boards import BOARDS, Json, interpolate, panels, queries, selectors
from tests.support import guest_samples
from tests.support.prometheus_server import PrometheusServer
from tests.support.simulated_fleet import SimulatedFleet

_STEP = 30
# The fourth hypervisor, which is a large one, shows its guests. The second does not.
NUMBER = 3
HOST, OTHER = "kvm04", "kvm02"
GUEST = guest_samples.domain_of(NUMBER, guest_samples.WAITING)


@dataclass(frozen=True)
class World:
    """A Prometheus, and when its samples end."""

    prometheus: PrometheusServer
    ends: int

    def ask(self, expr: str, **values: str) -> list[Json]:
        """Ask a query as Grafana does, at the end of the simulated time."""
        chosen = {"hypervisor": HOST, "guest": GUEST, "__rate_interval": "2m", **values}
        return self.prometheus.query(interpolate(expr, **chosen), at=self.ends)

    def ask_panel(self, board: str, title: str, **values: str) -> dict[str, float]:
        """Return the answer of a panel's first query, by the label `name` or the only other one."""
        panel = next(each for each in panels(BOARDS[board]) if each["title"] == title)
        return {
            each["metric"].get("name", ""): float(each["value"][1])
            for each in self.ask(panel["targets"][0]["expr"], **values)
        }


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    ends = int(time.time()) // _STEP * _STEP - 3600
    fleet = SimulatedFleet(hypervisors=4, ends=ends, guests_of=frozenset({NUMBER}))
    prometheus = PrometheusServer(interval="1h")
    try:
        samples = prometheus.root / "samples"
        fleet.write(samples, seconds=600, step=_STEP)
        prometheus.fill(samples)
        prometheus.start()
        asked = [query["expr"] for board in BOARDS.values() for _, query in queries(board)]
        prometheus.fill_rules(start=ends - 120, end=ends, interval=f"{_STEP}s", read_by=asked)
        yield World(prometheus, ends)
    finally:
        prometheus.__exit__(None, None, None)


def test_every_query_of_the_board_of_guests_answers(world: World) -> None:
    for panel, query in queries(BOARDS["hypervisor-guests"]):
        # This guest runs.
        assert bool(world.ask(query["expr"])) != ('state!="running"' in query["expr"]), panel["title"]


def test_every_query_of_the_overview_about_guests_answers(world: World) -> None:
    about = [
        (panel["title"], query["expr"])
        for panel, query in queries(BOARDS["hypervisor-overview"])
        if any(each.name.startswith("guest:") for each in selectors(query["expr"]))
    ]
    assert len(about) > 4
    for title, expr in about:
        assert world.ask(expr, hypervisor=".*"), title


def test_without_the_collector_every_panel_about_guests_says_what_it_needs(world: World) -> None:
    """Empty, and in words: a panel without data shows its noValue."""
    for board in ("hypervisor-guests", "hypervisor-overview"):
        for panel in panels(BOARDS[board]):
            if not any(
                each.name.startswith("guest:")
                for query in panel["targets"]
                for each in selectors(query["expr"])
            ):
                continue
            for query in panel["targets"]:
                assert world.ask(query["expr"], hypervisor=OTHER) == [], panel["title"]
            assert panel["fieldConfig"]["defaults"]["noValue"] is not None, panel["title"]


def test_the_bars_are_the_ten_largest_with_their_names(world: World) -> None:
    """One guest waits for 35 % of its time, the others hardly do. One makes 490 requests on each disk."""
    waits = world.ask_panel("hypervisor-guests", "Waiting for a CPU: the ten that wait most")
    assert {name: round(share, 2) for name, share in waits.items()} == {"analytics-db-1": 0.35}
    assert len(world.ask_panel("hypervisor-guests", "CPU: the ten that use most")) == 10
    requests = world.ask_panel("hypervisor-guests", "IOPS: the ten that make most requests")
    limited = guest_samples.domain_of(NUMBER, guest_samples.LIMITED)
    disks = world.ask(f'hypervisor_guest_disk_info{{domain="{limited}"}}')
    assert round(max(requests.values())) == 490 * len(disks)


def test_a_project_chooses_its_guests(world: World) -> None:
    used = world.ask_panel("hypervisor-guests", "CPU: the ten that use most", project="shop")
    assert used
    assert {name.partition("-")[0] for name in used} == {"shop"}

"""Every query of the board of right-sizing answers, over a real Prometheus that holds a simulated day."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.grafana.boards import BOARDS, Json, interpolate, panels, queries
from tests.support.prometheus_server import PrometheusServer
from tests.support.simulated_fleet import SimulatedFleet

_BOARD = BOARDS["hypervisor-right-sizing"]
# The rules look back over 5 min, and need two samples. Prometheus 3 does not count one at the very beginning.
_STEP = 120
_SECONDS = 25 * 3600


@dataclass(frozen=True)
class World:
    """A Prometheus, and when its samples end."""

    prometheus: PrometheusServer
    ends: int

    def ask(self, expr: str, **values: str) -> list[Json]:
        """Ask a query as Grafana does, at the end of the simulated time."""
        return self.prometheus.query(interpolate(expr, **values), at=self.ends)

    def ask_panel(self, title: str, column: int = 0, **values: str) -> list[tuple[Json, float]]:
        """Return the answer of a panel's query: labels and value."""
        panel = next(each for each in panels(_BOARD) if each["title"] == title)
        found = self.ask(panel["targets"][column]["expr"], **values)
        return [(each["metric"], float(each["value"][1])) for each in found]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    ends = int(time.time()) // _STEP * _STEP - 3600
    fleet = SimulatedFleet(hypervisors=2, ends=ends, guests_of=frozenset({0, 1}))
    prometheus = PrometheusServer(interval="1h")
    try:
        samples = prometheus.root / "samples"
        fleet.write(samples, seconds=_SECONDS, step=_STEP)
        prometheus.fill(samples)
        prometheus.start()
        asked = [query["expr"] for _, query in queries(_BOARD)]
        prometheus.fill_rules(start=ends - _SECONDS, end=ends, interval=f"{_STEP}s", read_by=asked)
        yield World(prometheus, ends)
    finally:
        prometheus.__exit__(None, None, None)


def test_every_query_answers(world: World) -> None:
    for panel, query in queries(_BOARD):
        assert world.ask(query["expr"]), panel["title"]


def test_the_guest_that_uses_all_its_cpus_is_the_first_that_needs_more(world: World) -> None:
    """The first guest of each hypervisor uses 78 % of its CPU; the wave adds a quarter to that for a time."""
    found = world.ask_panel("CPU: the 15 that use most of what they claim")
    labels, share = found[0]
    assert labels["name"] == "shop-web-1"
    assert 0.9 < share < 0.78 * 1.26


def test_what_is_unused_is_the_claim_less_the_use(world: World) -> None:
    title = "Memory: the 15 that leave most unused"
    unused, claimed, share = (
        {labels["uuid"]: value for labels, value in found}
        for found in (
            [({"uuid": each[0]["uuid"]}, each[1]) for each in world.ask_panel(title, column)]
            for column in range(3)
        )
    )
    assert unused
    for uuid, left in unused.items():
        assert left == pytest.approx(claimed[uuid] * (1 - share[uuid]))


def test_only_guests_that_tell_what_they_use_are_said_to_need_more_memory(world: World) -> None:
    """The two others would be the first: all that they ever touched is nearly all that they have."""
    found = world.ask('guest:resource:used_p95{resource_class="MEMORY_MB",measured_by="host"}')
    untold = {each["metric"]["uuid"] for each in found}
    shown = world.ask_panel("Memory: the 15 that use most of what they claim")
    assert len(untold) == 2
    assert shown
    assert not untold & {labels["uuid"] for labels, _ in shown}


def test_a_hypervisor_chooses_its_guests(world: World) -> None:
    for title in ("CPU: the 15 that leave most unused", "Memory: the 15 that use most of what they claim"):
        hosts = {labels["hypervisor_hostname"] for labels, _ in world.ask_panel(title, hypervisor="kvm02")}
        assert hosts == {"kvm02"}

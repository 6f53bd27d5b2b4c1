"""Past one machine: two Prometheus servers share the fleet, one is above them, as the examples have it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fleet.conftest import INTERVAL, World
from tests.support.prometheus_server import PrometheusServer
from tests.support.shards import serve_above_shards
from tests.support.waiting import wait_until


@pytest.fixture
def above(world: World) -> Iterator[PrometheusServer]:
    """The Prometheus above two shards of the fleet."""
    with serve_above_shards(world.fleet, interval=INTERVAL) as server:
        yield server


def totals(prometheus: PrometheusServer) -> dict[tuple[str, ...], str]:
    """Return what is the same from one moment to the next: what there is, by all its labels."""
    expr = '{__name__=~"cluster:(resource:(physical|capacity|claimed)|hypervisors:count|running_vms:sum)"}'
    return {
        tuple(f"{name}={value}" for name, value in sorted(sample["metric"].items())): sample["value"][1]
        for sample in prometheus.query(expr)
    }


def test_the_totals_above_the_shards_are_those_of_one_prometheus(
    world: World, above: PrometheusServer
) -> None:
    """To the last label: neither the shard nor the way up is a group."""
    wait_until(lambda: totals(above) == totals(world.prometheus), "the totals to be equal", seconds=60)
    assert len(totals(above)) >= 2 * (3 + 3 + 3 + 2)
    assert above.query("ALERTS") == []

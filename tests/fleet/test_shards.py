"""Past one machine: two Prometheus servers share the fleet, one is above them, as the examples have it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import yaml

from tests.fleet.conftest import INTERVAL, World
from tests.support.prometheus_server import CHECKOUT, PrometheusServer
from tests.support.waiting import wait_until

SCRAPE = CHECKOUT / "prometheus" / "scrape"
SHARDS = 2


def read_example(name: str) -> dict[str, Any]:
    """Return an example, its one scrape configuration apart, and its rule files where they are."""
    settings = yaml.safe_load((SCRAPE / f"{name}.yaml").read_text())
    (scrape_config,) = settings["scrape_configs"]
    return {"scrape": scrape_config, "rules": [(SCRAPE / path).resolve() for path in settings["rule_files"]]}


@pytest.fixture
def above(world: World) -> Iterator[PrometheusServer]:
    """The Prometheus above two shards of the fleet."""
    with ExitStack() as stack:
        addresses = []
        for number in range(SHARDS):
            example = read_example("sharded")
            hashing, keeping = example["scrape"]["relabel_configs"]
            hashing["modulus"], keeping["regex"] = SHARDS, str(number)
            discovery = world.fleet.scrape_config["file_sd_configs"]
            shard = PrometheusServer(
                scrape_configs=[{**example["scrape"], "file_sd_configs": discovery}],
                interval=INTERVAL,
                rule_files=example["rules"],
            )
            file = shard.root / "prometheus.yml"
            settings = yaml.safe_load(file.read_text())
            settings["global"]["external_labels"] = {"shard": str(number)}
            file.write_text(yaml.safe_dump(settings))
            addresses.append(stack.enter_context(shard).url.removeprefix("http://"))
        example = read_example("global")
        example["scrape"]["static_configs"] = [{"targets": addresses}]
        server = PrometheusServer(
            scrape_configs=[example["scrape"]], interval=INTERVAL, rule_files=example["rules"]
        )
        yield stack.enter_context(server)


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

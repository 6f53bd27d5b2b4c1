"""Two Prometheus servers that share a fleet, and one above them, by the examples in prometheus/scrape."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import yaml

from tests.support.fleet import Fleet
from tests.support.prometheus_server import CHECKOUT, PrometheusServer

_SCRAPE = CHECKOUT / "prometheus" / "scrape"
_SHARDS = 2


@contextmanager
def serve_above_shards(fleet: Fleet, *, interval: str) -> Iterator[PrometheusServer]:
    """Start the shards of a fleet, and yield the Prometheus above them."""
    with ExitStack() as stack:
        addresses = []
        for number in range(_SHARDS):
            example = _read_example("sharded")
            hashing, keeping = example["scrape"]["relabel_configs"]
            hashing["modulus"], keeping["regex"] = _SHARDS, str(number)
            discovery = fleet.scrape_config["file_sd_configs"]
            shard = PrometheusServer(
                scrape_configs=[{**example["scrape"], "file_sd_configs": discovery}],
                interval=interval,
                rule_files=example["rules"],
            )
            file = shard.root / "prometheus.yml"
            settings = yaml.safe_load(file.read_text())
            settings["global"]["external_labels"] = {"shard": str(number)}
            file.write_text(yaml.safe_dump(settings))
            addresses.append(stack.enter_context(shard).url.removeprefix("http://"))
        example = _read_example("global")
        example["scrape"]["static_configs"] = [{"targets": addresses}]
        server = PrometheusServer(
            scrape_configs=[example["scrape"]], interval=interval, rule_files=example["rules"]
        )
        yield stack.enter_context(server)


def _read_example(name: str) -> dict[str, Any]:
    """Return an example, its one scrape configuration apart, and its rule files where they are."""
    settings = yaml.safe_load((_SCRAPE / f"{name}.yaml").read_text())
    (scrape_config,) = settings["scrape_configs"]
    return {"scrape": scrape_config, "rules": [(_SCRAPE / path).resolve() for path in settings["rule_files"]]}

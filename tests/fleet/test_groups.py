"""Labels that the configuration gives to hypervisors, as Prometheus is told of them."""

from __future__ import annotations

import json

from tests.support.exporter_process import serve


def test_they_are_target_labels_in_service_discovery_and_an_info_otherwise() -> None:
    """The discovery's own labels cannot be replaced by them; a hypervisor without any has neither."""
    hypervisors = [
        {"name": "one", "uri": "test:///default", "labels": {"zone": "a", "aggregate": "fast"}},
        {"name": "two", "uri": "test:///nonexistent.xml"},
    ]
    with serve({"hypervisors": hypervisors}) as exporter:
        one, two = (group["labels"] for group in json.loads(exporter.get("/sd")))
        series = exporter.scrape().series("hypervisor_labels_info")
    assert one == {
        "zone": "a",
        "aggregate": "fast",
        "__metrics_path__": "/probe",
        "__param_target": "one",
        "instance": "one",
    }
    assert set(two) == {"__metrics_path__", "__param_target", "instance"}
    assert [(labels["zone"], labels["aggregate"], value) for labels, value in series] == [("a", "fast", 1.0)]

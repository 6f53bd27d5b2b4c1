"""Labels that the configuration gives to hypervisors, as Prometheus is told of them."""

from __future__ import annotations

import json

import yaml

from tests.support.exporter_process import serve
from tests.support.prometheus_server import CHECKOUT, RULES, PrometheusServer
from tests.support.waiting import wait_until


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


def test_every_series_has_them_where_prometheus_discovers_by_sd_and_each_is_counted_once() -> None:
    """With the example of a configuration as it is, but for addresses and intervals."""
    hypervisors = [
        {"name": "one", "uri": "test:///default", "labels": {"zone": "a"}},
        {"name": "two", "uri": "test:///nonexistent.xml", "labels": {"zone": "b"}},
    ]
    settings = yaml.safe_load((CHECKOUT / "prometheus" / "scrape" / "sd.yaml").read_text())
    discovering, itself = settings["scrape_configs"]
    with serve({"hypervisors": hypervisors}) as exporter:
        discovering["http_sd_configs"] = [{"url": f"http://{exporter.address}/sd", "refresh_interval": "1s"}]
        itself["static_configs"] = [{"targets": [exporter.address]}]
        with PrometheusServer(
            scrape_configs=[discovering, itself], interval="1s", rule_files=sorted(RULES.glob("*.yaml"))
        ) as prometheus:
            wait_until(
                lambda: len(prometheus.query("cluster:hypervisors:count")) == 2, "both zones", seconds=30
            )
            wait_until(lambda: prometheus.query("cluster:resource:physical"), "a total", seconds=30)
            own = wait_until(
                lambda: prometheus.query("hypervisor_exporter_build_info"), "the exporter's own job"
            )
            (vcpus,) = prometheus.query("hypervisor_vcpus")
            counts = prometheus.query("cluster:hypervisors:count")
            ups = prometheus.query("cluster:hypervisors_up:sum")
    assert len(own) == 1
    assert (vcpus["metric"]["instance"], vcpus["metric"]["zone"]) == ("one", "a")
    assert {sample["metric"]["zone"]: sample["value"][1] for sample in counts} == {"a": "1", "b": "1"}
    assert {sample["metric"]["zone"]: sample["value"][1] for sample in ups} == {"a": "1", "b": "0"}

"""Each collector, on a snapshot of which everything is known."""

from __future__ import annotations

import pytest

from exporter.collectors import COLLECTORS, flavors
from exporter.metric import Collector
from tests.support.records import make_snapshot


@pytest.mark.parametrize("collector", COLLECTORS, ids=lambda collector: collector.name)
def test_it_exports_all_that_it_declares_and_nothing_else(collector: Collector) -> None:
    exported = {sample.metric.name for sample in collector.collect(make_snapshot())}
    assert exported == {metric.name for metric in collector.metrics}


def test_its_names_are_those_of_its_flags_and_its_module() -> None:
    """One word for a collector: its file's name, its flags', and the value of collect[]."""
    modules = [collector.collect.__module__ for collector in COLLECTORS]
    assert modules == [f"exporter.collectors.{collector.name}" for collector in COLLECTORS]
    assert len({collector.name for collector in COLLECTORS}) == len(COLLECTORS)


def test_no_metric_is_declared_by_two() -> None:
    names = [metric.name for collector in COLLECTORS for metric in collector.metrics]
    assert len(set(names)) == len(names)


def test_each_flavor_is_limited_by_its_scarcest_resources() -> None:
    """hypervisor_flavor_slots tells how many fit, hypervisor_flavor_slots_limited_by why no more."""
    samples = [
        (each.metric.name, each.labels.get("resource_class"), each.value)
        for each in flavors.COLLECTOR.collect(make_snapshot())
        if each.labels["flavor"] == "m1.large"
    ]
    assert samples == [
        ("hypervisor_flavor_slots", None, 71),
        ("hypervisor_flavor_slots_limited_by", "VCPU", 0),
        ("hypervisor_flavor_slots_limited_by", "PCPU", 0),
        ("hypervisor_flavor_slots_limited_by", "MEMORY_MB", 1),
        ("hypervisor_flavor_slots_limited_by", "DISK_GB", 0),
    ]

"""A scrape's collectors: each timed, each told of, and none able to take others along."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest

from exporter.metric import Collector, Metric, Sample
from exporter.model import HostView, Snapshot
from exporter.own import OwnMetrics
from exporter.scrape import collect_families
from tests.support.records import make_snapshot, make_view

VCPUS = Metric(name="hypervisor_x", help="X.", labels=("hypervisor_hostname",), source="a test")


def _collect(snapshot: Snapshot) -> Iterator[Sample]:
    hostname = snapshot.resources.hypervisor_hostname
    if hostname == "broken":
        raise KeyError("what nobody thought of")
    yield from VCPUS.samples(snapshot.resources.vcpus, hypervisor_hostname=hostname)


GOOD = Collector(name="good", metrics=(VCPUS,), collect=_collect)


def values_of(name: str, *collectors: Collector, hostnames: tuple[str, ...]) -> dict[str, float]:
    """Return a metric's values by their one label, of hypervisors with these host names."""
    views = [
        make_view(target=hostname, snapshot=make_snapshot(target=hostname, hypervisor_hostname=hostname))
        for hostname in hostnames
    ]
    return {
        next(iter(labels.values())): value
        for family in collect_families(views, collectors)
        for sample_name, labels, value in family.samples
        if sample_name == name
    }


def test_a_collector_that_fails_on_one_hypervisor_still_shows_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR):
        values = values_of("hypervisor_x", GOOD, hostnames=("a", "broken", "b"))
    assert values == {"a": 11, "b": 11}
    (record,) = caplog.records
    assert (record.getMessage(), vars(record)["collector"]) == ("collector failed", "good")
    assert vars(record)["target"] == "broken"
    assert record.exc_info is not None


def test_a_failure_is_a_metric_and_each_collector_has_its_own() -> None:
    bad = Collector(name="bad", metrics=(), collect=lambda _snapshot: [][0])
    values = values_of("hypervisor_exporter_collector_success", GOOD, bad, hostnames=("a",))
    assert values == {"good": 1, "bad": 0}
    durations = values_of("hypervisor_exporter_collector_duration_seconds", GOOD, bad, hostnames=("a",))
    assert durations.keys() == {"good", "bad"}
    assert all(duration >= 0 for duration in durations.values())


def test_a_hypervisor_without_a_snapshot_is_shown_by_how_reaching_it_went() -> None:
    families = collect_families([make_view(snapshot=None, is_up=False)], [GOOD])
    names = {name for family in families for name, _labels, _value in family.samples}
    assert "hypervisor_up" in names
    assert "hypervisor_x" not in names
    assert "hypervisor_snapshot_timestamp_seconds" not in names


def test_a_collector_may_show_how_reaching_a_hypervisor_went_and_fails_alone() -> None:
    def collect_view(view: HostView) -> Iterator[Sample]:
        if view.target == "broken":
            raise KeyError("what nobody thought of")
        yield from VCPUS.samples(view.is_up, hypervisor_hostname=view.target)

    collector = replace(GOOD, collect=lambda _: (), collect_view=collect_view)
    views = [make_view(target=name, snapshot=None, is_up=False) for name in ("a", "broken", "b")]
    (family,) = (each for each in collect_families(views, [collector]) if each.name == "hypervisor_x")
    assert [(labels["hypervisor_hostname"], value) for _, labels, value in family.samples] == [
        ("a", 0),
        ("b", 0),
    ]


@pytest.mark.parametrize(("targets", "shown"), [((), []), (("a",), [11]), (("a", "b"), [12, 12])])
def test_in_a_scrape_of_several_hypervisors_another_collector_may_take_its_place(
    targets: tuple[str, ...], shown: list[float]
) -> None:
    several = replace(GOOD, collect=lambda _: VCPUS.samples(12, hypervisor_hostname="x"))
    views = [make_view(target=target) for target in targets]
    families = collect_families(views, [replace(GOOD, of_several=several)])
    found = [each.samples for each in families if each.name == "hypervisor_x"]
    assert [value for samples in found for _, _, value in samples] == shown


def test_every_family_is_there_once_with_all_its_samples() -> None:
    families = collect_families([make_view(target="a"), make_view(target="b")], [GOOD], OwnMetrics())
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    (up,) = (family for family in families if family.name == "hypervisor_up")
    assert [labels["target"] for _name, labels, _value in up.samples] == ["a", "b"]
    assert "hypervisor_exporter_build" in names

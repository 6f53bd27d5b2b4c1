"""Declarations of metric families: a wrong one is refused before there is a scrape."""

from __future__ import annotations

import pytest

from exporter.deprecation import Deprecation
from exporter.metric import LabelSet, Metric, Sample, Series
from exporter.web.exposition import render_text
from scripts.generate_docs import render_section


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "hypervisor-x"}, "no name for a metric or label"),
        ({"name": "Hypervisor"}, "no name for a metric or label"),
        ({"labels": ("bad label",)}, "no name for a metric or label"),
        ({"name": "hypervisor_x_total"}, "counters, and only they, end in _total"),
        ({"type": "counter"}, "counters, and only they, end in _total"),
        ({"type": "counter", "is_foreign": True}, "counters, and only they, end in _total"),
        ({"name": "hypervisor_x_info"}, "infos, and only they, end in _info"),
        ({"type": "info"}, "infos, and only they, end in _info"),
    ],
)
def test_what_is_declared_wrongly_is_refused(changes: dict[str, object], message: str) -> None:
    declaration = {"name": "hypervisor_x", "help": "X.", "labels": ("target",), "source": "a test", **changes}
    with pytest.raises(ValueError, match=message):
        Metric(**declaration)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "unit"),
    [("hypervisor_x_bytes", "bytes"), ("hypervisor_x_seconds", "seconds"), ("hypervisor_x", "")],
)
def test_a_base_unit_is_told_by_the_name(name: str, unit: str) -> None:
    assert Metric(name=name, help="X.", labels=(), source="a test").unit == unit


def test_a_sample_has_the_declared_labels_and_no_others() -> None:
    metric = Metric(name="hypervisor_x", help="X.", labels=("target",), source="a test")
    assert metric.samples(1, target="a") == (Sample(metric=metric, labels={"target": "a"}, value=1),)
    for labels in ({}, {"other": "a"}, {"target": "a", "other": "b"}):
        with pytest.raises(ValueError, match="hypervisor_x has the labels"):
            metric.samples(1, **labels)


def test_what_could_not_be_told_has_no_sample_but_its_labels_are_checked() -> None:
    metric = Metric(name="hypervisor_x", help="X.", labels=("target",), source="a test")
    assert metric.samples(None, target="a") == ()
    with pytest.raises(ValueError, match="hypervisor_x has the labels"):
        metric.samples(None)


def test_a_deprecated_metric_says_so_first_and_names_what_takes_its_place() -> None:
    deprecated = Deprecation("1.3", "hypervisor_y")
    metric = Metric(name="hypervisor_x", help="X.", labels=(), source="a test", deprecated=deprecated)
    text = "Deprecated since 1.3, use hypervisor_y instead. X."
    family = metric.make_family()
    family.samples += [(metric.name, {}, 1)]
    assert f"# HELP hypervisor_x {text}\n" in render_text([family]).decode()
    row = f"| `hypervisor_x` | gauge | {text} | a test |\n"
    assert render_section("Title", "note", [metric]).endswith(row)


def test_a_series_has_the_values_that_are_known_with_the_declared_labels() -> None:
    metric = Metric(name="hypervisor_x", help="X.", labels=("target",), source="a test")
    a, b, wrong = (LabelSet([(name, "v")]) for name in ("target", "target", "other"))
    assert metric.series([(a, 1), (b, None)]) == (Series(metric, [(a, 1)]),)
    assert metric.series([(a, None)]) == ()
    with pytest.raises(ValueError, match="hypervisor_x has the labels"):
        metric.series([(a, 1), (wrong, 2)])


def test_labels_that_are_kept_are_exposed_as_others_are() -> None:
    pairs = (("target", 'a"\\\n'), ("b", "é"))
    kept, metric = (
        LabelSet(pairs),
        Metric(name="hypervisor_x", help="X.", labels=("b", "target"), source="t"),
    )
    family, other = metric.make_family(), metric.make_family()
    family.rows += [(kept, 1)]
    other.samples += [(metric.name, dict(pairs), 1)]
    assert render_text([family]) == render_text([family]) == render_text([other])


def test_a_gauge_whose_name_another_exporter_chose_may_end_as_a_counter() -> None:
    gauge = Metric(name="libvirt_x_total", help="X.", labels=(), source="a test", is_foreign=True)
    family = gauge.make_family()
    family.samples += [(gauge.name, {}, 1)]
    text = "# HELP libvirt_x_total X.\n# TYPE libvirt_x_total gauge\nlibvirt_x_total 1.0\n"
    assert render_text([family]).decode() == text

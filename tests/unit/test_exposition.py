"""The exposition formats are those of Prometheus' own client, to the byte."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric as ClientFamily
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from exporter.collectors import COLLECTORS
from exporter.metric import Family
from exporter.own import OwnMetrics
from exporter.scrape import collect_families
from exporter.web.exposition import OPENMETRICS, TEXT, choose_format, render_openmetrics, render_text
from tests.support.records import make_view

# Everything but lone surrogates, which are no text: a label with one could not be sent by anybody.
TEXTS = st.text(st.characters(exclude_categories=("Cs",)))


class Families:
    """A collector of these families."""

    def __init__(self, *families: Family) -> None:
        self._families = families

    def collect(self) -> Iterator[ClientFamily]:
        for each in self._families:
            family = ClientFamily(each.name, each.documentation, each.type, each.unit)
            for name, labels, value in each.samples:
                family.add_sample(name, dict(labels), value)
            yield family


def render_as_prometheus_client(*families: Family) -> tuple[bytes, bytes]:
    """Return what Prometheus' client makes of them, as text and as OpenMetrics."""
    registry = CollectorRegistry()
    registry.register(Families(*families))
    return generate_latest(registry), generate_openmetrics(registry)


def test_a_scrape_is_what_prometheus_client_makes_of_it() -> None:
    """All there is, of one scrape, in both formats."""
    families = collect_families([make_view(), make_view(target="kvm02")], COLLECTORS, OwnMetrics())
    assert (render_text(families), render_openmetrics(families)) == render_as_prometheus_client(*families)


@given(
    kind=st.sampled_from(("counter", "gauge", "info", "histogram")),
    help_text=TEXTS,
    labels=st.dictionaries(st.from_regex("[a-z_]+", fullmatch=True), TEXTS, max_size=3),
    value=st.floats() | st.integers(-(2**60), 2**60),
)
def test_whatever_labels_and_values_hold_is_written_as_prometheus_client_does(
    kind: str, help_text: str, labels: dict[str, str], value: float
) -> None:
    name = {"counter": "kvm_total", "info": "kvm_info"}.get(kind, "kvm")
    family = Family(name="kvm", documentation=help_text, type=kind, samples=[(name, labels, value)])
    assert (render_text([family]), render_openmetrics([family])) == render_as_prometheus_client(family)


@pytest.mark.parametrize(
    "value",
    [0, -0.0, 1, 999999, 1e6, 1234567.5, -1234567.5, 2**53, 1e15, 1e16, 1.5e300, 1e-5, 5e-324, math.nan],
)
def test_a_number_is_written_as_prometheus_client_does(value: float) -> None:
    family = Family(name="kvm", documentation="Help.", type="gauge", samples=[("kvm", {}, value)])
    assert render_text([family]) == render_as_prometheus_client(family)[0]


def test_a_unit_is_told_where_the_format_has_one() -> None:
    family = Family(
        name="kvm_seconds",
        documentation="Help.",
        type="gauge",
        unit="seconds",
        samples=[("kvm_seconds", {}, math.inf)],
    )
    assert (render_text([family]), render_openmetrics([family])) == render_as_prometheus_client(family)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/plain;version=0.0.4", TEXT),
        ("application/openmetrics-text;version=1.0.0;q=0, text/plain", TEXT),
        ("application/openmetrics-text;q=0.0,application/openmetrics-text;version=1.0.0;q=0.1", OPENMETRICS),
        ("application/openmetrics-text", OPENMETRICS),
        ("APPLICATION/OPENMETRICS-TEXT ; Q = 0.000", TEXT),
        ('application/openmetrics-text;q="0"', TEXT),
        ("application/openmetrics-text;q=abc", OPENMETRICS),
        ("application/openmetrics-text;q=0.1, text/plain;q=0.9", TEXT),
        ("application/openmetrics-text;q=0.5, */*", OPENMETRICS),
        ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", OPENMETRICS),
        (
            "application/vnd.google.protobuf;encoding=delimited;q=0.7, application/openmetrics-text;q=0.5",
            OPENMETRICS,
        ),
    ],
)
def test_openmetrics_is_for_those_who_name_it(accept: str, expected: object) -> None:
    """The headers are a browser's, curl's, and those of Prometheus 2 and 3."""
    assert choose_format(accept) is expected


@pytest.mark.parametrize("written", ["\\", '"', "\n", "\\n", '\\"', "a\\\nb"])
def test_what_would_end_a_line_or_a_label_is_escaped(written: str) -> None:
    samples = [("kvm", {"label": written}, 1.0)]
    family = Family(name="kvm", documentation=f"Help {written}.", type="gauge", samples=samples)
    assert (render_text([family]), render_openmetrics([family])) == render_as_prometheus_client(family)

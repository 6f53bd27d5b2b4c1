"""Write docs/metrics.md from the metrics' declarations. `make docs` runs it; a test compares the result."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from exporter import own, scrape
from exporter.collectors import COLLECTORS, target
from exporter.metric import Collector, Metric

PAGE = Path(__file__).resolve().parent.parent / "docs" / "metrics.md"

_HEAD = """# Metrics

Made by `make docs` from the declarations in `exporter/`; do not edit.

Metrics that describe a hypervisor have the label `hypervisor_hostname`. Metrics about the connection to it
have the label `target`: the configured name, or else the URI without any password. `hypervisor_info` has both
labels, so it joins the two groups. Metrics with Nova's names keep Nova's units (MiB, GiB); all others use
base units. A value that is not known has no sample: it is never 0 and never NaN.

With `libvirt_names` in the configuration, guests' numbers also have the names of another exporter:
[migrating.md](migrating.md) lists them.
"""


def _describe_switch(collector: Collector) -> str:
    if collector.is_default:
        return f"`--no-collector.{collector.name}` turns it off"
    return f"off, unless `--collector.{collector.name}` is given"


def render_page() -> str:
    """Return the page's text."""
    sections = [
        ("Connection to a hypervisor", "always on", target.METRICS),
        *((f"Collector `{each.name}`", _describe_switch(each), each.metrics) for each in COLLECTORS),
        ("The exporter itself", "on `/metrics`, without `collect[]`", (*scrape.METRICS, *own.METRICS)),
    ]
    return _HEAD + "".join(render_section(title, note, metrics) for title, note, metrics in sections)


def render_section(title: str, note: str, metrics: Iterable[Metric]) -> str:
    """Return a section of the page, with a row for each metric."""
    rows = "".join(_row(metric) for metric in metrics)
    head = "| metric | type, unit | meaning | source |\n|---|---|---|---|\n"
    return f"\n## {title}\n\n{note[0].upper()}{note[1:]}.\n\n{head}{rows}"


def _row(metric: Metric) -> str:
    names = [*metric.labels, *(["…"] if metric.more_labels else [])]
    labels = f"{{{','.join(names)}}}" if names else ""
    kind = f"{metric.type}, {metric.unit}" if metric.unit else metric.type
    return f"| `{metric.name}{labels}` | {kind} | {metric.documentation} | {metric.source} |\n"


if __name__ == "__main__":
    PAGE.write_text(render_page(), encoding="utf-8")

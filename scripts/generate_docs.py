"""Write docs/metrics.md from the metrics' declarations. `make docs` runs it; a test compares the result."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from exporter import own, scrape
from exporter.collectors import COLLECTORS, target
from exporter.metric import Metric

PAGE = Path(__file__).resolve().parent.parent / "docs" / "metrics.md"

_HEAD = """# Metrics

Made by `make docs` from the declarations in `exporter/`; do not edit.

Every metric that describes a hypervisor has the label `hypervisor_hostname`; every one that describes
reaching it has `target`, its configured name or else its URI without any password. `hypervisor_info` has both
and joins them. Nova's names keep Nova's units (MiB, GiB); everything else is in base units. What could not be
told has no sample: never a zero, never NaN.
"""


def render_page() -> str:
    """Return the page's text."""
    sections = [
        ("Reaching a hypervisor", "always on", target.METRICS),
        *(
            (f"Collector `{each.name}`", f"`--no-collector.{each.name}` turns it off", each.metrics)
            for each in COLLECTORS
        ),
        ("The exporter itself", "on `/metrics`, without `collect[]`", (*scrape.METRICS, *own.METRICS)),
    ]
    return _HEAD + "".join(_section(title, note, metrics) for title, note, metrics in sections)


def _section(title: str, note: str, metrics: Iterable[Metric]) -> str:
    rows = "".join(_row(metric) for metric in metrics)
    head = "| metric | type, unit | meaning | source |\n|---|---|---|---|\n"
    return f"\n## {title}\n\n{note[0].upper()}{note[1:]}.\n\n{head}{rows}"


def _row(metric: Metric) -> str:
    names = [*metric.labels, *(["…"] if metric.more_labels else [])]
    labels = f"{{{','.join(names)}}}" if names else ""
    kind = f"{metric.type}, {metric.unit}" if metric.unit else metric.type
    return f"| `{metric.name}{labels}` | {kind} | {metric.help} | {metric.source} |\n"


if __name__ == "__main__":
    PAGE.write_text(render_page(), encoding="utf-8")

"""Write the tables of docs/migrating.md from the declarations of other exporters' names (`make docs`)."""

from __future__ import annotations

import re
from pathlib import Path

from exporter.collectors.libvirt_names import COLLECTORS
from exporter.metric import Collector, Metric

PAGE = Path(__file__).resolve().parent.parent / "docs" / "migrating.md"

_HEAD = "| its name | type | the same here |\n|---|---|---|\n"


def render_page(text: str) -> str:
    """Return the page's text with new tables, each between two comments of the page."""
    for names, collector in COLLECTORS.items():
        begin = f"<!-- {names}: made by `make docs` -->\n"
        before, found, rest = text.partition(begin)
        _, end, after = rest.partition("<!-- end -->\n")
        if not found or not end:
            raise ValueError(f"{PAGE.name} has no place for the table of {names}")
        text = f"{before}{begin}\n{_HEAD}{_render_rows(collector)}\n{end}{after}"
    return text


def _render_rows(collector: Collector) -> str:
    return "".join(map(_row, collector.metrics))


def _row(metric: Metric) -> str:
    labels = f"{{{','.join(metric.labels)}}}" if metric.labels else ""
    kind = "gauge" if metric.type == "info" else metric.type  # as they declare it
    same_as = re.sub(r"\bhypervisor_[a-z_]+", r"`\g<0>`", metric.source)
    return f"| `{metric.name}{labels}` | {kind} | {same_as} |\n"


if __name__ == "__main__":
    PAGE.write_text(render_page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")

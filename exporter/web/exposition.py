"""The exposition formats: metric families as Prometheus' text, and as OpenMetrics.

prometheus_client has both, and a test compares every byte with it. But it looks at each character of each
name, which costs more than all the rest; here every name is known to be one (exporter.metric).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from prometheus_client.metrics_core import Metric as Family
from prometheus_client.utils import floatToGoString


@dataclass(frozen=True, slots=True)
class Format:
    """An exposition format."""

    content_type: str
    render: Callable[[Iterable[Family]], bytes]


def choose_format(accept: str) -> Format:
    """Return OpenMetrics for a client that accepts it by name, else the text that everyone understands."""
    media_types = (item.partition(";")[0].strip() for item in accept.split(","))
    return OPENMETRICS if "application/openmetrics-text" in media_types else TEXT


def render_text(families: Iterable[Family]) -> bytes:
    """Render Prometheus' text format, 0.0.4, in which a family is called as its samples are.

    # HELP hypervisor_info What the hypervisor is; always 1.
    # TYPE hypervisor_info gauge
    hypervisor_info{hypervisor_hostname="kvm01"} 1.0
    """
    lines: list[str] = []
    for family in families:
        ending = {"counter": "_total", "info": "_info"}.get(family.type, "")
        kind = "gauge" if family.type == "info" else family.type
        help_text = family.documentation.replace("\\", r"\\").replace("\n", r"\n")
        lines.append(f"# HELP {family.name}{ending} {help_text}\n# TYPE {family.name}{ending} {kind}\n")
        lines += _sample_lines(family)
    return _encode(lines)


def render_openmetrics(families: Iterable[Family]) -> bytes:
    """Render OpenMetrics 1.0, in which a family's name lacks its samples' ending.

    # HELP hypervisor What the hypervisor is; always 1.
    # TYPE hypervisor info
    hypervisor_info{hypervisor_hostname="kvm01"} 1.0
    # EOF
    """
    lines: list[str] = []
    for family in families:
        lines.append(f"# HELP {family.name} {_escape(family.documentation)}\n")
        lines.append(f"# TYPE {family.name} {family.type}\n")
        if family.unit:
            lines.append(f"# UNIT {family.name} {family.unit}\n")
        lines += _sample_lines(family)
    lines.append("# EOF\n")
    return _encode(lines)


def _encode(lines: Iterable[str]) -> bytes:
    # A path on the command line that is no UTF-8 comes with lone surrogates, and must not cost the scrape.
    return "".join(lines).encode(errors="replace")


TEXT = Format("text/plain; version=0.0.4; charset=utf-8", render_text)
OPENMETRICS = Format("application/openmetrics-text; version=1.0.0; charset=utf-8", render_openmetrics)


def _sample_lines(family: Family) -> list[str]:
    return [f"{each.name}{_labels(each.labels)} {_number(each.value)}\n" for each in family.samples]


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join([f'{name}="{_escape(value)}"' for name, value in sorted(labels.items())]) + "}"


def _number(value: float) -> str:
    return str(floatToGoString(value))  # type: ignore[no-untyped-call] # theirs has no annotations


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")

"""The exposition formats: metric families as Prometheus' text, and as OpenMetrics.

prometheus_client has both, and a test compares every byte with it. But it checks every character of every
name again. That takes most of its time, and here every name was checked at import (exporter.metric).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from exporter.metric import Family, LabelSet
from exporter.web.accept_header import parse_weights


@dataclass(frozen=True, slots=True)
class Format:
    """An exposition format."""

    content_type: str
    render: Callable[[Iterable[Family]], bytes]


def choose_format(accept: str) -> Format:
    """Return OpenMetrics if the client accepts it by name, and the text format no more; else that."""
    weights = parse_weights(accept)
    weight = weights.get("application/openmetrics-text", 0)
    return OPENMETRICS if weight > 0 and weight >= weights.get("text/plain", 0) else TEXT


def render_text(families: Iterable[Family]) -> bytes:
    """Render Prometheus' text format 0.0.4. Here a family has the same name as its samples.

    # HELP hypervisor_info What the hypervisor is; always 1.
    # TYPE hypervisor_info gauge
    hypervisor_info{hypervisor_hostname="kvm01"} 1.0
    """
    lines: list[str] = []
    for family in families:
        ending = _ENDINGS.get(family.type, "")
        kind = "gauge" if family.type == "info" else family.type
        help_text = family.documentation.replace("\\", r"\\").replace("\n", r"\n")
        lines.append(f"# HELP {family.name}{ending} {help_text}\n# TYPE {family.name}{ending} {kind}\n")
        lines += _sample_lines(family)
    return _encode(lines)


def render_openmetrics(families: Iterable[Family]) -> bytes:
    """Render OpenMetrics 1.0. Here a family's name is without the ending of its samples.

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


_LABELS_KEPT = 2**13  # enough for the names of 1,000 hypervisors
_ENDINGS = {"counter": "_total", "info": "_info"}  # of the samples' names
_MAX_DIGITS = 6
_WITHOUT_EXPONENT = 10**_MAX_DIGITS
_NOT_FINITE = {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}


def _encode(lines: Iterable[str]) -> bytes:
    # A path on the command line that is not UTF-8 has lone surrogates. It must not break the scrape.
    return "".join(lines).encode(errors="replace")


TEXT = Format("text/plain; version=0.0.4; charset=utf-8", render_text)
OPENMETRICS = Format("application/openmetrics-text; version=1.0.0; charset=utf-8", render_openmetrics)


def _sample_lines(family: Family) -> list[str]:
    lines = [
        f"{name}{_write_labels(labels)} {format_number(value)}\n" for name, labels, value in family.samples
    ]
    if family.rows:
        name = family.row_name
        lines += [
            f"{name}{labels.text or _keep_text(labels)} {_format_kept(value)}\n"
            for labels, value in family.rows
        ]
    return lines


def _keep_text(labels: LabelSet) -> str:
    labels.text = _write_labels(labels)
    return labels.text


def _write_labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join([_label(name, value) for name, value in sorted(labels.items())]) + "}"


@lru_cache(maxsize=_LABELS_KEPT)
def _label(name: str, value: str) -> str:
    """Return a label with its value. Most are on many samples, and on those of the next scrape."""
    return f'{name}="{_escape(value)}"'


def format_number(value: float) -> str:
    """Return a number as prometheus_client writes it: 0.25, 1e+06, +Inf, NaN.

    From a million on, positive numbers have an exponent, as in Go: 1234567.0 is 1.234567e+06.
    """
    if -_WITHOUT_EXPONENT < value < _WITHOUT_EXPONENT:
        return repr(float(value))
    text = repr(float(value))
    whole, point, fraction = text.partition(".")
    if not point:
        return _NOT_FINITE.get(text, text)
    if len(whole) <= _MAX_DIGITS or value < 0:
        return text
    mantissa = f"{whole[0]}.{whole[1:]}{fraction}".rstrip("0.")
    return f"{mantissa}e+{len(whole) - 1:02d}"


# Of the numbers of guests, most are as in the last scrape: sizes, 0, counters of what does nothing.
_format_kept = lru_cache(maxsize=2**11)(format_number)


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")

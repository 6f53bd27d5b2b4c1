"""The one place that says which values in a golden file are not those of the scrape, and why."""

from __future__ import annotations

import re

import libvirt

from exporter import own, scrape
from exporter.collectors import target

# What a clock tells, or the machine and the program that happened to run: written as 0. If the golden test
# says that only the value of a new metric changes from run to run, it belongs here.
_MEASURED = re.compile(
    r"""process_.*
    | hypervisor_snapshot_timestamp_seconds
    | hypervisor_domain_list_timestamp_seconds
    | hypervisor_refresh_duration_seconds
    | hypervisor_exporter_refresh_duration_seconds_(bucket|sum|count)
    | hypervisor_exporter_collector_duration_seconds
    | hypervisor_exporter_config_last_reload_success_timestamp_seconds""",
    re.VERBOSE,
)
# The exporter's counters of its own work grow with the scrapes that it took until the golden one: written as
# 1, unless they are still 0. Counters of a collector are the hypervisor's, and stay as they are.
_COUNTED = {
    metric.name for metric in (*target.METRICS, *scrape.METRICS, *own.METRICS) if metric.type == "counter"
}
# The test driver has the machine's own name, address and libvirt.
_LABELS = {
    "hypervisor_hostname": "kvm01.example",
    "host_ip": "192.0.2.7",
    "libvirt_version": "9000000",
    "version": "0.0.0",
    "revision": "unknown",
    "python_version": "3.0.0",
}

# What libvirt's test driver tells since 11.0 and did not tell before: left out.
_NOT_EVERYWHERE = re.compile(r"(# \w+ )?hypervisor_numa_cell_pages_free\b.*")

_SAMPLE = re.compile(r"(?P<name>\w+)(?P<labels>\{.*\})? (?P<value>\S+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


def normalise(text: str) -> str:
    """Return an exposition, of either format, with everything replaced that may differ from run to run."""
    lines = (line for line in text.splitlines() if not _NOT_EVERYWHERE.fullmatch(line))
    return "".join(f"{_normalise_line(line)}\n" for line in lines)


def _normalise_line(line: str) -> str:
    match = _SAMPLE.fullmatch(line)
    if match is None:
        return line
    labels = _LABEL.sub(_normalise_label, match["labels"] or "")
    return f"{match['name']}{labels} {_normalise_value(match['name'], match['value'])}"


def _normalise_label(match: re.Match[str]) -> str:
    name, value = match.groups()
    if name == "storage" and value.startswith("host:"):
        value = f"host:{_LABELS['hypervisor_hostname']}"
    return f'{name}="{_LABELS.get(name, value)}"'


def _normalise_value(name: str, value: str) -> str:
    if _MEASURED.fullmatch(name):
        return "0.0"
    if name in _COUNTED:
        return "1.0" if float(value) else "0.0"
    if name == "hypervisor_refresh_libvirt_calls" and libvirt.getVersion() >= 11_000_000 and float(value) > 1:
        return str(float(value) - 1)  # since then the test driver can be asked for free pages
    return value

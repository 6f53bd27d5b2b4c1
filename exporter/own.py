"""What the exporter says of itself: its build and its process."""

from __future__ import annotations

import platform

from prometheus_client import CollectorRegistry, Info, ProcessCollector

from exporter import __version__
from exporter.metric import Metric

try:
    from exporter._revision import REVISION  # type: ignore[import-not-found] # hatch_build.py writes it
except ImportError:
    REVISION = "unknown"

BUILD_INFO = Metric(
    name="hypervisor_exporter_build_info",
    help="What this exporter was built from; always 1.",
    type="info",
    labels=("version", "revision", "python_version"),
    source="the package's metadata",
)
METRICS = (BUILD_INFO,)


def make_own_registry() -> CollectorRegistry:
    """Return a registry with the exporter's own metrics and its process's (process_cpu_seconds_total, …)."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    build = Info(BUILD_INFO.name.removesuffix("_info"), BUILD_INFO.help, registry=registry)
    build.info({"version": __version__, "revision": REVISION, "python_version": platform.python_version()})
    return registry

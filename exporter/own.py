"""Metrics about the exporter itself: its build, its process, its configuration, its refreshes."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.metrics_core import GaugeMetricFamily

from exporter import __version__
from exporter.metric import Family, Line, Metric

try:
    from exporter._revision import REVISION  # type: ignore[import-not-found] # hatch_build.py writes it
except ImportError:
    REVISION = "unknown"

BUILD_INFO = Metric(
    name="hypervisor_exporter_build_info",
    help="Version and revision of this exporter. Always 1.",
    type="info",
    labels=("version", "revision", "python_version"),
    source="the package's metadata",
)
REFRESH_DURATION_SECONDS = Metric(
    name="hypervisor_exporter_refresh_duration_seconds",
    help="How long refreshes took, over all hypervisors.",
    type="histogram",
    labels=(),
    source="this exporter",
)
RELOAD_SUCCESSFUL = Metric(
    name="hypervisor_exporter_config_last_reload_successful",
    help="1 if the configuration was last loaded without mistakes. If 0, the previous one stays in use.",
    labels=(),
    source="this exporter",
)
RELOAD_TIMESTAMP_SECONDS = Metric(
    name="hypervisor_exporter_config_last_reload_success_timestamp_seconds",
    help="When the configuration in use was loaded, in seconds since the epoch.",
    labels=(),
    source="this exporter",
)
WEB_RELOAD_SUCCESSFUL = Metric(
    name="hypervisor_exporter_web_config_last_reload_successful",
    help="1 if the web configuration in use is the one in its files. If 0, the previous one stays in use.",
    labels=(),
    source="this exporter",
)
WEB_CERTIFICATE_EXPIRY = Metric(
    name="hypervisor_exporter_web_certificate_expiry_timestamp_seconds",
    help="When the served certificate expires, in seconds since the epoch. Absent without TLS.",
    labels=(),
    source="the certificate's notAfter",
)
METRICS = (
    BUILD_INFO,
    REFRESH_DURATION_SECONDS,
    RELOAD_SUCCESSFUL,
    RELOAD_TIMESTAMP_SECONDS,
    WEB_RELOAD_SUCCESSFUL,
    WEB_CERTIFICATE_EXPIRY,
)

_REFRESH_BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class OwnMetrics:
    """The exporter's own metrics and its process's (process_cpu_seconds_total, …), as a collector."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        build = Info(BUILD_INFO.name.removesuffix("_info"), BUILD_INFO.documentation, registry=self._registry)
        build.info(
            {"version": __version__, "revision": REVISION, "python_version": platform.python_version()}
        )
        self._refreshes = Histogram(
            REFRESH_DURATION_SECONDS.name,
            REFRESH_DURATION_SECONDS.documentation,
            buckets=_REFRESH_BUCKETS_SECONDS,
            registry=self._registry,
        )
        self._reload_successful = _gauge(RELOAD_SUCCESSFUL, self._registry)
        self._reload_timestamp = _gauge(RELOAD_TIMESTAMP_SECONDS, self._registry)

    def collect(self) -> Iterator[Family]:
        """Yield every family, without the `_created` series that prometheus_client adds."""
        for each in self._registry.collect():
            samples: list[Line] = [
                (sample.name, sample.labels, sample.value)
                for sample in each.samples
                if not sample.name.endswith("_created")
            ]
            yield Family(
                name=each.name,
                documentation=each.documentation,
                type=each.type,
                unit=each.unit,
                samples=samples,
            )

    def watch_web(
        self, *, is_up_to_date: Callable[[], bool], read_expiry: Callable[[], float | None]
    ) -> None:
        """Export the state of the web configuration. It is read again on each scrape.

        :param read_expiry: returns when the certificate expires, in seconds since the epoch; None without one
        """
        gauge = _gauge(WEB_RELOAD_SUCCESSFUL, self._registry)
        gauge.set_function(lambda: float(is_up_to_date()))
        self._registry.register(_CertificateExpiry(read_expiry))

    def observe_refresh(self, duration_seconds: float) -> None:
        """Record how long a refresh took."""
        self._refreshes.observe(duration_seconds)

    def record_load(self, *, now: float) -> None:
        """Record that a configuration was loaded at this time, in seconds since the epoch."""
        self._reload_successful.set(1)
        self._reload_timestamp.set(now)

    def record_refused_load(self) -> None:
        """Record that a configuration was refused."""
        self._reload_successful.set(0)


class _CertificateExpiry:
    """A gauge that is absent while there is no certificate."""

    def __init__(self, read_expiry: Callable[[], float | None]) -> None:
        self._read_expiry = read_expiry

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the family if there is a certificate."""
        expiry = self._read_expiry()
        if expiry is not None:
            metric = WEB_CERTIFICATE_EXPIRY
            yield GaugeMetricFamily(metric.name, metric.documentation, value=expiry)


def _gauge(metric: Metric, registry: CollectorRegistry) -> Gauge:
    return Gauge(metric.name, metric.documentation, registry=registry)

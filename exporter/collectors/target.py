"""Target: how reaching a hypervisor went. Always on, and there even when the hypervisor is not.

hypervisor_up{target="qemu:///system"} 1
hypervisor_refresh_errors_total{target="qemu:///system",reason="timeout"} 0
"""

from __future__ import annotations

from collections.abc import Iterator

from exporter.metric import Metric, Sample
from exporter.model import HostView

UP = Metric(
    name="hypervisor_up",
    help="Whether the last refresh of the hypervisor succeeded, and in time.",
    labels=("target",),
    source="exporter.host_state",
)
SNAPSHOT_TIMESTAMP_SECONDS = Metric(
    name="hypervisor_snapshot_timestamp_seconds",
    help="When the hypervisor's numbers were read, in seconds since the epoch.",
    labels=("hypervisor_hostname",),
    source="exporter.host_state",
)
REFRESH_DURATION_SECONDS = Metric(
    name="hypervisor_refresh_duration_seconds",
    help="How long the last refresh took.",
    labels=("target",),
    source="exporter.host_state",
)
REFRESH_ERRORS_TOTAL = Metric(
    name="hypervisor_refresh_errors_total",
    help="What went wrong in refreshes, by reason.",
    type="counter",
    labels=("target", "reason"),
    source="exporter.host_state",
)
METRICS = (UP, SNAPSHOT_TIMESTAMP_SECONDS, REFRESH_DURATION_SECONDS, REFRESH_ERRORS_TOTAL)


def collect(view: HostView) -> Iterator[Sample]:
    """Yield the samples of one target."""
    yield from UP.samples(float(view.is_up), target=view.target)
    yield from REFRESH_DURATION_SECONDS.samples(view.refresh_duration_seconds, target=view.target)
    for reason, count in view.errors.items():
        yield from REFRESH_ERRORS_TOTAL.samples(count, target=view.target, reason=reason)
    if view.snapshot is not None:
        yield from SNAPSHOT_TIMESTAMP_SECONDS.samples(
            view.snapshot.timestamp_seconds,
            hypervisor_hostname=view.snapshot.resources.hypervisor_hostname,
        )

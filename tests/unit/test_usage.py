"""What a scrape shows of the guests' common control group: seconds, and nothing of what is not known."""

from __future__ import annotations

from exporter.collectors import usage
from exporter.guest_records import GuestsTogether
from tests.support.records import make_snapshot


def collect(together: GuestsTogether | None) -> dict[tuple[str, str], float]:
    """Return each value by its metric and resource."""
    parts = {} if together is None else {"guests together": together}
    return {
        (each.metric.name, each.labels.get("resource", "")): each.value
        for each in usage.COLLECTOR.collect(make_snapshot(parts=parts))
    }


def test_it_is_shown_in_seconds() -> None:
    together = GuestsTogether(
        cpu_ns=7_500_000_000, waiting_us={"cpu": 2_000_000, "io": 500}, stalled_us={"memory": 0}
    )
    assert collect(together) == {
        ("hypervisor_guests_cpu_seconds_total", ""): 7.5,
        ("hypervisor_guests_pressure_waiting_seconds_total", "cpu"): 2.0,
        ("hypervisor_guests_pressure_waiting_seconds_total", "io"): 0.0005,
        ("hypervisor_guests_pressure_stalled_seconds_total", "memory"): 0.0,
    }


def test_what_is_not_known_has_no_sample() -> None:
    assert collect(GuestsTogether()) == {}
    assert collect(None) == {}

"""What the host's CPUs have done: libvirt's counters in seconds, by mode, and no percentage among them."""

from __future__ import annotations

from typing import Any

import pytest

from exporter.collectors import usage
from exporter.model import Snapshot
from tests.support.driver_bench import Bench


def collect(answer: Any) -> dict[str, float]:
    """Return the seconds by mode that a scrape shows of this answer of libvirt."""
    bench = Bench(needs={"CPU times"})
    bench.libvirt.answers["getCPUStats"] = answer
    snapshot = Snapshot(target="kvm01", resources=bench.read(), timestamp_seconds=0)
    samples = [each for each in usage.COLLECTOR.collect(snapshot) if each.metric is usage.CPU_SECONDS_TOTAL]
    assert {each.labels["hypervisor_hostname"] for each in samples} <= {"kvm01.example"}
    return {each.labels["mode"]: each.value for each in samples}


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        (
            {"kernel": 34_678_723_400_000, "user": 9_797_400_000, "idle": 0, "iowait": 10_000_000},
            {"kernel": 34678.7234, "user": 9.7974, "idle": 0, "iowait": 0.01},
        ),
        ({"utilization": 17}, {}),
        ({}, {}),
    ],
    ids=["Linux", "a percentage alone", "nothing"],
)
def test_libvirts_counters_are_shown_in_seconds(answer: dict[str, int], seconds: dict[str, float]) -> None:
    assert collect(answer) == seconds


def test_a_call_that_fails_costs_these_numbers_only() -> None:
    assert collect(KeyError("x")) == {}

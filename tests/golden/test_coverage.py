"""Nothing is declared that no test ever sees, and nothing is exported that was not declared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from exporter import own, scrape
from exporter.collectors import COLLECTORS, target
from exporter.collectors.guests import answers, balloon, disks
from exporter.metric import Metric
from tests.golden.hypervisor import FOLDER

TESTS = FOLDER.parent

_STATISTICS = (
    "unit/test_guest_statistics_shown.py",
    "libvirt's test driver has no statistics of guests (virDomainListGetStats tells none)",
)

# What the golden hypervisor has nothing of, with the test that sees the metric, and why it is that one.
SEEN_ELSEWHERE: Mapping[str, tuple[str, str]] = {
    "hypervisor_exporter_web_certificate_expiry_timestamp_seconds": (
        "web/test_tls.py",
        "it serves without TLS",
    ),
    **{
        f"hypervisor_guest_{name}": (
            "unit/test_guest_use_metrics.py",
            "libvirt's test driver has no processes, so the kernel counts nothing of its guests",
        )
        for name in (
            "cpu_seconds_total",
            "vcpu_delay_seconds_total",
            "cpu_throttled_seconds_total",
            "pressure_waiting_seconds_total",
            "pressure_stalled_seconds_total",
            "one_vcpu_seconds_total",
            "one_vcpu_delay_seconds_total",
            "memory_resident_bytes",
            *(
                f"network_{direction}_{what}_total"
                for direction in ("receive", "transmit")
                for what in ("bytes", "packets", "errs", "drop")
            ),
        )
    },
    "hypervisor_guests_cpu_seconds_total": (
        "unit/test_usage.py",
        "libvirt's test driver has no guests in control groups",
    ),
    "hypervisor_guests_pressure_waiting_seconds_total": (
        "unit/test_usage.py",
        "as hypervisor_guests_cpu_seconds_total",
    ),
    "hypervisor_guests_pressure_stalled_seconds_total": (
        "unit/test_usage.py",
        "as hypervisor_guests_cpu_seconds_total",
    ),
    "hypervisor_mdev_available_instances": (
        "unit/test_node_devices.py",
        "libvirt's test driver has no mediated devices, and no device_spec is configured",
    ),
    "hypervisor_pci_devices": (
        "unit/test_node_devices.py",
        "libvirt's test driver has no PCI devices, and no device_spec is configured",
    ),
    "hypervisor_pci_devices_claimed": (
        "unit/test_device_inventories.py",
        "as hypervisor_pci_devices",
    ),
    "hypervisor_pci_devices_free": (
        "unit/test_device_inventories.py",
        "as hypervisor_pci_devices",
    ),
    "hypervisor_nova_conf_ignored_info": (
        "unit/test_collectors.py",
        "its nova_conf is none",
    ),
    "hypervisor_numa_cell_pages_free": (
        "contract/test_hypervisor.py",
        "libvirt's test driver tells free pages (virNodeGetFreePages) since 11.0 only",
    ),
}


# What guests tell of themselves.
SEEN_ELSEWHERE = {
    **SEEN_ELSEWHERE,
    **{
        metric.name: _STATISTICS
        for metric in (*disks.METRICS, *balloon.METRICS, answers.TIMESTAMP, answers.RESPONSIVE)
    },
}


def list_declared() -> Iterator[Metric]:
    """Yield every declared metric."""
    for metrics in (target.METRICS, scrape.METRICS, own.METRICS, *(each.metrics for each in COLLECTORS)):
        yield from metrics


def read_labels() -> dict[str, set[str]]:
    """Return the golden file's metrics, as exposed but for a histogram's parts, and their samples' labels."""
    return {
        _stem(sample.name, family.type): set(sample.labels) - {"le"}
        for family in text_string_to_metric_families((FOLDER / "metrics.txt").read_text())
        for sample in family.samples
    }


def _stem(name: str, kind: str) -> str:
    return name.rpartition("_")[0] if kind == "histogram" else name


def test_every_declared_metric_is_seen_by_a_test() -> None:
    """The golden one, or the one named above: a new metric has to be added to either."""
    unseen = {metric.name for metric in list_declared()} - read_labels().keys()
    assert unseen <= SEEN_ELSEWHERE.keys(), (
        "not in tests/golden/metrics.txt: run make golden. If the golden hypervisor cannot have it,"
        " name a test that sees it in SEEN_ELSEWHERE"
    )
    assert SEEN_ELSEWHERE.keys() <= unseen, "in tests/golden/metrics.txt: take it out of SEEN_ELSEWHERE"


def test_those_seen_elsewhere_are_named_there() -> None:
    for name, (path, reason) in SEEN_ELSEWHERE.items():
        assert name in Path(TESTS, path).read_text(), f"{name} is not in {path}"
        assert reason


def test_everything_exported_was_declared_with_its_labels() -> None:
    """But for what prometheus_client says of the process; the configuration may add labels to one metric."""
    configured = {"hypervisor_labels_info": {"aggregate", "zone"}}
    declared = {
        metric.name: set(metric.labels) | configured.get(metric.name, set()) for metric in list_declared()
    }
    exported = {name: labels for name, labels in read_labels().items() if not name.startswith("process_")}
    assert exported == {name: declared[name] for name in exported}

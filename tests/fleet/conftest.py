"""One fleet, one Prometheus and one Alertmanager for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.alerting import Webhook, serve_alertmanager, write_faster_rules
from tests.support.fleet import Fleet, Host, HostExporter
from tests.support.libvirtd import LibvirtDaemon
from tests.support.prometheus_server import PrometheusServer
from tests.support.waiting import wait_until

# 5 minutes of waiting are 15 seconds: longer than a restart takes on a machine that has other things to do.
TIMES_FASTER = 20
INTERVAL = "1s"
IMAGES_BYTES = 300 * 2**20
SETTINGS = {"flavors": {"m1.small": {"vcpus": 2, "memory_mb": 2048, "disk_gb": 0}}}

KVM01 = Host(name="kvm01", labels={"zone": "a"}, cpus=16, memory_mib=65536, guests={"web": (4, 4096)})
KVM02 = Host(name="kvm02", labels={"zone": "a"}, cpus=32, memory_mib=131072)
KVM03 = Host(
    name="kvm03",
    labels={"zone": "b"},
    cpus=8,
    memory_mib=131072,
    guests={"db": (4, 8192), "cache": (2, 1024)},
)


@dataclass(frozen=True)
class World:
    """The fleet and those who watch it.

    :ivar real: the exporter before the real libvirtd
    """

    fleet: Fleet
    prometheus: PrometheusServer
    webhook: Webhook
    libvirtd: LibvirtDaemon
    real: HostExporter

    @property
    def real_name(self) -> str:
        """What the real libvirtd calls this machine."""
        ((labels, _),) = self.real.scrape().series("hypervisor_info")
        return labels["hypervisor_hostname"]

    def value(self, expr: str) -> float | None:
        """Return the value of a query that has one sample, None where it has none."""
        samples = self.prometheus.query(expr)
        assert len(samples) < 2, samples
        return float(samples[0]["value"][1]) if samples else None

    def wait_for(self, expr: str, value: float | None, *, seconds: float = 60) -> None:
        """Wait until a query has this value."""
        wait_until(lambda: self.value(expr) == value, f"{expr} to be {value}", seconds=seconds)


@pytest.fixture(scope="package")
def world(libvirt_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Three hypervisors of libvirt's test driver and a real libvirtd, in two zones, all of them well."""
    rules = write_faster_rules(tmp_path_factory.mktemp("rules"), times=TIMES_FASTER)
    with (
        LibvirtDaemon(images_bytes=IMAGES_BYTES, cache=libvirt_cache) as libvirtd,
        Fleet(settings=SETTINGS) as fleet,
        Webhook() as webhook,
        serve_alertmanager(webhook) as alertmanager,
    ):
        for host in (KVM01, KVM02, KVM03):
            fleet.add(host)
        options = {"instances_path": str(libvirtd.images)}
        real = fleet.add(Host(name="real", labels={"zone": "b"}, uri=libvirtd.uri_read_only, options=options))
        with PrometheusServer(
            scrape_configs=[fleet.scrape_config],
            interval=INTERVAL,
            rule_files=rules,
            alertmanager=alertmanager,
        ) as prometheus:
            world = World(fleet, prometheus, webhook, libvirtd, real)
            world.wait_for("sum(cluster:hypervisors_up:sum)", 4)
            world.wait_for('count(cluster:resource:claimed{resource_class="MEMORY_MB"})', 2)
            yield world

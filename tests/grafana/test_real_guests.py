"""The board of guests over a real guest: a real libvirtd, exporter and Prometheus with the rules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.grafana.boards import BOARDS, Json, interpolate, queries, selectors
from tests.support.boot_sectors import boot_sector, make_boot_disk
from tests.support.exporter_process import serve
from tests.support.guests import file_disk, guest_xml, nova_metadata
from tests.support.libvirtd import LibvirtDaemon
from tests.support.prometheus_server import RULES, PrometheusServer
from tests.support.waiting import wait_until

GUEST = "instance-00000001"
LIMIT = 100000

# How the metrics begin that this guest does not have, and why.
SILENT = {
    "hypervisor_guest_cpu_": "this libvirtd has namespaces of its own, so the guests' cgroups are hidden",
    "hypervisor_guest_vcpu_delay_": "likewise",
    "hypervisor_guest_pressure_": "likewise",
    "hypervisor_guest_memory_resident_": "likewise",
    "hypervisor:guests_": "likewise",
    "guest:cpu": "likewise",
    "guest:memory:used_bytes": "likewise, and a guest that runs nothing tells nothing of its memory",
    "hypervisor_guest_memory_usable_": "it tells nothing of its memory",
    "hypervisor_guest_disk_read_time_": "it writes only, and a read takes no time where there is none",
    "hypervisor_guest_network_": "it has no interface",
    "guest:network": "it has no interface",
    "hypervisor:guest_events:": "nothing happened to it",
}


@dataclass(frozen=True)
class World:
    """A Prometheus that scrapes the exporter of one hypervisor with one guest, which writes all the time."""

    prometheus: PrometheusServer

    def ask(self, expr: str) -> list[Json]:
        """Ask a query as the board does for this guest."""
        (hypervisor,) = self.prometheus.values_of("hypervisor_hostname", "guest:info")
        chosen = {"hypervisor": hypervisor, "guest": GUEST, "__rate_interval": "1m"}
        return self.prometheus.query(interpolate(expr, **chosen))


@pytest.fixture(scope="module")
def world(shared_libvirtd: LibvirtDaemon) -> Iterator[World]:
    sector = boot_sector(writes=1, goes_on=True)
    disk = file_disk(make_boot_disk(shared_libvirtd.images / GUEST, sector), format="raw")
    limit = (
        f"<iotune><total_iops_sec>{LIMIT}</total_iops_sec><write_bytes_sec>{LIMIT}</write_bytes_sec></iotune>"
    )
    disk = disk.replace("</disk>", f"{limit}</disk>")
    metadata = nova_metadata("m1.small", vcpus=1, memory=16, disk=1)
    shared_libvirtd.start_guest(guest_xml(GUEST, disks=[disk], metadata=metadata))
    hypervisor = {"uri": shared_libvirtd.uri_read_only, "instances_path": str(shared_libvirtd.images)}
    settings = {"cache_ttl": "0s", "hypervisors": [hypervisor]}
    try:
        with serve(settings, flags=["--collector.guests"]) as exporter:
            scraped = {
                "job_name": "hypervisors",
                "static_configs": [{"targets": [exporter.address], "labels": {"zone": "a"}}],
            }
            with PrometheusServer(
                scrape_configs=[scraped], interval="1s", rule_files=sorted(RULES.glob("*.yaml"))
            ) as prometheus:
                world = World(prometheus)
                wait_until(lambda: world.prometheus.query("guest:disk_ops:rate5m > 1"), "rates", seconds=90)
                yield world
    finally:
        shared_libvirtd.clear()


def test_every_query_answers_of_what_is_known_of_a_real_guest(world: World) -> None:
    for panel, query in queries(BOARDS["hypervisor-guests"]):
        names = [selector.name for selector in selectors(query["expr"])]
        is_silent = (
            any(name.startswith(tuple(SILENT)) for name in names) or 'state!="running"' in query["expr"]
        )
        assert bool(world.ask(query["expr"])) != is_silent, (panel["title"], query["expr"])


def test_the_rules_show_a_real_guest_by_its_name_and_its_disk_by_its_limit(world: World) -> None:
    """What the exporter names alike on all its series is what the rules join by."""
    (info,) = world.ask("guest:info")
    who = {name: info["metric"][name] for name in ("domain", "instance_name", "flavor", "zone")}
    assert who == {"domain": GUEST, "instance_name": "guest", "flavor": "m1.small", "zone": "a"}
    (requests,) = world.ask("guest:disk_ops:rate5m")
    (share,) = world.ask('guest:disk_limit:used_ratio{limit="ops"}')
    assert share["metric"]["direction"] == "total"
    assert 0 < float(share["value"][1]) < 1
    assert float(requests["value"][1]) == pytest.approx(float(share["value"][1]) * LIMIT, rel=0.5)

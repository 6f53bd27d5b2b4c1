"""The overview grows by itself: a real Prometheus, its rules, real exporters that come, go and restart."""

from __future__ import annotations

import time

import pytest

from tests.fleet.conftest import KVM01, KVM03, TIMES_FASTER, World
from tests.support.fleet import Host, HostExporter
from tests.support.rule_tests import RULES_OF_GUESTS, RULES_OF_SHARED_STORAGE
from tests.support.waiting import wait_until

MIB = 2**20

# Rules that find nothing in a fleet that is young and well, and why.
WITHOUT_SERIES = {
    "cluster:resource:seconds_until_full": "a trend takes 6 hours",
    "hypervisor:storage:seconds_until_full": "a trend takes 6 hours",
    "target:refresh_errors:increase10m": "nothing goes wrong",
    **dict.fromkeys(RULES_OF_SHARED_STORAGE, "no storage is shared here (test_shared_storage.py)"),
}


def add_up(exporters: list[HostExporter]) -> dict[tuple[str, str, str], float]:
    """Add up by zone what the exporters themselves say now, without Prometheus."""
    totals: dict[tuple[str, str, str], float] = {}
    for exporter in exporters:
        scrape, zone = exporter.scrape(), exporter.host.labels["zone"]
        found = {
            ("physical", "VCPU"): scrape.value("hypervisor_vcpus"),
            ("physical", "MEMORY_MB"): scrape.value("hypervisor_memory_size_bytes") / MIB,
            ("physical", "DISK_GB"): scrape.value("hypervisor_storage_size_bytes") / MIB / 1024,
            ("used", "VCPU"): scrape.value("hypervisor_vcpus_used"),
            ("used", "DISK_GB"): scrape.value("hypervisor_storage_used_bytes") / MIB / 1024,
        }
        for name in ("capacity", "claimed"):
            for labels, value in scrape.series(f"hypervisor_{name}"):
                found[name, labels["resource_class"]] = value
        for (name, resource_class), value in found.items():
            key = (zone, name, resource_class)
            totals[key] = totals.get(key, 0) + value
    return totals


def recorded(world: World) -> dict[tuple[str, str, str], float]:
    """Return the same out of Prometheus."""
    return {
        (zone, name, resource_class): float(sample["value"][1])
        for name in ("physical", "used", "capacity", "claimed")
        for sample in world.prometheus.query(f"cluster:resource:{name}")
        if (zone := sample["metric"]["zone"]) and (resource_class := sample["metric"]["resource_class"])
        # What a real machine has in use is another number a moment later.
        if (name, resource_class) != ("used", "MEMORY_MB")
    }


def values_since(world: World, expr: str, started: float) -> list[tuple[float, float]]:
    """Return when a query with one sample had which value, to the last one."""
    (series,) = world.prometheus.query_range(expr, start=started, end=time.time() + 1, step=0.2)
    return [(at, float(value)) for at, value in series["values"]]


@pytest.fixture(scope="module", autouse=True)
def began(world: World) -> float:
    """When the first of these tests began, all other alerts being over, in seconds since the epoch."""
    world.wait_for('count(ALERTS{alertstate="firing"})', None)
    return time.time()


def firing_since(world: World, began: float) -> list[str]:
    """Return the names of all alerts that fired meanwhile."""
    fired = f'count_over_time(ALERTS{{alertstate="firing"}}[{time.time() - began:.0f}s])'
    samples = world.prometheus.query(f"count by (alertname) ({fired})")
    return sorted(sample["metric"]["alertname"] for sample in samples)


def test_the_recorded_totals_are_the_sum_of_what_the_exporters_say(world: World) -> None:
    """By zone, for every resource; and what is made up for the test drivers is what comes out."""
    expected = add_up(world.fleet.exporters)
    wait_until(lambda: recorded(world) == expected, f"totals of {expected}", seconds=30)
    assert expected["a", "physical", "VCPU"] == 3 + 3  # the test driver always has three online
    assert expected["a", "used", "VCPU"] == 4
    assert expected["a", "claimed", "MEMORY_MB"] == KVM01.guests["web"][1]
    assert expected["a", "physical", "MEMORY_MB"] == 65536 + 131072
    free = world.value('hypervisor:resource:free{hypervisor_hostname="kvm03",resource_class="MEMORY_MB"}')
    assert free == KVM03.memory_mib - 8192 - 1024


def test_every_rule_is_well_and_answers(world: World) -> None:
    """Alerts' expressions too; a rule without a series is listed with its reason."""
    groups = world.prometheus.ask("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    wait_until(lambda: _are_evaluated(world), "all rules to have been evaluated", seconds=30)
    assert {rule["name"]: rule["lastError"] for rule in rules if rule.get("lastError")} == {}
    names = {rule["name"] for rule in rules if rule["type"] == "recording"}
    names = {name for name in names if not name.startswith(RULES_OF_GUESTS)}
    wait_until(
        lambda: {name for name in names if not world.prometheus.query(name)} <= WITHOUT_SERIES.keys(),
        "every rule to have found something",
        seconds=30,
    )


def _are_evaluated(world: World) -> bool:
    groups = world.prometheus.ask("rules")["groups"]
    return all(rule["health"] == "ok" for group in groups for rule in group["rules"])


def test_a_hypervisor_that_comes_and_goes_is_all_that_changes(world: World) -> None:
    """The totals grow by just that one within two scrapes of it, without a step between, and shrink back."""
    total = 'cluster:resource:physical{resource_class="VCPU",zone="a"}'
    before = world.value(total)
    assert before is not None
    started = time.time()
    new = world.fleet.add(Host(name="kvm05", labels={"zone": "a"}, cpus=24, memory_mib=16384))
    world.wait_for(total, before + 3)
    world.wait_for("sum(cluster:hypervisors:count)", 5)
    values = values_since(world, total, started)
    assert {value for _, value in values} == {before, before + 3}
    grown = next(at for at, value in values if value == before + 3)
    scrapes = world.prometheus.query(f'count_over_time(up{{instance="{new.address}"}}[5m])', at=grown)
    # The one that showed it, and two until both levels had added it up.
    assert int(scrapes[0]["value"][1]) <= 3

    world.fleet.remove(new)
    world.wait_for(total, before)
    world.wait_for("sum(cluster:hypervisors:count)", 4)
    assert world.prometheus.query('{hypervisor_hostname="kvm05"}') == []


def test_a_hypervisor_that_two_exporters_report_is_counted_once(world: World) -> None:
    """The totals never move while a second exporter shows it, and when the first one is gone."""
    total = 'cluster:resource:physical{resource_class="VCPU",zone="a"}'
    before = world.value(total)
    first = world.fleet.exporters[0]
    assert first.host is KVM01
    started = time.time()
    second = world.fleet.add(KVM01)
    world.wait_for('count(hypervisor_vcpus{hypervisor_hostname="kvm01"})', 2)
    world.wait_for('count(hypervisor:target:info{hypervisor_hostname="kvm01"})', 2)
    world.fleet.remove(first)
    world.wait_for('count(hypervisor:target:info{hypervisor_hostname="kvm01"})', 1)
    world.fleet.exporters.insert(0, second)
    world.fleet.exporters.pop()
    values = values_since(world, total, started)
    assert {value for _, value in values} == {before}
    assert world.value("sum(cluster:hypervisors:count)") == 4


def test_no_alert_comes_of_restarts_and_of_hypervisors_that_come_and_go(world: World, began: float) -> None:
    """Each is away for long enough to be seen; afterwards more time goes by than an alert waits for."""
    exporter = world.fleet.exporters[1]
    exporter.stop()
    world.wait_for("count(up == 0)", 1)
    exporter.start()
    world.libvirtd.terminate()
    world.wait_for("count(hypervisor_up == 0)", 1)
    world.libvirtd.start()
    world.wait_for("sum(cluster:hypervisors_up:sum)", 4)
    world.prometheus.stop()
    world.prometheus.start()
    started = time.time()
    waits = 300 // TIMES_FASTER + 5
    up = f'up{{instance="{world.real.address}"}}'
    scrapes = f"count_over_time({up}[1h]) - count_over_time({up}[1h] @ {started:.3f})"
    wait_until(lambda: (world.value(scrapes) or 0) > waits, f"{waits} scrapes", seconds=60)
    assert world.value("sum(cluster:hypervisors_up:sum)") == 4
    assert firing_since(world, began) == []

"""Two exporters of two hypervisors on one storage, one with its own, and one Prometheus with the rules.

The totals are compared with sums that are computed here from what the exporters say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from tests.support.fleet import Fleet, Host
from tests.support.prometheus_server import RULES, PrometheusServer
from tests.support.shards import serve_above_shards
from tests.support.waiting import wait_until

GIB = 2**30
DISK_GB = 10
FLAVORS = {"m1.disk": {"vcpus": 1, "memory_mb": 1, "disk_gb": DISK_GB}}
SHARED = {"storage_id": "nfs:nfs01:/export/nova"}
ZONE = {"zone": "a"}
GUEST = (1, 1024)

KVM01 = Host(name="kvm01", labels=ZONE, guests={"web": GUEST}, disks={"web": 20}, options=SHARED)
KVM02 = Host(
    name="kvm02",
    labels=ZONE,
    guests={"db": GUEST, "cache": GUEST},
    disks={"db": 30, "cache": 5},
    # What it keeps in reserve is reserved of the whole storage.
    options={**SHARED, "reserved_host_disk_mb": 2048},
)
KVM03 = Host(name="kvm03", labels=ZONE, guests={"own": GUEST}, disks={"own": 40})

# By rule: what is compared.
Totals = Mapping[str, float]


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with Fleet(settings={"flavors": FLAVORS}) as fleet:
        for host in (KVM01, KVM02, KVM03):
            fleet.add(host)
        yield fleet


@pytest.fixture(scope="module")
def prometheus(fleet: Fleet) -> Iterator[PrometheusServer]:
    with PrometheusServer(
        scrape_configs=[fleet.scrape_config], interval="1s", rule_files=sorted(RULES.glob("*.yaml"))
    ) as server:
        yield server


def add_up(fleet: Fleet) -> Totals:
    """Return what the totals of the disk must be: the shared storage once, the guests of all."""
    scrapes = [exporter.scrape() for exporter in fleet.exporters]

    def read(name: str, **labels: str) -> list[float]:
        return [scrape.value(f"hypervisor_{name}", **labels) for scrape in scrapes]

    sizes, used, free = read("storage_size_bytes"), read("storage_used_bytes"), read("storage_free_bytes")
    growth, capacities = read("storage_overcommitted_bytes"), read("capacity", resource_class="DISK_GB")
    claims = read("claimed", resource_class="DISK_GB")
    slots = read("flavor_slots", flavor="m1.disk")
    capacity = min(capacities[:2])
    placeable = capacity - sum(claims[:2])
    shared_least = (min(free[:2]) - sum(growth[:2])) // GIB
    return {
        "cluster:resource:physical": (sizes[0] + sizes[2]) / GIB,
        "cluster:resource:used": (max(used[:2]) + used[2]) / GIB,
        "cluster:resource:capacity": capacity + capacities[2],
        "cluster:resource:claimed": sum(claims),
        "cluster:resource:placeable": placeable + capacities[2] - claims[2],
        "cluster:resource:placeable_after_host_loss": capacity - sum(claims),
        "cluster:disk_available_least:sum": shared_least + (free[2] - growth[2]) // GIB,
        "cluster:flavor_slots:sum": min(placeable // DISK_GB, slots[0] + slots[1]) + slots[2],
    }


def recorded(prometheus: PrometheusServer, rules: Totals) -> Totals:
    """Return the values of these rules in Prometheus."""
    return {
        rule: float(sample["value"][1])
        for rule in rules
        for sample in prometheus.query(f'{rule}{{resource_class=~"|DISK_GB"}}')
    }


def test_every_total_of_the_disk_has_the_storage_once(fleet: Fleet, prometheus: PrometheusServer) -> None:
    """The disk of two of the three hypervisors is the same; libvirt's test driver gives all one size."""
    expected = add_up(fleet)
    assert expected["cluster:resource:claimed"] == 20 + 30 + 5 + 40
    wait_until(lambda: recorded(prometheus, expected) == expected, f"totals of {expected}", seconds=30)
    (size,) = {
        float(sample["value"][1]) for sample in prometheus.query("hypervisor_storage_size_bytes") or ()
    }
    assert expected["cluster:resource:physical"] == 2 * size / GIB


def test_above_shards_the_totals_are_the_same(fleet: Fleet, prometheus: PrometheusServer) -> None:
    """The hypervisors of one storage may be on several shards: the storage is known above them only."""
    expected = add_up(fleet)
    with serve_above_shards(fleet, interval="1s") as above:
        wait_until(lambda: recorded(above, expected) == expected, f"totals of {expected}", seconds=60)


def test_a_hypervisor_that_is_lost_takes_nothing_away(fleet: Fleet, prometheus: PrometheusServer) -> None:
    """Its guests' disks are still there, as long as it is scraped; then they are forgotten."""
    expected = dict(add_up(fleet))
    lost = fleet.exporters[1]
    lost.stop()
    wait_until(
        lambda: not prometheus.query('hypervisor:resource:capacity{hypervisor_hostname="kvm02"}'),
        "the loss of kvm02",
        seconds=30,
    )
    # What it kept in reserve is not known now. Its slots are gone.
    for rule in (
        "cluster:resource:capacity",
        "cluster:resource:placeable",
        "cluster:resource:placeable_after_host_loss",
    ):
        expected[rule] += 2
    del expected["cluster:flavor_slots:sum"]
    wait_until(lambda: recorded(prometheus, expected) == expected, f"totals of {expected}", seconds=30)

    fleet.remove(lost)
    expected = {"cluster:resource:claimed": 20 + 40}
    wait_until(lambda: recorded(prometheus, expected) == expected, "it to be forgotten", seconds=30)

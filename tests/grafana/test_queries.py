"""Every query of the boards of hypervisors answers, on a real Prometheus that scrapes real exporters."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import libvirt
import pytest

from tests.grafana.boards import BOARDS, Json, interpolate, panels, queries, selectors
from tests.support.fleet import Fleet, Host
from tests.support.prometheus_server import RULES, PrometheusServer
from tests.support.waiting import wait_until

# Hypervisors of two zones share storage.
SHARED = {"storage_id": "nfs:nfs01:/vms"}
HOSTS = (
    Host(
        name="kvm01",
        labels={"zone": "a"},
        cpus=32,
        memory_mib=131072,
        guests={"web": (4, 4096), "db": (8, 16384)},
        # The CPUs 0, 2 and 4 are all that libvirt's test driver has online.
        options={"cpu_shared_set": "0,2", "cpu_dedicated_set": "4", "cpu_allocation_ratio": 16.0, **SHARED},
    ),
    Host(name="kvm02", labels={"zone": "b"}, guests={"cache": (2, 2048)}, options=SHARED),
    # libvirt's default test hypervisor is the one with NUMA cells.
    Host(name="kvm03", labels={"zone": "b"}, uri="test:///default", options={"storage_pool": "default-pool"}),
)
# It never answers, so that there is something that goes wrong.
LOST = Host(name="lost", labels={"zone": "b"}, uri="test:///nonexistent.xml")
FLAVOR = "m1.small"
SETTINGS = {"flavors": {FLAVOR: {"vcpus": 1, "memory_mb": 1024, "disk_gb": 10}}}

# What has no data here, and why; each is computed by rules that have their own tests, or has a collector's.
SILENT = {
    "cluster:resource:seconds_until_full": "a trend needs 6 hours",
    "hypervisor:storage:seconds_until_full": "a trend needs 6 hours",
    "storage:resource:seconds_until_full": "a trend needs 6 hours",
    "hypervisor:guests_waiting:ratio5m": "libvirt's test driver has no guests in a cgroup",
    "hypervisor:guests_stalled:ratio5m": "libvirt's test driver has no guests in a cgroup",
    "hypervisor:guests_cpu:used_ratio": "libvirt's test driver has no guests in a cgroup",
    "hypervisor:guests_cpu:used_of_claimed_ratio": "libvirt's test driver has no guests in a cgroup",
    "hypervisor_guests_cpu_seconds_total": "libvirt's test driver has no guests in a cgroup",
    "hypervisor:cpu_ratio:verdict": "it needs 6 hours",
    "guest:cpu:rate5m": "the collector guests is off; test_guest_queries.py is about guests",
    "guest:cpu_delay:ratio5m": "the collector guests is off",
    "guest:cpu:fair_share_ratio": "the collector guests is off",
    "hypervisor_pci_devices": "libvirt's test driver has no device that guests may have",
    "hypervisor_mdev_available_instances": "libvirt's test driver has no such card",
}
if libvirt.getVersion() < 11_000_000:
    SILENT["hypervisor_numa_cell_pages_free"] = "libvirt's test driver does not tell free pages"


@dataclass(frozen=True)
class World:
    """A fleet and the Prometheus that watches it."""

    fleet: Fleet
    prometheus: PrometheusServer

    def value(self, expr: str) -> float | None:
        """Return the value of a query with one sample."""
        found = self.prometheus.query(expr)
        assert len(found) < 2, found
        return float(found[0]["value"][1]) if found else None


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with Fleet(settings=SETTINGS) as fleet:
        for host in (*HOSTS, LOST):
            fleet.add(host)
        with PrometheusServer(
            scrape_configs=[fleet.scrape_config], interval="1s", rule_files=sorted(RULES.glob("*.yaml"))
        ) as prometheus:
            world = World(fleet, prometheus)
            wait_until(
                lambda: world.value("sum(cluster:hypervisors_up:sum)") == len(HOSTS),
                "all to be up",
                seconds=60,
            )
            for last in ("count(cluster:flavor_slots:sum) > 1", "count(target:refresh_errors:increase10m)"):
                wait_until(lambda last=last: world.value(last) is not None, last, seconds=60)
            yield world


def _answer(world: World, query: Json, **values: str) -> list[Json]:
    """Ask a query as Grafana does: at the end of the time range, or all over it."""
    expr = interpolate(query["expr"], flavor=FLAVOR, __rate_interval="5s", **values)
    now = time.time()
    if query["instant"]:
        return world.prometheus.query(expr, at=now)
    return world.prometheus.query_range(expr, start=now - 10, end=now, step=1)


def _is_silent(query: Json) -> bool:
    return any(selector.name in SILENT for selector in selectors(query["expr"]))


def test_every_query_of_the_overview_answers(world: World) -> None:
    for panel, query in queries(BOARDS["hypervisor-overview"]):
        assert bool(_answer(world, query)) != _is_silent(query), (panel["title"], query["expr"])


def test_every_query_of_the_detail_board_answers_for_a_hypervisor_that_has_what_it_shows(
    world: World,
) -> None:
    """Pinned CPUs are on one hypervisor, NUMA cells on another, errors only where something is wrong."""
    for panel, query in queries(BOARDS["hypervisor-detail"]):
        answers = [bool(_answer(world, query, hypervisor=host.name)) for host in HOSTS]
        is_wrong = "refresh_errors" in query["expr"]
        assert any(answers) != (_is_silent(query) or is_wrong), (panel["title"], query["expr"])


def test_nothing_is_listed_as_silent_that_no_board_asks() -> None:
    asked = {
        each.name
        for board in BOARDS.values()
        for _, query in queries(board)
        for each in selectors(query["expr"])
    }
    assert set(SILENT) <= asked


def test_every_variable_has_values(world: World) -> None:
    """Whatever may be chosen is what Prometheus knows of this fleet."""
    found = {
        name: world.prometheus.values_of(label, selector)
        for name, label, selector in (
            ("group", "zone", "hypervisor:up:max"),
            ("hypervisor", "hypervisor_hostname", "hypervisor:up:max"),
            ("flavor", "flavor", "cluster:flavor_slots:sum"),
            ("job", "job", "hypervisor_up"),
        )
    }
    assert found == {
        "group": ["a", "b"],
        "hypervisor": [host.name for host in HOSTS],
        "flavor": [FLAVOR],
        "job": ["hypervisors"],
    }
    queried = {
        each["name"]: each["query"]["query"]
        for each in BOARDS["hypervisor-overview"]["templating"]["list"]
        if each["type"] == "query"
    }
    assert queried["group"] == "label_values(hypervisor:up:max, $group_label)"
    fullest = interpolate(queried["fullest"].removeprefix("query_result(").removesuffix(")"))
    assert {each["metric"]["hypervisor_hostname"] for each in world.prometheus.query(fullest)} == {
        host.name for host in HOSTS
    }


@pytest.mark.parametrize(
    ("title", "metric", "labels"),
    [
        ("CPU", "hypervisor_vcpus", {}),
        ("Memory", "hypervisor_claimed", {"resource_class": "MEMORY_MB"}),
        ("Disk", "hypervisor_capacity", {"resource_class": "DISK_GB"}),
    ],
)
def test_the_figures_are_the_sums_of_what_the_exporters_say(
    world: World, title: str, metric: str, labels: dict[str, str]
) -> None:
    """One figure of each block against a sum computed apart, for all groups and for one."""
    word = {
        "hypervisor_vcpus": "physical",
        "hypervisor_claimed": "claimed",
        "hypervisor_capacity": "capacity",
    }
    query = next(
        query
        for panel, query in queries(BOARDS["hypervisor-overview"])
        if panel["title"].startswith(f"{title}: ") and query["legendFormat"] == word[metric]
    )
    for group, zones in ((".*", {"a", "b"}), ("b", {"b"})):
        exporters = [each for each in world.fleet.exporters if each.host in HOSTS]
        found = [
            each.scrape().value(metric, **labels) for each in exporters if each.host.labels["zone"] in zones
        ]
        # kvm01 and kvm02 share their disk.
        apart = sum(found[1:] if title == "Disk" and len(zones) > 1 else found)
        answer = _answer(world, query, group=group)
        assert [float(each["value"][1]) for each in answer] == [apart]


def test_a_storage_of_two_groups_has_one_line_and_two_hypervisors_and_room_only_once(world: World) -> None:
    """kvm03 has its own. Each of the two others believes that it has the room of all of the storage."""
    board = {panel["title"]: panel["targets"] for panel in panels(BOARDS["hypervisor-overview"])}
    (line,) = _answer(world, board["Storage that hypervisors share, the fullest first"][0])
    assert (line["metric"], line["value"][1]) == ({"storage": SHARED["storage_id"]}, "2")
    lines = _answer(world, board["Who shares it"][0])
    assert {each["metric"]["hypervisor_hostname"] for each in lines} == {"kvm01", "kvm02"}
    (room,) = _answer(world, board["How many more guests of each flavor fit"][0])
    slots = [
        each.scrape().value("hypervisor_flavor_slots", flavor=FLAVOR)
        for each in world.fleet.exporters
        if each.host in HOSTS
    ]
    capacity = world.fleet.exporters[0].scrape().value("hypervisor_capacity", resource_class="DISK_GB")
    assert float(room["value"][1]) == min(slots[0] + slots[1], capacity // 10) + slots[2]
    assert slots[0] + slots[1] > capacity // 10


def test_the_table_has_a_line_for_each_hypervisor_and_for_what_never_answered(world: World) -> None:
    table = next(p for p in BOARDS["hypervisor-overview"]["panels"] if p["type"] == "table")
    up = _answer(world, table["targets"][0])
    lines = {each["metric"]["hypervisor_hostname"]: float(each["value"][1]) for each in up}
    assert lines == {"kvm01": 1, "kvm02": 1, "kvm03": 1, "test:///nonexistent.xml": 0}


def test_the_distribution_counts_each_hypervisor_once_and_shows_empty_tenths(world: World) -> None:
    panel = next(
        p for p in BOARDS["hypervisor-overview"]["panels"] if p["title"].startswith("Hypervisors by memory")
    )
    answer = _answer(world, panel["targets"][0])
    counts = {each["metric"]["share"]: float(each["value"][1]) for each in answer}
    assert sorted(counts) == [str(tenth) for tenth in range(0, 100, 10)]
    assert sum(counts.values()) == len(HOSTS)

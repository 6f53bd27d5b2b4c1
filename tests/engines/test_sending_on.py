"""Totals and alerts are those of one Prometheus, whatever else scrapes, sends on and evaluates.

All scrape the same real exporters: a Prometheus with the rules, which is the measure; Prometheus 3; and for
VictoriaMetrics, with vmalert over the same rules, a Prometheus agent of 2.42, one of 3.5, and vmagent.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.support.alerting import write_faster_rules
from tests.support.engines import find_engine
from tests.support.fleet import Fleet, Host
from tests.support.prometheus_api import PrometheusApi
from tests.support.prometheus_server import RULES, PrometheusServer
from tests.support.rule_tests import RULES_OF_GUESTS
from tests.support.victoria import serve_agent, serve_victoria, serve_vmagent, serve_vmalert

INTERVAL = "1s"
# What looks back over 10 minutes looks back over 6 seconds.
TIMES_FASTER = 100
ALERTS_WAIT = "2s"

SHARED = {"storage_id": "nfs01:/vms"}
KVM01 = Host(
    name="kvm01", labels={"zone": "a"}, cpus=16, memory_mib=65536, guests={"web": (4, 4096)}, options=SHARED
)
# More memory is claimed than there is.
KVM02 = Host(
    name="kvm02",
    labels={"zone": "a"},
    cpus=8,
    memory_mib=16384,
    guests={"huge": (8, 32768)},
    options={**SHARED, "reserved_host_disk_mb": 51200},
)
KVM03 = Host(name="kvm03", labels={"zone": "b"}, cpus=8, memory_mib=8192, guests={"db": (2, 7168)})
# It never answers.
LOST = Host(name="lost", labels={"zone": "b"}, uri="test:///nonexistent.xml")
FLAVORS = {
    "m1.small": {"vcpus": 1, "memory_mb": 1024, "disk_gb": 0},
    "m1.huge": {"vcpus": 8, "memory_mb": 131072, "disk_gb": 0},
    # kvm01 believes that it has room for three; what kvm02 keeps in reserve leaves one.
    "m1.disk": {"vcpus": 1, "memory_mb": 1, "disk_gb": 30},
}

WRONG_IN_ZONE_A = {
    *("ClusterFlavorWithoutSlot", "ClusterHostLossNotSurvivable"),
    *("HypervisorMemoryUsedHigh", "HypervisorOverclaimed"),
}
WRONG_OF_LOST = {"HypervisorDown", "HypervisorRefreshErrors"}
# Of kvm03 there is too little.
WRONG = {*WRONG_IN_ZONE_A, *WRONG_OF_LOST, "ClusterResourceLow"}

# What each moment has another number for: compared by labels only.
MOVING = {"hypervisor:snapshot_age_seconds:min", "target:refresh_errors:increase10m"}
# What vmalert and the agent's example add to what Prometheus has.
ADDED = {"alertgroup", "region"}

# How long an engine may take to say what another says.
SECONDS = 60
COUNT = "cluster:hypervisors:count"
TRENDS = {
    "cluster:resource:seconds_until_full",
    "hypervisor:storage:seconds_until_full",
    "storage:resource:seconds_until_full",
}
RECORDED = {
    rule["record"]
    for path in RULES.glob("*.yaml")
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
    if "record" in rule and not rule["record"].startswith(RULES_OF_GUESTS)
}

Labels = frozenset[tuple[str, str]]
Found = Mapping[Labels, str]


@dataclass(frozen=True)
class Engine:
    """Where the fleet's series and alerts are.

    :param series: answers queries
    :param alerts: answers what is pending and firing now
    """

    series: PrometheusApi
    alerts: PrometheusApi


@dataclass(frozen=True)
class World:
    """The fleet, the Prometheus that is the measure, and the engines that are measured, by name."""

    fleet: Fleet
    prometheus: Engine
    engines: Mapping[str, Engine]


def write_rules(directory: Path) -> list[Path]:
    """Write the rules so that they look back over less, and alerts wait for a short time only."""
    paths = write_faster_rules(directory, times=TIMES_FASTER)
    for path in paths:
        rules = yaml.safe_load(path.read_text())
        for group in rules["groups"]:
            for rule in group["rules"]:
                if "for" in rule:
                    rule["for"] = ALERTS_WAIT
        path.write_text(yaml.safe_dump(rules))
    return paths


def start_prometheus(stack: ExitStack, fleet: Fleet, rules: list[Path], program: str | Path) -> Engine:
    """Start a Prometheus that scrapes and evaluates by itself."""
    server = PrometheusServer(
        scrape_configs=[fleet.scrape_config], interval=INTERVAL, rule_files=rules, program=program
    )
    api = stack.enter_context(server)
    return Engine(api, api)


def start_prometheus_3(stack: ExitStack, fleet: Fleet, rules: list[Path], root: Path) -> Engine:
    return start_prometheus(stack, fleet, rules, find_engine("sid", "prometheus"))


def start_victoria(stack: ExitStack, rules: list[Path], root: Path) -> Engine:
    """Start a VictoriaMetrics and its vmalert."""
    programs = find_engine("sid", "victoria-metrics").parent
    series = stack.enter_context(serve_victoria(programs, root))
    alerts = stack.enter_context(serve_vmalert(programs, root, series, rules=rules, interval=INTERVAL))
    return Engine(series, alerts)


def start_behind_agent(
    stack: ExitStack, fleet: Fleet, rules: list[Path], root: Path, *, release: str, mode: str
) -> Engine:
    """Start a VictoriaMetrics to which a Prometheus agent of that release sends."""
    agent = find_engine(release, "prometheus")
    engine = start_victoria(stack, rules, root)
    discovery = fleet.scrape_config
    stack.enter_context(
        serve_agent(agent, root, engine.series, mode=mode, discovery=discovery, interval=INTERVAL)
    )
    return engine


def start_behind_agent_2(stack: ExitStack, fleet: Fleet, rules: list[Path], root: Path) -> Engine:
    return start_behind_agent(stack, fleet, rules, root, release="bookworm", mode="--enable-feature=agent")


def start_behind_agent_3(stack: ExitStack, fleet: Fleet, rules: list[Path], root: Path) -> Engine:
    return start_behind_agent(stack, fleet, rules, root, release="sid", mode="--agent")


def start_behind_vmagent(stack: ExitStack, fleet: Fleet, rules: list[Path], root: Path) -> Engine:
    engine = start_victoria(stack, rules, root)
    programs = find_engine("sid", "vmagent").parent
    discovery = fleet.scrape_config
    stack.enter_context(serve_vmagent(programs, root, engine.series, discovery=discovery, interval=INTERVAL))
    return engine


ENGINES: Mapping[str, Callable[[ExitStack, Fleet, list[Path], Path], Engine]] = {
    "Prometheus 3": start_prometheus_3,
    "agent of 2.42, VictoriaMetrics": start_behind_agent_2,
    "agent of 3.5, VictoriaMetrics": start_behind_agent_3,
    "vmagent, VictoriaMetrics": start_behind_vmagent,
}
each_engine = pytest.mark.parametrize("name", ENGINES)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A fleet in which some things are wrong, and all engines that are here."""
    rules = write_rules(tmp_path_factory.mktemp("rules"))
    with ExitStack() as stack:
        fleet = stack.enter_context(Fleet(settings={"flavors": FLAVORS}))
        for host in (KVM01, KVM02, KVM03, LOST):
            fleet.add(host)
        engines = {}
        for name, start in ENGINES.items():
            with contextlib.suppress(pytest.skip.Exception):
                engines[name] = start(stack, fleet, rules, tmp_path_factory.mktemp("engine"))
        yield World(fleet, start_prometheus(stack, fleet, rules, "prometheus"), engines)


@pytest.fixture
def engine(world: World, name: str, tmp_path: Path) -> Engine:
    """The engine of that name; where it is not here, the test is skipped with the reason."""
    if name not in world.engines:
        with ExitStack() as stack:
            ENGINES[name](stack, world.fleet, [], tmp_path)
    return world.engines[name]


def labels_of(metric: Mapping[str, str]) -> Labels:
    return frozenset((name, value) for name, value in metric.items() if name not in ADDED)


def recorded(engine: Engine) -> Found:
    """Return the value of every recorded series, to 9 digits: VictoriaMetrics keeps 12."""
    return {
        labels_of(sample["metric"]): ""
        if sample["metric"]["__name__"] in MOVING
        else f"{float(sample['value'][1]):.9g}"
        for sample in engine.series.query('{__name__=~"(guest|hypervisor|storage|cluster|target):.+"}')
    }


def firing(engine: Engine) -> Found:
    """Return every alert that fires, with its summary where no figure in it moves, without the region."""
    return {
        labels_of(alert["labels"]): ""
        if alert["labels"]["alertname"] == "HypervisorRefreshErrors"
        else alert["annotations"]["summary"].replace("region=north ", "")
        for alert in engine.alerts.ask("alerts")["alerts"]
        if alert["state"] == "firing"
    }


def names_of(alerts: Found) -> set[str]:
    return {dict(labels)["alertname"] for labels in alerts}


def have_waited(engine: Engine) -> set[Labels]:
    """Return every alert that was pending at some time."""
    series = engine.series.query('last_over_time(ALERTS{alertstate="pending"}[10m])')
    return {
        labels_of(sample["metric"]) - {("alertstate", "pending"), ("__name__", "ALERTS")} for sample in series
    }


def wait_for_equal(
    world: World, engine: Engine, read: Callable[[Engine], Found], ready: Callable[[Found], bool]
) -> Found:
    """Return what an engine says once Prometheus says the same, and it is what the test is about."""
    deadline = time.monotonic() + SECONDS
    while True:
        expected, found = read(world.prometheus), read(engine)
        if found == expected and ready(found):
            return found
        if time.monotonic() > deadline:
            assert found == expected
            raise AssertionError(f"not what was waited for: {found}")
        time.sleep(0.2)


def wait_for_totals(world: World, engine: Engine, *, hypervisors: int) -> Found:
    """Return what is recorded, once it is of so many hypervisors and the same as in Prometheus."""

    return wait_for_equal(world, engine, recorded, lambda found: count_hypervisors(found) == hypervisors)


def count_hypervisors(found: Found) -> float:
    """Return of how many hypervisors the recorded totals are."""
    return sum(float(value) for labels, value in found.items() if ("__name__", COUNT) in labels)


def zones_of(found: Found) -> set[str]:
    """Return the zones that anything is recorded of."""
    return {value for labels in found for name, value in labels if name == "zone"}


def wait_for_alerts(world: World, engine: Engine, names: set[str]) -> Found:
    """Return what fires, once it is alerts of these names and the same as in Prometheus."""
    return wait_for_equal(world, engine, firing, lambda found: names_of(found) == names)


@each_engine
def test_every_total_is_that_of_prometheus(world: World, engine: Engine) -> None:
    """Every series, by labels and value. Each rule has some, but for those of guests, and of 6 hours."""
    found = wait_for_totals(world, engine, hypervisors=4)
    assert {dict(labels)["__name__"] for labels in found} == RECORDED - TRENDS


@each_engine
def test_every_alert_waits_and_fires_as_in_prometheus(world: World, engine: Engine) -> None:
    """With the same labels and the same summary."""
    found = wait_for_alerts(world, engine, WRONG)
    assert found.keys() <= have_waited(engine)


@pytest.fixture(scope="module")
def without_exporter(world: World) -> None:
    """From now on an exporter does not answer. Before, all engines knew its hypervisor."""
    for engine in world.engines.values():
        wait_for_totals(world, engine, hypervisors=4)
    world.fleet.exporters[2].stop()


@each_engine
@pytest.mark.usefixtures("without_exporter")
def test_an_exporter_that_is_lost_is_told_alike(world: World, engine: Engine) -> None:
    """Its hypervisor is remembered, though all its series are gone."""
    found = wait_for_alerts(world, engine, {*WRONG_IN_ZONE_A, *WRONG_OF_LOST, "HypervisorExporterDown"})
    address = world.fleet.exporters[2].address
    summary = f"The exporter at {address} does not answer: there are no numbers of 1 hypervisor(s)."
    assert summary in found.values()


@pytest.fixture(scope="module")
def smaller_fleet(world: World) -> None:
    """From now on two of four hypervisors are no longer scraped: zone b is gone."""
    for exporter in world.fleet.exporters[2:]:
        world.fleet.remove(exporter)


@each_engine
@pytest.mark.usefixtures("smaller_fleet")
def test_a_hypervisor_that_is_removed_is_forgotten_alike(world: World, engine: Engine) -> None:
    """The totals shrink, and what was said of it ends."""
    # What is remembered of an exporter that went away may be recorded a moment longer than the count.
    wait_for_equal(
        world, engine, recorded, lambda found: count_hypervisors(found) == 2 and zones_of(found) == {"a"}
    )
    wait_for_alerts(world, engine, WRONG_IN_ZONE_A)

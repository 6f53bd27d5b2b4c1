"""Each collector, on a snapshot of which everything is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from exporter import own, scrape
from exporter.collectors import COLLECTORS, flavors, info, target
from exporter.config.load import load_config
from exporter.config.settings import Flags, HypervisorConfig
from exporter.errors import ConfigError
from exporter.guest_records import ChosenGuests
from exporter.metric import Collector, Metric, Sample
from exporter.model import Ignored, ResourceClass, Snapshot
from exporter.virt.resources import get_available_resource
from tests.support.driver_bench import read_parts
from tests.support.guest_metrics import GUEST_METRICS
from tests.support.records import make_capabilities, make_guest, make_reading, make_snapshot, make_view


@pytest.mark.parametrize("collector", COLLECTORS, ids=lambda collector: collector.name)
def test_it_exports_all_that_it_declares_and_nothing_else(collector: Collector) -> None:
    snapshot = make_snapshot(parts=read_parts())
    chosen = snapshot.get_part("chosen guests", ChosenGuests)
    assert chosen is not None
    claims = {each.record.uuid: {ResourceClass.PCPU: 2} for each in chosen.guests}
    snapshot = replace(snapshot, resources=replace(snapshot.resources, guest_claims=claims))
    exported = {sample.metric.name for sample in collector.collect(snapshot)}
    assert exported == {metric.name for metric in collector.metrics}


def test_without_a_list_of_domains_nothing_that_depends_on_guests_has_a_sample() -> None:
    """Shows that what is not known is no 0, and that all that the host itself tells is there."""
    reading = replace(make_reading(capabilities=make_capabilities(), parts=read_parts()), domains=None)
    resources = get_available_resource(reading, HypervisorConfig(uri="test:///default"))
    snapshot = replace(make_snapshot(), resources=resources)
    exported = {sample.metric.name for each in COLLECTORS for sample in each.collect(snapshot)}
    declared = {metric.name for each in COLLECTORS for metric in each.metrics}
    # What this reading has not got, whatever is known of guests.
    others = {
        "hypervisor_numa_cell_memory_free_bytes",
        "hypervisor_numa_cell_pages_free",
        "hypervisor_pci_devices",
        "hypervisor_pci_devices_claimed",
        "hypervisor_pci_devices_free",
        "hypervisor_mdev_available_instances",
        "hypervisor_unread_devices",
    }
    assert declared - exported == GUEST_METRICS | others


MOST_VCPUS = Metric(
    name="hypervisor_guest_vcpus_max", help="x", labels=("hypervisor_hostname",), source="virDomainGetXMLDesc"
)


def collect_most_vcpus(snapshot: Snapshot) -> Iterator[Sample]:
    """Yield the vCPUs of the largest guest, as docs/design.md has it."""
    resources = snapshot.resources
    if resources.domains is not None:
        most = max((guest.vcpus for guest in resources.domains.known_guests), default=0)
        yield from MOST_VCPUS.samples(most, hypervisor_hostname=resources.hypervisor_hostname)


@pytest.mark.parametrize(("vcpus", "most"), [((), [0]), ((2, 16, 4), [16]), (None, [])])
def test_a_collector_gets_the_guests(vcpus: tuple[int, ...] | None, most: list[float]) -> None:
    guests = [make_guest(number, vcpus=each) for number, each in enumerate(vcpus or ())]
    reading = make_reading(guests=guests)
    if vcpus is None:
        reading = replace(reading, domains=None)
    resources = get_available_resource(reading, HypervisorConfig(uri="test:///default"))
    assert resources.domains is reading.domains, "it costs no memory"
    snapshot = replace(make_snapshot(), resources=resources)
    assert [sample.value for sample in collect_most_vcpus(snapshot)] == most


def test_what_a_hypervisor_is_has_empty_labels_where_its_capabilities_are_not_known() -> None:
    (sample,) = (
        each
        for each in info.COLLECTOR.collect(make_snapshot(cpu_info=None, uuid=None))
        if each.metric is info.INFO
    )
    empty = {name for name, value in sample.labels.items() if not value}
    assert empty == {"arch", "model", "vendor", "sockets", "cores", "threads", "uuid"}


def test_its_names_are_those_of_its_flags_and_its_module() -> None:
    """One word for a collector: its file's name, its flags', and the value of collect[]."""
    modules = [collector.collect.__module__ for collector in COLLECTORS]
    assert modules == [f"exporter.collectors.{collector.name}" for collector in COLLECTORS]
    assert len({collector.name for collector in COLLECTORS}) == len(COLLECTORS)


def test_no_metric_is_declared_by_two() -> None:
    names = [metric.name for collector in COLLECTORS for metric in collector.metrics]
    assert len(set(names)) == len(names)


def test_each_flavor_is_limited_by_its_scarcest_resources() -> None:
    """hypervisor_flavor_slots tells how many fit, hypervisor_flavor_slots_limited_by why no more.

    What one of them takes is hypervisor_flavor_request.
    """
    samples = [
        (each.metric.name, each.labels.get("resource_class"), each.value)
        for each in flavors.COLLECTOR.collect(make_snapshot())
        if each.labels["flavor"] == "m1.large"
    ]
    assert samples == [
        ("hypervisor_flavor_slots", None, 71),
        ("hypervisor_flavor_request", "MEMORY_MB", 72),
        ("hypervisor_flavor_slots_limited_by", "VCPU", 0),
        ("hypervisor_flavor_slots_limited_by", "PCPU", 0),
        ("hypervisor_flavor_slots_limited_by", "MEMORY_MB", 1),
        ("hypervisor_flavor_slots_limited_by", "DISK_GB", 0),
    ]


def test_the_labels_that_the_configuration_gives_are_one_info() -> None:
    found = [dict(s.labels) for s in info.COLLECTOR.collect(make_snapshot()) if s.metric is info.LABELS_INFO]
    assert found == [{"hypervisor_hostname": "kvm01.example", "aggregate": "fast", "zone": "a"}]


def test_without_such_labels_there_is_no_such_info() -> None:
    snapshot = replace(make_snapshot(), labels=())
    assert info.LABELS_INFO not in [each.metric for each in info.COLLECTOR.collect(snapshot)]


def test_labels_that_were_not_declared_are_refused_but_where_the_configuration_may_name_them() -> None:
    metric = Metric(name="hypervisor_x", help="x", labels=("hypervisor_hostname",), source="x")
    with pytest.raises(ValueError, match="hypervisor_x has the labels"):
        metric.samples(1, hypervisor_hostname="kvm01", zone="a")
    with pytest.raises(ValueError, match="hypervisor_x has the labels"):
        replace(metric, more_labels=True).samples(1, zone="a")
    assert replace(metric, more_labels=True).samples(1, hypervisor_hostname="kvm01", zone="a")


def test_no_label_of_a_metric_may_be_given_to_a_hypervisor(tmp_path: Path) -> None:
    """As a target label it would make Prometheus rename the metric's own."""
    declared = (target.METRICS, scrape.METRICS, own.METRICS, *(each.metrics for each in COLLECTORS))
    used = {label for metrics in declared for metric in metrics for label in metric.labels}
    labels = scrape.list_labels(COLLECTORS)
    assert labels == used | {"le"}
    taken = [*labels, "instance", "job"]
    file = tmp_path / "config.yaml"
    head = ("hypervisors:", "  - uri: test:///default", "    labels:")
    file.write_text("\n".join((*head, *(f"      {name}: x" for name in taken))))
    with pytest.raises(ConfigError) as caught:
        load_config(file, Flags(), list_reserved_labels=lambda _: labels)
    assert len(caught.value.mistakes) == len(taken)


def test_what_a_nova_conf_says_in_vain_is_named_once_for_each_option_and_file() -> None:
    """hypervisor_nova_conf_ignored_info has no line numbers, which would change with every comment."""
    ignored = (
        Ignored(option="[libvirt] images_type", file="/etc/nova/nova.conf", line=7, message="x"),
        Ignored(option="[libvirt] images_type", file="/etc/nova/nova.conf", line=9, message="y"),
        Ignored(option="", file="/etc/nova/nova-\udcff.conf", line=None, message="z"),
    )
    samples = [
        (each.labels, each.value)
        for each in target.collect(make_view(ignored=ignored))
        if each.metric is target.NOVA_CONF_IGNORED_INFO
    ]
    assert samples == [
        ({"target": "kvm01", "option": "[libvirt] images_type", "file": "/etc/nova/nova.conf"}, 1),
        ({"target": "kvm01", "option": "", "file": "/etc/nova/nova-\ufffd.conf"}, 1),
    ]

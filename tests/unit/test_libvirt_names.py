"""The names of other exporters: what they show of guests of which all is known, and of which nothing is."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from exporter.collectors.libvirt_names import COLLECTORS
from exporter.config.kinds import LibvirtNames
from exporter.guest_records import (
    AllGuestStatistics,
    AllGuestsUse,
    ChosenGuest,
    ChosenGuests,
    DiskCounters,
    GuestStatistics,
    GuestUse,
    InterfaceCounters,
    MemoryStatistics,
)
from exporter.model import (
    DomainState,
    Guest,
    HostView,
    Interface,
    NovaFlavor,
    NovaInstance,
    Problem,
    Severity,
)
from exporter.scrape import collect_families
from exporter.web.exposition import render_openmetrics, render_text
from tests.support.records import (
    KIB,
    make_disk,
    make_domain,
    make_guest,
    make_pool,
    make_snapshot,
    make_uuid,
    make_view,
)

EXPECTED = Path(__file__).with_name("libvirt_names")
UUID = make_uuid(1)
DISK = make_disk(
    path="/images/a/disk",
    serial="volume-1",
    bus="virtio",
    cache="none",
    discard="unmap",
    driver_name="qemu",
    limits=(("read_bytes_sec", 1001), ("total_iops_sec", 1002), ("read_bytes_sec_max_length", 1003)),
)
VOLUME = make_disk(
    target="sda",
    source_type="network",
    path=None,
    driver_format="raw",
    bus="scsi",
    protocol="rbd",
    network_name="vms/b",
)
CDROM = make_disk(target="hdc", device="cdrom")
INTERFACE = Interface(
    target="tap1",
    type="bridge",
    mac="52:54:00:00:00:01",
    bridge="br-int",
    port_id="port-1",
    model="virtio",
    mtu="1450",
)
OWNER = NovaInstance(
    instance_name="web",
    project_id="project-1",
    project_name="shop",
    user_id="user-1",
    user_name="alice",
    image_id="image-1",
)
FLAVOR = NovaFlavor(name="m1.small", vcpus=2, memory_mb=4, root_gb=1, ephemeral_gb=0, swap_mb=0, resources={})
GUEST = make_guest(
    1,
    vcpus=2,
    maximum_vcpus=4,
    memory_kib=2 * KIB,
    maximum_memory_kib=4 * KIB,
    disks=(DISK, VOLUME, CDROM),
    interfaces=(INTERFACE, replace(INTERFACE, target="")),
    nova_instance=OWNER,
    nova_flavor=FLAVOR,
    os_type="hvm",
    arch="x86_64",
    machine="pc-q35-7.2",
)
USE = GuestUse(
    cpu_ns=1_500_000_000,
    vcpu_run_ns={0: 2_500_000_000, 1: 3_500_000_000},
    vcpu_delay_ns={0: 250_000_000},
    interfaces={
        "tap1": InterfaceCounters(
            received_bytes=21,
            received_packets=22,
            received_errors=23,
            received_dropped=24,
            transmitted_bytes=25,
            transmitted_packets=26,
            transmitted_errors=27,
            transmitted_dropped=28,
        )
    },
)
STATISTICS = GuestStatistics(
    read_at=1.75e9,
    disks={
        "vda": DiskCounters(
            read_bytes=31,
            read_requests=32,
            read_ns=33_000_000_000,
            written_bytes=34,
            write_requests=35,
            write_ns=36_000_000_000,
            flush_requests=37,
            flush_ns=38_000_000_000,
            size_bytes=39,
            allocated_bytes=40,
        ),
        "hdc": DiskCounters(read_bytes=1),
    },
    memory=MemoryStatistics(
        balloon_kib=3 * KIB,
        maximum_kib=4 * KIB,
        rss_kib=5,
        available_kib=200,
        usable_kib=150,
        unused_kib=100,
        disk_caches_kib=6,
        swap_in_kib=7,
        swap_out_kib=8,
        major_faults=9,
        minor_faults=10,
        hugetlb_allocations=11,
        hugetlb_failures=12,
        updated_at=1_750_000_000,
    ),
)


def make_names_view(
    guest: Guest | None = GUEST, *, state: DomainState = DomainState.RUNNING, is_known: bool = True
) -> HostView:
    """Return the view of a hypervisor with one guest.

    :param is_known: whether its files were read, and its QEMU told anything
    """
    record = make_domain(1, state, name="instance-1")
    parts: dict[str, object] = {
        "chosen guests": ChosenGuests(guests=(ChosenGuest(record=record, guest=guest),), omitted=0)
    }
    if is_known:
        parts["storage"] = (make_pool("vms"),)
        parts["guest use"] = AllGuestsUse(use={UUID: USE})
        parts["guest statistics"] = AllGuestStatistics(
            statistics={UUID: STATISTICS}, is_responsive={UUID: True}, is_suspended=False
        )
    counts = {DomainState.RUNNING: 1, DomainState.SHUTOFF: 2}
    return make_view(snapshot=make_snapshot(parts=parts, domains_by_state=counts, running_vms=1))


def with_parts(**changes: object) -> HostView:
    """Return the same with other parts, by their names with underscores; None leaves one out."""
    view = make_names_view()
    assert view.snapshot is not None
    new = {name.replace("_", " "): part for name, part in changes.items()}
    parts = {**view.snapshot.resources.parts, **new}
    resources = replace(view.snapshot.resources, parts=parts)
    return replace(view, snapshot=replace(view.snapshot, resources=resources))


def make_chosen(**changes: Any) -> ChosenGuests:
    """Return the one guest as the guests that are shown."""
    record = make_domain(1, name="instance-1")
    return ChosenGuests(guests=(ChosenGuest(record=record, guest=GUEST),), omitted=0, **changes)


def render(names: str, *views: HostView) -> str:
    """Return the lines that the other exporter has, without their help."""
    text = render_text(collect_families(views, [COLLECTORS[names]])).decode()
    lines = (line for line in text.splitlines() if line.startswith(("libvirt_", "# TYPE libvirt_")))
    return "\n".join(lines) + "\n"


def list_names(names: str, *views: HostView) -> set[str]:
    """Return the names of all series."""
    return {re.split(r"[{ ]", line)[0] for line in render(names, *views).splitlines() if line[0] != "#"}


def test_each_value_of_the_configurations_key_is_a_dialect() -> None:
    assert tuple(COLLECTORS) == get_args(LibvirtNames)


@pytest.mark.parametrize("names", COLLECTORS)
def test_a_guest_of_which_all_is_known_has_all_series_that_the_other_exporter_has(names: str) -> None:
    """The expected text was written from the other exporter's source: names, types, labels and units."""
    assert render(names, make_names_view()) == (EXPECTED / f"{names}.txt").read_text()


@pytest.mark.parametrize("names", COLLECTORS)
def test_every_metric_that_is_declared_is_in_such_a_text(names: str) -> None:
    declared = {metric.name for metric in COLLECTORS[names].metrics}
    limits = {name for name in declared if "limit_" in name or name.endswith("size_iops_bytes")}
    assert declared - list_names(names, make_names_view()) == limits - {
        "libvirt_domain_block_stats_limit_read_bytes",
        "libvirt_domain_block_stats_limit_total_requests",
        "libvirt_domain_block_stats_limit_burst_read_bytes_length_seconds",
    }


@pytest.mark.parametrize("names", COLLECTORS)
def test_what_stands_for_a_metric_has_the_same_unit(names: str) -> None:
    for metric in COLLECTORS[names].metrics:
        if metric.name.endswith("_bytes") and metric.source.startswith("hypervisor_guest_"):
            assert "bytes" in metric.source, metric.name


@pytest.mark.parametrize("names", COLLECTORS)
def test_the_text_is_also_openmetrics(names: str) -> None:
    """Two of inovex' gauges have names that end as a counter's."""
    view = make_names_view()
    text = render_openmetrics(collect_families([view], [COLLECTORS[names]])).decode()
    samples = [each.name for family in parse_openmetrics(text) for each in family.samples]  # type: ignore[no-untyped-call]
    assert {each for each in samples if each.startswith("libvirt_")} == list_names(names, view)


@pytest.mark.parametrize("names", COLLECTORS)
def test_what_is_not_known_has_no_series(names: str) -> None:
    """Of the guest only the list of domains is known. With the others some of it would be 0 or NaN."""
    shown = list_names(names, make_names_view(None, is_known=False))
    of_all = {"libvirt_up", "libvirt_domains", "libvirt_domains_number", "libvirt_versions_info"}
    of_record = {
        "inovex": {"libvirt_domain_info_state", "libvirt_domain_info", "libvirt_domain_openstack_info"},
        "debian": {"libvirt_domain_state_code"},
        "tinkoff": {"libvirt_domain_info_vstate", "libvirt_domain_info_meta"},
    }
    assert shown - of_all == of_record[names]


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (
            "inovex",
            {
                "libvirt_domain_info_state",
                "libvirt_domain_info",
                "libvirt_domain_openstack_info",
                "libvirt_domain_info_maximum_memory_bytes",
                "libvirt_domain_info_memory_usage_bytes",
                "libvirt_domain_info_virtual_cpus",
            },
        ),
        ("debian", set()),
        (
            "tinkoff",
            {
                "libvirt_domain_info_vstate",
                "libvirt_domain_info_meta",
                "libvirt_domain_info_maximum_memory_bytes",
                "libvirt_domain_info_memory_usage_bytes",
                "libvirt_domain_info_virtual_cpus",
            },
        ),
    ],
)
def test_a_guest_that_is_shut_off_shows_what_it_shows_with_the_other_but_no_use(
    names: str, shown: set[str]
) -> None:
    found = list_names(names, make_names_view(state=DomainState.SHUTOFF, is_known=False))
    assert {each for each in found if each.startswith("libvirt_domain_")} == shown


def test_a_state_is_its_number_and_its_text() -> None:
    line = 'libvirt_domain_info_state{domain="instance-1",state_desc="the domain is paused by user"} 3.0\n'
    assert line in render("inovex", make_names_view(state=DomainState.PAUSED))


def test_a_guest_that_does_not_answer_has_timed_out() -> None:
    told = AllGuestStatistics(statistics={}, is_responsive={UUID: False}, is_suspended=False)
    text = render("inovex", with_parts(guest_statistics=told))
    assert 'libvirt_domain_timed_out{domain="instance-1"} 1.0\n' in text
    assert "block_stats_read_bytes" not in text


def test_a_remote_guest_has_its_cpu_time_and_interfaces_as_its_hypervisor_tells_them() -> None:
    statistics = replace(STATISTICS, cpu_ns=4_000_000_000, interfaces=USE.interfaces)
    told = AllGuestStatistics(statistics={UUID: statistics}, is_responsive={}, is_suspended=False)
    text = render("debian", with_parts(guest_statistics=told, guest_use=None))
    assert f'libvirt_domain_info_cpu_time_seconds_total{{domain="instance-1",uuid="{UUID}"}} 4.0\n' in text
    assert "libvirt_domain_interface_stats_receive_bytes_total" in text


def test_the_names_of_owners_can_be_left_out() -> None:
    for names in ("inovex", "tinkoff"):
        text = render(names, with_parts(chosen_guests=make_chosen(show_owner_names=False)))
        assert all(each in text for each in ('project_name=""', 'user_name=""', '="project-1"', '="user-1"'))


def test_labels_that_the_configuration_adds_are_on_all_series_of_a_guest() -> None:
    """For proxies that separate tenants. A label that the other exporter has too is there once."""
    view = with_parts(chosen_guests=make_chosen(series_labels=("uuid", "project_id")))
    for names in COLLECTORS:
        lines = [line for line in render(names, view).splitlines() if line.startswith("libvirt_domain_")]
        assert {line.count(f'uuid="{UUID}"') for line in lines} == {1}
        assert {line.count('project_id="project-1"') for line in lines} == {1}


@pytest.mark.parametrize("names", COLLECTORS)
def test_a_hypervisor_that_is_down_shows_only_that(names: str) -> None:
    view = replace(make_names_view(), is_up=False, snapshot=None)
    assert render(names, view) == "# TYPE libvirt_up gauge\nlibvirt_up 0.0\n"


@pytest.mark.parametrize(
    ("reasons", "up"), [(("incomplete",), 1), (("timeout",), 0), (("incomplete", "timeout"), 0)]
)
def test_libvirt_is_up_if_it_answers_though_numbers_of_the_host_are_missing(
    reasons: tuple[str, ...], up: int
) -> None:
    problems = [
        Problem(severity=Severity.FATAL, reason=reason, subject=reason, message="x") for reason in reasons
    ]
    noted = Problem(severity=Severity.ERROR, reason="storage", subject="", message="x")
    view = replace(make_names_view(), is_up=False, problems=(*problems, noted))
    assert f"libvirt_up {up}.0\n" in render("inovex", view)


@pytest.mark.parametrize("names", COLLECTORS)
def test_in_a_scrape_of_several_hypervisors_each_series_says_of_which_it_is(names: str) -> None:
    """Without the label the two would have the same series, which Prometheus refuses."""
    first = make_names_view()
    assert first.snapshot is not None
    second = replace(first, target="kvm02", snapshot=replace(first.snapshot, target="kvm02"))
    lines = [line for line in render(names, first, second).splitlines() if line[0] != "#"]
    series = [line.rpartition(" ")[0] for line in lines]
    assert len(set(series)) == len(series) == 2 * len(render(names, first).split("\nlibvirt_")[1:])
    assert all(('target="kvm01"' in each) != ('target="kvm02"' in each) for each in series)


def test_texts_that_others_chose_are_cleaned() -> None:
    disk = replace(DISK, path="/images/\u202e\n" + "x" * 2000)
    text = render("debian", make_names_view(replace(GUEST, disks=(disk,))))
    assert 'source_file="/images/\ufffd\ufffdxxx' in text
    assert "x" * 1024 not in text


# What public boards ask for, without "libvirt_": inovex' own one, and those of users of the other two.
_CPU = "domain_info_cpu_time_seconds_total domain_info_virtual_cpus domain_info_maximum_memory_bytes"
_DISKS = (
    "domain_block_stats_read_bytes_total domain_block_stats_write_bytes_total"
    " domain_block_stats_read_requests_total domain_block_stats_write_requests_total"
)
_DISK_TIMES = "domain_block_stats_read_time_seconds_total domain_block_stats_write_time_seconds_total"
_NETWORK = " ".join(
    f"domain_interface_stats_{direction}_{what}_total"
    for direction in ("receive", "transmit")
    for what in ("bytes", "packets", "errors", "drops")
)
BOARDS = {
    "inovex": f"""
        {_CPU} {_DISKS} {_DISK_TIMES} {_NETWORK} up domains
        domain_openstack_info domain_info_state domain_block_stats_info domain_interface_stats_info
        domain_vcpu_current domain_vcpu_delay_seconds_total domain_vcpu_time_seconds_total
        domain_memory_stats_maximum_bytes domain_memory_stats_used_percent
        domain_memory_stats_swap_in_bytes domain_memory_stats_swap_out_bytes
        """,
    "debian": f"{_CPU} {_DISKS} {_NETWORK} up domains_number domain_state_code",
    "tinkoff": f"""
        {_CPU} {_DISKS} {_DISK_TIMES} {_NETWORK} up
        domain_info_meta domain_info_vstate domain_block_meta domain_interface_meta
        domain_memory_stats_used_percent domain_memory_stats_actual_balloon_bytes
        domain_memory_stats_unused_bytes domain_memory_stats_available_bytes
        """,
}


@pytest.mark.parametrize("names", COLLECTORS)
def test_the_boards_that_there_are_find_their_series(names: str) -> None:
    asked = {f"libvirt_{name}" for name in BOARDS[names].split()}
    assert asked - list_names(names, make_names_view()) == set()

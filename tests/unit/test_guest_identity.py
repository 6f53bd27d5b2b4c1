"""The collector `guests`: who a guest is, and what it was promised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from exporter.collectors import guests
from exporter.collectors.guests.rows import list_rows
from exporter.guest_records import ChosenGuest, ChosenGuests
from exporter.metric import Series
from exporter.model import DomainState, Interface, NovaFlavor, NovaInstance, ResourceClass
from exporter.placement.holders import GuestClaim
from tests.support.records import make_disk, make_domain, make_guest, make_snapshot

FLAVOR = NovaFlavor(
    name="m1.small", vcpus=2, memory_mb=512, root_gb=20, ephemeral_gb=0, swap_mb=0, resources={}
)
WEB = make_guest(
    1,
    nova_flavor=FLAVOR,
    nova_instance=NovaInstance(
        instance_name="web", project_id="7d1b", project_name="shop", user_id="0a6f", user_name="alice"
    ),
    disks=(
        make_disk(target="vda", bus="virtio", limits=(("read_bytes_sec", 1000), ("total_iops_sec", 50))),
        make_disk(target="vdb", serial="fa37", source_type="network", protocol="rbd"),
    ),
    interfaces=(Interface(target="tap1", type="bridge", mac="fa:16", bridge="br-int", port_id="6f0c"),),
)


def show(
    *chosen: ChosenGuest, claims: Mapping[str, GuestClaim] = MappingProxyType({}), **options: Any
) -> dict[str, list[tuple[Mapping[str, str], float]]]:
    """Return the labels and values by metric, without the name of the hypervisor and what all begin with."""
    part = ChosenGuests(guests=chosen, omitted=0, **options)
    snapshot = make_snapshot(parts={"chosen guests": part}, guest_claims=claims)
    found: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    for each in guests.COLLECTOR.collect(snapshot):
        if isinstance(each, Series):
            name = each.metric.name.removeprefix("hypervisor_guest_")
            for labels, value in each.rows:
                assert labels["hypervisor_hostname"] == "kvm01.example"
                rest = {key: text for key, text in labels.items() if key != "hypervisor_hostname" and text}
                found.setdefault(name, []).append((rest, value))
    return found


def test_a_scrape_shows_a_guest_as_it_was_though_another_one_is_rendered_meanwhile() -> None:
    """Scrapes and debug=true are rendered in threads of their own, and share what is kept of a guest."""
    running = ChosenGuest(record=make_domain(1), guest=WEB)
    paused = replace(running, record=make_domain(1, state=DomainState.PAUSED))
    snapshot = make_snapshot()
    (first,), (second,) = (
        list_rows(snapshot, ChosenGuests(guests=(each,), omitted=0)) for each in (running, paused)
    )
    assert (first.record.state, second.record.state) == (DomainState.RUNNING, DomainState.PAUSED)
    assert first.labels is second.labels, "they are rendered once"


def test_a_running_guest_shows_all_that_is_known() -> None:
    found = show(ChosenGuest(record=make_domain(1, reason=1), guest=WEB))
    assert found == {
        "info": [
            (
                {
                    "domain": "guest1",
                    "uuid": WEB.uuid,
                    "instance_name": "web",
                    "flavor": "m1.small",
                    "project_id": "7d1b",
                    "project_name": "shop",
                    "user_id": "0a6f",
                    "user_name": "alice",
                },
                1,
            )
        ],
        "state_info": [({"domain": "guest1", "state": "running", "reason": "booted"}, 1)],
        "vcpus": [({"domain": "guest1"}, 2)],
        "memory_size_bytes": [({"domain": "guest1"}, 512 * 2**20)],
        "disk_info": [
            ({"domain": "guest1", "device": "vda", "bus": "virtio", "type": "file", "format": "qcow2"}, 1),
            ({"domain": "guest1", "device": "vdb", "volume_id": "fa37", "type": "rbd", "format": "qcow2"}, 1),
        ],
        "disk_limit_bytes_per_second": [({"domain": "guest1", "device": "vda", "direction": "read"}, 1000)],
        "disk_limit_ops_per_second": [({"domain": "guest1", "device": "vda", "direction": "total"}, 50)],
        "network_info": [
            (
                {
                    "domain": "guest1",
                    "device": "tap1",
                    "mac": "fa:16",
                    "bridge": "br-int",
                    "port_id": "6f0c",
                    "type": "bridge",
                },
                1,
            )
        ],
    }


def test_a_guest_that_does_not_run_shows_who_and_how_it_is_and_nothing_that_it_uses() -> None:
    record = make_domain(1, DomainState.SHUTOFF, reason=3)
    found = show(ChosenGuest(record=record, guest=WEB))
    assert found.keys() == {"info", "state_info"}
    assert found["state_info"] == [({"domain": "guest1", "state": "shutoff", "reason": "crashed"}, 1)]


@pytest.mark.parametrize(
    ("claim", "shown"),
    [
        ({ResourceClass.VCPU: 0, ResourceClass.PCPU: 3}, [({"domain": "guest1"}, 3)]),
        ({ResourceClass.VCPU: 2, ResourceClass.PCPU: 0}, None),
        ({ResourceClass.VCPU: None, ResourceClass.PCPU: None}, None),
    ],
    ids=["some", "none", "not known"],
)
def test_only_a_guest_with_dedicated_cpus_says_how_many(
    claim: GuestClaim, shown: list[tuple[Mapping[str, str], float]] | None
) -> None:
    chosen = ChosenGuest(record=make_domain(1), guest=WEB)
    assert show(chosen, claims={WEB.uuid: claim}).get("dedicated_cpus") == shown


def test_a_guest_whose_xml_is_not_known_shows_its_state() -> None:
    found = show(ChosenGuest(record=make_domain(1, DomainState.PAUSED, reason=5), guest=None))
    assert found == {
        "info": [({"domain": "guest1", "uuid": WEB.uuid}, 1)],
        "state_info": [({"domain": "guest1", "state": "paused", "reason": "ioerror"}, 1)],
    }


def test_a_reason_that_a_newer_libvirt_has_is_its_number() -> None:
    found = show(ChosenGuest(record=make_domain(1, DomainState.PAUSED, reason=99), guest=None))
    assert found["state_info"] == [({"domain": "guest1", "state": "paused", "reason": "99"}, 1)]


def test_labels_that_the_configuration_names_are_on_every_series() -> None:
    found = show(ChosenGuest(record=make_domain(1), guest=WEB), series_labels=("project_id", "flavor"))
    assert len(found) == 8
    for rows in found.values():
        for labels, _value in rows:
            assert (labels["project_id"], labels["flavor"]) == ("7d1b", "m1.small")


def test_names_of_projects_and_users_can_be_left_out() -> None:
    ((labels, _),) = show(ChosenGuest(record=make_domain(1), guest=WEB), show_owner_names=False)["info"]
    assert (labels["project_id"], labels["user_id"]) == ("7d1b", "0a6f")
    assert not labels.keys() & {"project_name", "user_name"}


@pytest.mark.parametrize("targets", [[f"vd{number}" for number in range(40)], ["vda", "vda", ""]])
def test_disks_are_limited_and_none_is_shown_twice(targets: list[str]) -> None:
    guest = replace(WEB, disks=tuple(make_disk(target=target) for target in targets))
    found = show(ChosenGuest(record=make_domain(1), guest=guest))["disk_info"]
    expected = list(dict.fromkeys(target for target in targets if target))[:32]
    assert [labels["device"] for labels, _ in found] == expected

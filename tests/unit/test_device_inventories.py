"""What guests hold of the host's devices, and what is left, by Placement's resource classes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.collectors import capacity, devices
from exporter.config.settings import HypervisorConfig
from exporter.device_spec import DeviceSpecError, list_assignable, parse_device_spec
from exporter.model import (
    DeviceClass,
    DeviceProvider,
    DomainInfo,
    DomainState,
    Flavor,
    Guest,
    GuestDevices,
    Inventory,
    Mdev,
    MdevType,
    NodeDevices,
    NovaFlavor,
    PciDevice,
    Severity,
)
from exporter.placement.devices import get_device_inventories, list_held_addresses
from exporter.placement.pci import find_free, get_pci_view
from exporter.virt.guests.guest_xml import make_unread_guest, parse_guest
from exporter.virt.node_devices import parse_node_devices
from exporter.virt.resources import get_available_resource
from tests.support.guests import guest_xml
from tests.support.node_devices import GPU, NETWORK_CARD, VDPA, VIRTUAL_FUNCTION
from tests.support.records import make_domain, make_guest, make_pci_device, make_reading, make_snapshot
from tests.unit.test_node_devices import Cache, Devices

VGPU = DeviceClass("VGPU")
CUSTOM = DeviceClass("CUSTOM_BIG")
UUIDS = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(9)]


# What a guest has.


HOSTDEV = (
    "<hostdev mode='subsystem' type='pci' managed='yes'><driver name='vfio'/><source>"
    "<address domain='0x0000' bus='0x84' slot='0x00' function='0x1'/></source>"
    "<address type='pci' domain='0x0000' bus='0x06' slot='0x00' function='0x0'/></hostdev>"
)
MDEV = (
    "<hostdev mode='subsystem' type='mdev' managed='no' model='vfio-pci'><source>"
    f"<address uuid='{UUIDS[1].upper()}'/></source></hostdev>"
)
PORT = (
    "<interface type='hostdev' managed='yes'><mac address='fa:16:3e:00:00:01'/><source>"
    "<address type='pci' domain='0x0000' bus='0x02' slot='0x02' function='0x0'/></source></interface>"
)
VDPA_PORT = "<interface type='vdpa'><source dev='/dev/vhost-vdpa-0'/></interface>"


def read_devices(*elements: str) -> GuestDevices:
    return parse_guest(make_domain_xml(interfaces=elements)).devices


def make_domain_xml(**parts: Any) -> str:
    return guest_xml("guest1", **parts).replace("</name>", f"</name><uuid>{UUIDS[0]}</uuid>", 1)


def test_a_guest_has_the_devices_of_its_definition() -> None:
    """Not those addresses that they have in the guest."""
    assert read_devices(HOSTDEV, MDEV, PORT, VDPA_PORT) == GuestDevices(
        hostdevs=frozenset({"0000:84:00.1"}),
        interfaces=frozenset({"0000:02:02.0", "/dev/vhost-vdpa-0"}),
        mdev_uuids=frozenset({UUIDS[1]}),
    )


def test_a_guest_without_devices_has_none() -> None:
    assert read_devices() == GuestDevices()


ODD_DEVICES = (
    (HOSTDEV.replace(" bus='0x84'", ""), "<hostdev type='pci'>"),
    (HOSTDEV.replace("0x84", "none"), "<hostdev type='pci'>"),
    (HOSTDEV.replace("0x84", "-0x1"), "<hostdev type='pci'>"),
    ("<hostdev mode='subsystem' type='pci'/>", "<hostdev type='pci'>"),
    (MDEV.replace(f" uuid='{UUIDS[1].upper()}'", ""), "<hostdev type='mdev'>"),
    (PORT.replace("bus='0x02'", "bus=''"), "<interface type='hostdev'>"),
    ("<interface type='vdpa'/>", "<interface type='vdpa'>"),
)


@pytest.mark.parametrize(("odd", "what"), ODD_DEVICES)
def test_an_odd_device_costs_neither_the_guest_nor_its_other_devices(odd: str, what: str) -> None:
    """It is left out and named."""
    guest = parse_guest(make_domain_xml(interfaces=(odd, PORT)))
    assert guest.devices == GuestDevices(interfaces=frozenset({"0000:02:02.0"}), are_known=False)
    assert guest.odd_parts.startswith(f"{what}: ")
    assert guest.is_placement_known


def test_a_device_that_is_no_pci_and_no_mediated_one_is_not_odd() -> None:
    usb = "<hostdev mode='subsystem' type='usb'><source><address bus='1' device='2'/></source></hostdev>"
    guest = parse_guest(make_domain_xml(interfaces=(usb, PORT)))
    assert guest.devices == GuestDevices(interfaces=frozenset({"0000:02:02.0"}))
    assert guest.odd_parts == ""


# Inventories.


def make_provider(number: int, total: int, resource_class: DeviceClass = VGPU) -> DeviceProvider:
    """Return a card; the mediated device with that number is on it."""
    return DeviceProvider(
        name=f"pci_0000_8{number}_00_0",
        resource_class=resource_class,
        total=total,
        members=frozenset({UUIDS[number]}),
        is_mdev=True,
    )


def make_node_devices(*providers: DeviceProvider, **changes: Any) -> NodeDevices:
    mdevs = tuple(
        Mdev(uuid=uuid, parent=each.name, mdev_type="a") for each in providers for uuid in each.members
    )
    return NodeDevices(
        **{"pci_devices": (), "mdev_types": (), "mdevs": mdevs, "providers": providers, **changes}
    )


def hold(*uuids: str, requested: Iterable[str] = ()) -> tuple[GuestDevices, list[tuple[DeviceClass, int]]]:
    return GuestDevices(mdev_uuids=frozenset(uuids)), [(DeviceClass(name), 1) for name in requested]


def test_a_class_is_the_sum_of_its_cards_and_each_has_its_own_free_devices() -> None:
    known = make_node_devices(make_provider(1, 4), make_provider(2, 2), make_provider(3, 8, CUSTOM))
    assert get_device_inventories(known, [hold(UUIDS[1]), hold(UUIDS[2])]) == (
        Inventory(
            resource_class=VGPU,
            total=6,
            reserved=0,
            allocation_ratio=1.0,
            claimed=2,
            free_by_provider=(3, 1),
        ),
        Inventory(
            resource_class=CUSTOM, total=8, reserved=0, allocation_ratio=1.0, claimed=0, free_by_provider=(8,)
        ),
    )


def test_a_device_that_does_not_exist_now_is_claimed_of_an_unknown_card() -> None:
    """As after a reboot of the host, until its guest is started."""
    known = make_node_devices(make_provider(1, 4), make_provider(2, 2))
    (inventory,) = get_device_inventories(known, [hold(UUIDS[7])])
    assert (inventory.claimed, inventory.unplaced, inventory.free_by_provider) == (1, 1, (4, 2))


def test_its_class_is_that_of_the_guests_flavor_if_there_are_several() -> None:
    known = make_node_devices(make_provider(1, 4), make_provider(3, 8, CUSTOM))
    found = get_device_inventories(known, [hold(UUIDS[7], requested=["CUSTOM_BIG", "CUSTOM_OTHER"])])
    assert [(each.resource_class, each.claimed) for each in found] == [("VGPU", 0), ("CUSTOM_BIG", 1)]


@pytest.mark.parametrize("requested", [(), ("VGPU", "CUSTOM_BIG")])
def test_if_not_even_its_class_is_known_no_claim_is(requested: Sequence[str]) -> None:
    known = make_node_devices(make_provider(1, 4), make_provider(3, 8, CUSTOM))
    found = get_device_inventories(known, [hold(UUIDS[7], requested=requested)])
    assert [(each.total, each.claimed, each.free_by_provider) for each in found] == [
        (4, None, None),
        (8, None, None),
    ]


def test_without_a_list_of_guests_no_claim_is_known() -> None:
    (inventory,) = get_device_inventories(make_node_devices(make_provider(1, 4)), None)
    assert (inventory.total, inventory.claimed, inventory.free_by_provider) == (4, None, None)


def test_a_guest_of_a_card_that_nova_does_not_use_claims_nothing() -> None:
    known = make_node_devices(make_provider(1, 4))
    other = Mdev(uuid=UUIDS[5], parent="pci_0000_af_00_0", mdev_type="b")
    known = make_node_devices(make_provider(1, 4), mdevs=(*known.mdevs, other))
    (inventory,) = get_device_inventories(known, [hold(UUIDS[5])])
    assert (inventory.claimed, inventory.unplaced) == (0, 0)


def test_the_whole_way_from_guests_to_series() -> None:
    """A guest that is shut off has its device, too."""
    guests = [make_guest(1, devices=hold(UUIDS[1])[0]), make_guest(2)]
    domains = [make_domain(1)._replace(id=-1, state=DomainState.SHUTOFF), make_domain(2)]
    reading = make_reading(
        guests=guests, domains=domains, node_devices=make_node_devices(make_provider(1, 4))
    )
    resources = get_available_resource(reading, HypervisorConfig(uri="test:///default"))
    snapshot = replace(make_snapshot(), resources=resources)
    values = {
        sample.metric.name.removeprefix("hypervisor_"): sample.value
        for sample in capacity.COLLECTOR.collect(snapshot)
        if sample.labels["resource_class"] == "VGPU"
    }
    assert values == {
        "inventory": 4,
        "reserved": 0,
        "allocation_ratio": 1,
        "capacity": 4,
        "claimed": 1,
        "shut_off_claimed": 1,
        "migrating_in_claimed": 0,
    }


def test_where_devices_are_not_read_there_is_no_inventory_of_them() -> None:
    resources = get_available_resource(
        make_reading(node_devices=None), HypervisorConfig(uri="test:///default")
    )
    assert all(each.free_by_provider is None for each in resources.inventories)
    assert len(resources.inventories) == 3
    assert resources.held_pci_devices is None


@pytest.mark.parametrize(
    "odd",
    [
        parse_guest(make_domain_xml(interfaces=(ODD_DEVICES[0][0],))),
        make_unread_guest(make_domain(2), DomainInfo(vcpus=1, memory_kib=1, maximum_memory_kib=1)),
    ],
    ids=["odd device", "no XML"],
)
def test_what_guests_hold_is_unknown_if_one_of_their_devices_is_odd(odd: Guest) -> None:
    """It may be any device: what counts as free would be a guess."""
    guests = [make_guest(1, devices=hold(UUIDS[1])[0]), odd]
    flavors = [Flavor(name="gpu", vcpus=1, memory_mb=1, disk_gb=0, devices=((VGPU, 1),))]
    flavors.append(replace(flavors[0], name="plain", devices=()))
    resources = get_available_resource(
        make_reading(guests=guests, node_devices=make_node_devices(make_provider(1, 4))),
        HypervisorConfig(uri="test:///default", flavors=tuple(flavors)),
    )
    (inventory,) = [each for each in resources.inventories if each.resource_class == VGPU]
    assert (inventory.total, inventory.claimed, inventory.free_by_provider) == (4, None, None)
    assert resources.held_pci_devices is None
    assert [each.flavor for each in resources.flavor_slots] == ["plain"]
    assert resources.vcpus_used is not None


# PCI devices.


def look_at_pci(*specs: Mapping[str, Any], xmls: Sequence[str]) -> Any:
    parsed = [spec for each in specs for spec in parse_device_spec(json.dumps(each))]
    allowed = list_assignable(parse_node_devices(xmls).pci, parsed, {})
    return get_pci_view(allowed, parsed, {})


SECOND_FUNCTION = VIRTUAL_FUNCTION.replace("<slot>2</slot>", "<slot>3</slot>").replace("02_02_0", "02_03_0")


def test_a_card_is_a_provider_and_virtual_functions_are_of_their_cards() -> None:
    view = look_at_pci(
        {"product_id": "154c"},
        {"vendor_id": "10de"},
        xmls=[NETWORK_CARD, VIRTUAL_FUNCTION, SECOND_FUNCTION, GPU],
    )
    assert view.conflicts == ()
    assert [
        (each.name, each.resource_class, each.total, sorted(each.members)) for each in view.providers
    ] == [
        ("0000:02:00.0", "CUSTOM_PCI_8086_154C", 2, ["0000:02:02.0", "0000:02:03.0"]),
        ("0000:84:00.0", "CUSTOM_PCI_10DE_13F2", 1, ["0000:84:00.0"]),
    ]


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("gpu", "CUSTOM_GPU"),
        ("CUSTOM_GPU", "CUSTOM_GPU"),
        ("custom_gpu", "CUSTOM_GPU"),
        ("Tesla M60 (16 GB)", "CUSTOM_TESLA_M60_16_GB_"),
        ("pgpu", "PGPU"),
        ("", "CUSTOM_PCI_10DE_13F2"),
    ],
)
def test_a_tag_names_the_class_as_nova_normalizes_it(tag: str, expected: str) -> None:
    view = look_at_pci({"vendor_id": "10de", "resource_class": tag}, xmls=[GPU])
    assert [each.resource_class for each in view.providers] == [expected]


def test_the_first_specification_that_means_a_device_has_its_tags() -> None:
    view = look_at_pci({"vendor_id": "10de", "resource_class": "a"}, {"resource_class": "b"}, xmls=[GPU])
    assert [each.resource_class for each in view.providers] == ["CUSTOM_A"]


def test_devices_for_network_ports_are_not_in_placement() -> None:
    view = look_at_pci({"physical_network": "net1"}, xmls=[NETWORK_CARD, VIRTUAL_FUNCTION])
    assert (view.providers, view.conflicts) == ((), ())


@pytest.mark.parametrize(
    ("specs", "xmls", "conflict"),
    [
        ([{}], [NETWORK_CARD, VIRTUAL_FUNCTION], "allows 0000:02:00.0 and also virtual functions of it"),
        (
            [{"address": "0000:02:02.0", "resource_class": "a"}, {"resource_class": "b"}],
            [VIRTUAL_FUNCTION, SECOND_FUNCTION],
            "gives the virtual functions of 0000:02:00.0 different resource classes",
        ),
        (
            [{"address": "0000:02:02.0", "traits": "a,b"}, {"traits": "b"}],
            [VIRTUAL_FUNCTION, SECOND_FUNCTION],
            "gives the virtual functions of 0000:02:00.0 different traits",
        ),
        ([{"one_time_use": "false"}], [VIRTUAL_FUNCTION], "has one_time_use for a virtual function"),
        (
            [{"resource_class": "vcpu"}],
            [GPU],
            "gives 0000:84:00.0 the resource class VCPU of the host",
        ),
    ],
    ids=["card-and-function", "classes", "traits", "one-time-use", "class-of-the-host"],
)
def test_what_nova_refuses_is_in_no_inventory_and_named(
    specs: Sequence[Mapping[str, Any]], xmls: Sequence[str], conflict: str
) -> None:
    view = look_at_pci(*specs, xmls=xmls)
    assert view.providers == ()
    (found,) = view.conflicts
    assert f"device_spec {conflict}" in found


def test_other_cards_are_not_affected_by_a_conflict() -> None:
    view = look_at_pci({}, xmls=[NETWORK_CARD, VIRTUAL_FUNCTION, GPU])
    assert [each.name for each in view.providers] == ["0000:84:00.0"]


@pytest.mark.parametrize("tag", ["resource_class", "traits"])
def test_a_tag_that_is_no_text_is_refused(tag: str) -> None:
    with pytest.raises(DeviceSpecError, match=rf"{tag} 3 is no text"):
        parse_device_spec(json.dumps({tag: 3}))


def read_source(*specs: str, **options: Any) -> tuple[NodeDevices, list[tuple[Severity, str]]]:
    """Return what is known of a host with a network card, a function of it and a GPU, and the problems."""
    cache = Cache(specs=specs, hypervisor=Devices(), options=options)
    known = cache.read()
    return known, [(each.severity, each.message) for each in cache.cache.get_problems()]


def test_pci_devices_are_in_placement_only_if_nova_reports_them() -> None:
    known, problems = read_source('{"product_id": "154c"}')
    assert (known.providers, problems) == ((), [])
    known, problems = read_source('{"product_id": "154c"}', report_in_placement=True)
    assert [(each.name, each.total) for each in known.providers] == [("0000:02:00.0", 1)]
    assert problems == []


def test_a_conflict_is_an_error_that_says_what_nova_does() -> None:
    _, ((severity, message),) = read_source('{"devname": "eth7"}', report_in_placement=True)
    assert severity is Severity.ERROR
    assert message == (
        "device_spec has a devname beside report_in_placement: Nova reports no devices to Placement then"
    )


def test_mediated_devices_are_in_placement_only_if_types_are_enabled() -> None:
    known, _ = read_source()
    assert (known.providers, len(known.mdev_types)) == ((), 2)
    known, _ = read_source(enabled_mdev_types=("nvidia-12", "nvidia-11"))
    assert [(each.name, each.total) for each in known.providers] == [("pci_0000_84_00_0", 4)]
    assert known.mdev_types == (MdevType(name="nvidia-12", available_instances=4),)


def test_a_vdpa_device_is_known_by_its_path() -> None:
    parsed = parse_node_devices([VIRTUAL_FUNCTION, VDPA])
    known = make_node_devices(pci_devices=parsed.pci, vdpa_addresses=parsed.vdpa_addresses)
    guest = GuestDevices(interfaces=frozenset({"/dev/vhost-vdpa-0"}))
    assert list_held_addresses(known, [guest]) == {"0000:02:02.0"}


@given(st.data())
def test_what_is_free_is_what_novas_tracker_would_still_give(data: st.DataObject) -> None:
    """Against its rules, device by device: a card takes its functions along, and a function its card."""
    functions = [
        make_pci_device(address=f"0000:0{card}:02.{number}", parent_address=f"0000:0{card}:00.0")
        for card in range(2)
        for number in range(2)
    ]
    cards = [
        make_pci_device(address=f"0000:0{card}:00.0", dev_type="type-PF", parent_address=None)
        for card in range(2)
    ]
    tracked: list[PciDevice] = data.draw(st.permutations([*functions, *cards]))
    tracked = tracked[: data.draw(st.integers(0, 6))]
    held = frozenset(data.draw(st.sets(st.sampled_from([each.address for each in (*functions, *cards)]))))

    status = {each.address: "available" for each in tracked}
    for device in tracked:
        if device.address in held:
            status[device.address] = "claimed"
    for device in tracked:
        family = [each for each in tracked if each.parent_address == device.address]
        if device.address in held:
            for each in family:
                status[each.address] = "unclaimable"
            if device.parent_address in status:
                status[device.parent_address] = "unclaimable"
        if device.parent_address in held:
            status[device.address] = "unclaimable"
    assert find_free(tracked, held) == {address for address, each in status.items() if each == "available"}


def test_claimed_and_free_devices_are_counted_by_kind() -> None:
    card = make_pci_device(address="0000:02:00.0", product_id="1572", dev_type="type-PF", parent_address=None)
    functions = [
        make_pci_device(address=f"0000:02:02.{number}", parent_address=card.address) for number in range(3)
    ]
    snapshot = make_snapshot(
        pci_passthrough_devices=(card, *functions),
        held_pci_devices=frozenset({functions[0].address, "other"}),
    )
    values = {
        (sample.metric.name.removeprefix("hypervisor_pci_devices"), sample.labels["dev_type"]): sample.value
        for sample in devices.COLLECTOR.collect(snapshot)
        if "dev_type" in sample.labels
    }
    assert values == {
        ("", "type-PF"): 1,
        ("_claimed", "type-PF"): 0,
        ("_free", "type-PF"): 0,
        ("", "type-VF"): 3,
        ("_claimed", "type-VF"): 1,
        ("_free", "type-VF"): 2,
    }


def test_without_guests_devices_are_counted_and_their_claims_are_not_known() -> None:
    snapshot = make_snapshot(held_pci_devices=None)
    names = {sample.metric.name for sample in devices.COLLECTOR.collect(snapshot)}
    assert "hypervisor_pci_devices" in names
    assert not names & {"hypervisor_pci_devices_claimed", "hypervisor_pci_devices_free"}


# Nova's metadata.


def test_a_flavor_names_what_it_asks_for_of_devices() -> None:
    specs = {
        "resources:VGPU": "1",
        "resources1:CUSTOM_BIG": "2",
        "resources_gpu2:CUSTOM_BIG": "1",
        "resources:VCPU": "3",
        "resources:CUSTOM_NONE": "0",
        "trait:CUSTOM_FAST": "required",
        "pci_passthrough:alias": "a1:1",
    }
    listed = "".join(f"<nova:extraSpec name='{name}'>{text}</nova:extraSpec>" for name, text in specs.items())
    metadata = (
        "<nova:instance xmlns:nova='http://openstack.org/xmlns/libvirt/nova/1.1'>"
        "<nova:flavor name='gpu'><nova:memory>512</nova:memory><nova:disk>1</nova:disk>"
        f"<nova:vcpus>1</nova:vcpus><nova:extraSpecs>{listed}</nova:extraSpecs></nova:flavor>"
        "</nova:instance>"
    )
    guest = parse_guest(make_domain_xml(metadata=metadata))
    assert isinstance(guest.nova_flavor, NovaFlavor)
    assert guest.nova_flavor.devices == (("VGPU", 1), ("CUSTOM_BIG", 2), ("CUSTOM_BIG", 1))

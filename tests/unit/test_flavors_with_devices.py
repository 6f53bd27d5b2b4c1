"""How many more guests of a flavor with devices fit: each group of its request is of one card."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.collectors import flavors
from exporter.config.settings import FlavorConfig, HypervisorConfig
from exporter.model import (
    DeviceClass,
    DeviceProvider,
    Flavor,
    FlavorSlots,
    GuestDevices,
    NodeDevices,
    NovaFlavor,
    PciDevice,
    ResourceClass,
)
from exporter.placement.devices import count_fitting_devices, find_requested, get_device_inventories
from exporter.virt.resources import get_available_resource
from tests.support.records import make_guest, make_inventory, make_pci_device, make_reading, make_snapshot
from tests.unit.test_device_inventories import CUSTOM, UUIDS, VGPU, make_node_devices, make_provider

Request = tuple[tuple[DeviceClass, int], ...]


def make_gpu_flavor(*devices: tuple[DeviceClass, int], name: str = "gpu") -> Flavor:
    return Flavor(name=name, vcpus=1, memory_mb=1, disk_gb=0, devices=devices)


def compute(
    known: NodeDevices | None, *configured: Flavor, guests: Sequence[Any] = (), **options: Any
) -> Mapping[str, FlavorSlots]:
    """Return the slots on a host with room for 32 guests without devices, less those that it has."""
    config = HypervisorConfig(uri="test:///default", flavors=configured, **options)
    resources = get_available_resource(make_reading(guests=list(guests), node_devices=known), config)
    return {each.flavor: each for each in resources.flavor_slots}


def test_a_flavor_of_the_configuration_names_its_devices() -> None:
    flavor = FlavorConfig(vcpus=1, memory_mb=1, disk_gb=0, resources=((VGPU, 2),)).make_flavor("gpu")
    assert flavor.devices == ((VGPU, 2),)


def test_the_devices_of_one_guest_are_of_one_card() -> None:
    """Placement takes an amount of one provider only: of 3 and 3 and 1 there are two pairs, not three."""
    known = make_node_devices(make_provider(1, 3), make_provider(2, 3), make_provider(3, 1))
    found = compute(known, make_gpu_flavor((VGPU, 2)), make_gpu_flavor((VGPU, 1), (VGPU, 1), name="apart"))
    assert [found[name].slots for name in ("gpu", "apart")] == [2, 3]


def test_the_class_that_is_short_is_named() -> None:
    known = make_node_devices(make_provider(1, 3))
    slots = compute(known, make_gpu_flavor((VGPU, 1)))["gpu"]
    assert (slots.slots, slots.limited_by) == (3, {VGPU})
    assert slots.request == {ResourceClass.VCPU: 1, ResourceClass.MEMORY_MB: 1, VGPU: 1}


def test_what_guests_hold_is_taken() -> None:
    known = make_node_devices(make_provider(1, 3))
    guest = make_guest(devices=GuestDevices(mdev_uuids=frozenset({UUIDS[1]})))
    assert compute(known, make_gpu_flavor((VGPU, 1)), guests=[guest])["gpu"].slots == 2


def test_a_host_without_such_devices_takes_no_guest_with_one() -> None:
    slots = compute(make_node_devices(make_provider(1, 3, CUSTOM)), make_gpu_flavor((VGPU, 1)))["gpu"]
    assert (slots.slots, slots.limited_by) == (0, {VGPU})


@pytest.mark.parametrize(
    ("name", "slots"), [("VGPU", 0), ("CUSTOM_PCI_10DE_20B5", 0), ("CUSTOM_LICENCE", None), ("FPGA", None)]
)
def test_a_class_that_others_may_offer_is_not_known(name: str, slots: int | None) -> None:
    """Such as Nova's provider.yaml: then neither 0 nor "no limit" would be right."""
    found = compute(make_node_devices(), make_gpu_flavor((DeviceClass(name), 1)))
    assert (found["gpu"].slots if found else None) == slots


def test_while_devices_are_not_known_flavors_with_devices_have_no_slots_and_others_do() -> None:
    found = compute(None, make_gpu_flavor((VGPU, 1)), make_gpu_flavor(name="plain"))
    assert list(found) == ["plain"]


def test_claims_of_an_unknown_card_leave_single_devices_known_and_no_pairs() -> None:
    known = make_node_devices(make_provider(1, 2), make_provider(2, 2))
    guest = make_guest(devices=GuestDevices(mdev_uuids=frozenset({UUIDS[7]})))
    one, pair = make_gpu_flavor((VGPU, 1), name="one"), make_gpu_flavor((VGPU, 2), name="pair")
    found = compute(known, one, pair, guests=[guest])
    assert {name: each.slots for name, each in found.items()} == {"one": 3}
    only = make_node_devices(make_provider(1, 4))
    assert compute(only, pair, guests=[guest])["pair"].slots == 1


def test_pci_devices_may_be_of_any_cards() -> None:
    """Nova asks for each device of an alias by itself."""
    gpu = DeviceClass("CUSTOM_PCI_10DE_20B5")
    providers = [
        DeviceProvider(name=address, resource_class=gpu, total=1, members=frozenset({address}), is_mdev=False)
        for address in (f"0000:8{number}:00.0" for number in range(5))
    ]
    known = make_node_devices(*providers, has_pci_in_placement=True, mdevs=())
    assert compute(known, make_gpu_flavor((gpu, 2)))["gpu"].slots == 2


def make_gpu(number: int) -> PciDevice:
    return make_pci_device(
        address=f"0000:8{number}:00.0",
        vendor_id="10de",
        product_id="20b5",
        dev_type="type-PCI",
        parent_address=None,
    )


def test_pci_devices_that_are_not_in_placement_are_counted_in_novas_pools() -> None:
    known = make_node_devices(pci_devices=tuple(make_gpu(number) for number in range(4)))
    flavor = make_gpu_flavor((DeviceClass("CUSTOM_PCI_10DE_20B5"), 1))
    guest = make_guest(devices=GuestDevices(hostdevs=frozenset({make_gpu(0).address})))
    slots = compute(known, flavor, guests=[guest])["gpu"]
    assert (slots.slots, slots.limited_by) == (3, {"CUSTOM_PCI_10DE_20B5"})


# Learnt flavors.


def make_nova_flavor(*devices: tuple[DeviceClass, int]) -> NovaFlavor:
    return NovaFlavor(
        name="learnt",
        vcpus=1,
        memory_mb=1,
        root_gb=0,
        ephemeral_gb=0,
        swap_mb=0,
        resources={},
        devices=devices,
    )


def learn(known: NodeDevices | None, own: GuestDevices, *specs: tuple[DeviceClass, int]) -> Any:
    guest = make_guest(has_nova_metadata=True, nova_flavor=make_nova_flavor(*specs), devices=own)
    found = compute(known, guests=[guest], flavors_from_guests=True)
    return found["learnt"].slots if "learnt" in found else None


def test_a_learnt_flavor_asks_for_what_its_extra_specs_say() -> None:
    known = make_node_devices(make_provider(1, 5))
    own = GuestDevices(mdev_uuids=frozenset({UUIDS[1]}))
    assert learn(known, own, (VGPU, 2)) == 2


@pytest.mark.parametrize("name", ["VGPU", "CUSTOM_LICENCE", "CUSTOM_PCI_10DE_20B5"])
def test_a_learnt_flavor_with_a_class_that_nothing_offers_is_left_out(name: str) -> None:
    """Its guest is here, so that something offers it."""
    assert learn(make_node_devices(), GuestDevices(), (DeviceClass(name), 1)) is None


def test_without_extra_specs_it_asks_for_what_its_guest_has() -> None:
    known = make_node_devices(make_provider(1, 5), pci_devices=(make_gpu(0), make_gpu(1)))
    assert learn(known, GuestDevices(mdev_uuids=frozenset({UUIDS[1]}))) == 4
    assert learn(known, GuestDevices(hostdevs=frozenset({make_gpu(0).address}))) == 1


def test_devices_of_network_ports_are_not_its_own() -> None:
    known = make_node_devices(pci_devices=(make_gpu(0),))
    assert learn(known, GuestDevices(interfaces=frozenset({make_gpu(0).address}))) == 31


@pytest.mark.parametrize("is_known", [True, False])
def test_a_flavor_whose_devices_are_not_known_is_not_learnt(is_known: bool) -> None:
    own = GuestDevices(mdev_uuids=frozenset({UUIDS[8]}))
    assert learn(make_node_devices(make_provider(1, 5)) if is_known else None, own) is None


def test_a_flavor_of_a_guest_with_an_odd_device_is_not_learnt() -> None:
    """It would be one without that device."""
    own = GuestDevices(hostdevs=frozenset({make_gpu(0).address}), are_known=False)
    assert learn(make_node_devices(pci_devices=(make_gpu(0), make_gpu(1))), own) is None
    assert learn(make_node_devices(), GuestDevices(are_known=False)) is None


def test_devices_of_one_card_were_asked_for_together() -> None:
    card = DeviceProvider(
        name="pci_0000_84_00_0",
        resource_class=VGPU,
        total=4,
        members=frozenset(UUIDS[:4]),
        is_mdev=True,
    )
    known = make_node_devices(card, make_provider(5, 4), pci_devices=(make_gpu(0),))
    own = GuestDevices(
        mdev_uuids=frozenset({UUIDS[0], UUIDS[2], UUIDS[5]}), hostdevs=frozenset({make_gpu(0).address})
    )
    assert find_requested(known, own) == (("CUSTOM_PCI_10DE_20B5", 1), ("VGPU", 1), ("VGPU", 2))


# Series.


def test_a_class_of_devices_has_its_series_where_a_flavor_asks_for_it() -> None:
    slots = FlavorSlots(
        flavor="gpu", slots=3, limited_by=frozenset({VGPU}), request={ResourceClass.VCPU: 1, VGPU: 1}
    )
    samples = list(flavors.COLLECTOR.collect(make_snapshot(flavor_slots=(slots,))))
    limits = {
        sample.labels["resource_class"]: sample.value
        for sample in samples
        if sample.metric.name == "hypervisor_flavor_slots_limited_by"
    }
    assert limits == {"VCPU": 0, "PCPU": 0, "MEMORY_MB": 0, "DISK_GB": 0, "VGPU": 1}
    requests = {
        sample.labels["resource_class"]: sample.value
        for sample in samples
        if sample.metric.name == "hypervisor_flavor_request"
    }
    assert requests == {"VCPU": 1, "VGPU": 1}


# Against Placement's rules, guest by guest.


def place_all(free: Sequence[int], amounts: Sequence[int]) -> int:
    """Return how many guests fit at most, trying every choice of cards for each of them."""
    best = 0
    for cards in itertools.product(range(len(free)), repeat=len(amounts)):
        left = list(free)
        for card, amount in zip(cards, amounts, strict=True):
            left[card] -= amount
        if min(left) >= 0:
            best = max(best, 1 + place_all(left, amounts))
    return best


@settings(max_examples=200)
@given(
    totals=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    amount=st.integers(1, 3),
    groups=st.integers(1, 2),
    data=st.data(),
)
def test_slots_are_what_placement_can_still_place(
    totals: list[int], amount: int, groups: int, data: st.DataObject
) -> None:
    uuids = [[f"{card}-{number}" for number in range(total)] for card, total in enumerate(totals)]
    held = data.draw(st.sets(st.sampled_from([each for card in uuids for each in card])))
    providers = tuple(
        DeviceProvider(
            name=f"card{card}",
            resource_class=VGPU,
            total=len(members),
            members=frozenset(members),
            is_mdev=True,
        )
        for card, members in enumerate(uuids)
    )
    known = make_node_devices(*providers)
    (inventory,) = get_device_inventories(known, [(GuestDevices(mdev_uuids=frozenset(held)), ())])
    free = [len(set(members) - held) for members in uuids]
    assert inventory.claimed == len(held)
    amounts = [amount] * groups
    assert count_fitting_devices(VGPU, inventory, amounts) == place_all(free, amounts)


def test_groups_of_different_size_are_not_guessed() -> None:
    known = make_node_devices(make_provider(1, 5))
    assert compute(known, make_gpu_flavor((VGPU, 1), (VGPU, 2))) == {}


def test_an_unknown_claim_leaves_nothing_known() -> None:
    assert count_fitting_devices(VGPU, make_inventory(claimed=None), [1]) is None

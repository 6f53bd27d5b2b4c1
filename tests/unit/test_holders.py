"""Who holds what is claimed: the claims of each guest, and of some guests together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.collectors import capacity
from exporter.config.settings import HypervisorConfig
from exporter.model import DomainRecord, DomainState, Guest, GuestDevices, ResourceClass, Resources
from exporter.placement.holders import sum_claims_of, sum_shut_off
from exporter.virt.resources import get_available_resource
from tests.support.records import make_guest, make_reading, make_snapshot
from tests.unit.test_device_inventories import CUSTOM, UUIDS, VGPU, hold, make_node_devices, make_provider

VCPU, PCPU, MEMORY_MB = ResourceClass.VCPU, ResourceClass.PCPU, ResourceClass.MEMORY_MB
NO_DEVICES = GuestDevices()
CARDS = make_node_devices(make_provider(1, 4), make_provider(2, 4), make_provider(3, 4, CUSTOM))


def make_record(guest: Guest, state: DomainState, number: int) -> DomainRecord:
    is_active = state is not DomainState.SHUTOFF
    return DomainRecord(uuid=guest.uuid, name=guest.name, id=number if is_active else -1, state=state)


def look_at(
    guests: Sequence[Guest], states: Sequence[DomainState], *, cpu_dedicated_set: str | None = None
) -> Resources:
    domains = [
        make_record(guest, state, n) for n, (guest, state) in enumerate(zip(guests, states, strict=True), 1)
    ]
    reading = make_reading(guests=guests, domains=domains, node_devices=CARDS)
    shared = None if cpu_dedicated_set is None else "0-1"
    options = HypervisorConfig(
        uri="test:///default", cpu_dedicated_set=cpu_dedicated_set, cpu_shared_set=shared
    )
    return get_available_resource(reading, options)


def make_sized_guest(number: int, vcpus: int, memory_mb: int, devices: GuestDevices = NO_DEVICES) -> Guest:
    return make_guest(
        number, maximum_vcpus=vcpus, maximum_memory_kib=memory_mb * 1024, devices=devices, disks=(), images=()
    )


def test_what_shut_off_guests_hold_is_a_part_of_what_is_claimed() -> None:
    """A paused guest is not shut off. A class of which they hold nothing is 0."""
    guests = [
        make_sized_guest(1, 1, 10),
        make_sized_guest(2, 2, 200, hold(UUIDS[1])[0]),
        make_sized_guest(3, 4, 3000),
        make_sized_guest(4, 8, 40000),
    ]
    states = (DomainState.RUNNING, DomainState.SHUTOFF, DomainState.PAUSED, DomainState.SHUTOFF)
    snapshot = replace(make_snapshot(), resources=look_at(guests, states))
    values = {
        sample.labels["resource_class"]: sample.value
        for sample in capacity.COLLECTOR.collect(snapshot)
        if sample.metric is capacity.SHUT_OFF_CLAIMED
    }
    assert values == {"VCPU": 10, "MEMORY_MB": 40200, "DISK_GB": 0, "VGPU": 1, "CUSTOM_BIG": 0}


def test_without_a_list_of_domains_it_is_not_known() -> None:
    reading = replace(make_reading(), domains=None)
    assert sum_shut_off(get_available_resource(reading, HypervisorConfig(uri="test:///default"))) == {}


def test_cpus_are_unknown_where_a_shut_off_guests_pins_are() -> None:
    """What else it holds is known. A running guest of unknown pins changes nothing here."""
    odd = replace(make_sized_guest(1, 2, 10), is_placement_known=False)
    plain = make_sized_guest(2, 4, 20)
    running, shut_off = DomainState.RUNNING, DomainState.SHUTOFF
    unknown = sum_shut_off(look_at([odd, plain], (shut_off, shut_off), cpu_dedicated_set="2-3"))
    assert (unknown[VCPU], unknown[PCPU], unknown[MEMORY_MB]) == (None, None, 30)
    known = sum_shut_off(look_at([odd, plain], (running, shut_off), cpu_dedicated_set="2-3"))
    assert (known[VCPU], known[PCPU], known[MEMORY_MB]) == (4, 0, 20)


def test_devices_are_unknown_where_one_of_a_shut_off_guest_is_odd() -> None:
    odd = make_sized_guest(1, 2, 10, GuestDevices(are_known=False))
    found = sum_shut_off(look_at([odd], (DomainState.SHUTOFF,)))
    assert (found[VGPU], found[CUSTOM], found[VCPU]) == (None, None, 2)


def test_a_mediated_device_that_does_not_exist_now_is_held_still() -> None:
    """As in hypervisor_claimed: its class is that of the guest's flavor, or it is not known."""
    guest = make_sized_guest(1, 2, 10, hold(UUIDS[3], UUIDS[8])[0])
    found = sum_shut_off(look_at([guest], (DomainState.SHUTOFF,)))
    assert (found[VGPU], found[CUSTOM]) == (None, None)


DEVICES = st.lists(st.frozensets(st.sampled_from(UUIDS[1:4])), max_size=4).map(
    lambda sets: [own - frozenset().union(*sets[:number]) for number, own in enumerate(sets)]
)


@given(DEVICES, st.integers(0, 16))
def test_the_parts_add_up_to_what_is_claimed(devices: list[frozenset[str]], which: int) -> None:
    guests = [
        make_sized_guest(number, number, number * 10, GuestDevices(mdev_uuids=own))
        for number, own in enumerate(devices, 1)
    ]
    states = [
        DomainState.SHUTOFF if which >> number & 1 else DomainState.RUNNING for number in range(len(guests))
    ]
    resources = look_at(guests, states)
    shut_off = sum_shut_off(resources)
    others = sum_claims_of(
        resources,
        [guest.uuid for guest, state in zip(guests, states, strict=True) if state is DomainState.RUNNING],
    )
    claimed = {each.resource_class: each.claimed for each in resources.inventories}
    assert {name: (shut_off[name] or 0) + (others[name] or 0) for name in claimed} == claimed


@pytest.mark.parametrize("count", [0, 1])
def test_a_guest_of_which_nothing_could_be_read_claims_nothing(count: int) -> None:
    guests = [make_sized_guest(number, 2, 10) for number in range(1, count + 1)]
    gone = make_record(make_guest(9), DomainState.SHUTOFF, 9)
    records = [make_record(guest, DomainState.SHUTOFF, 1) for guest in guests]
    reading = make_reading(guests=guests, domains=[*records, gone])
    resources = get_available_resource(reading, HypervisorConfig(uri="test:///default"))
    assert sum_shut_off(resources)[VCPU] == 2 * count

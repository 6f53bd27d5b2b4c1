"""Guests that are migrating in: known by the states that libvirt shows of them, and claimed once in a sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from exporter.collectors import capacity
from exporter.config.settings import HypervisorConfig
from exporter.model import DomainRecord, DomainState, HostView
from exporter.page.fleet import make_fleet
from exporter.virt.guests.arriving import ArrivingGuests
from exporter.virt.resources import get_available_resource
from tests.support.driver_bench import Bench
from tests.support.records import (
    make_domains_reading,
    make_guest,
    make_reading,
    make_snapshot,
    make_storage_identity,
    make_view,
)

PAUSED, RUNNING, SHUTOFF = DomainState.PAUSED, DomainState.RUNNING, DomainState.SHUTOFF

# States and reasons as libvirt 9.0 with QEMU showed them, one list of domains after the other.
STARTING = (PAUSED, 11)
WAITING = (PAUSED, 2)  # at the destination, and at the source while the guest is handed over
PAUSED_BY_ADMIN = (PAUSED, 1)
BOOTED = (RUNNING, 1)
ARRIVED = (RUNNING, 2)
POSTCOPY = (RUNNING, 10)
POSTCOPY_FAILED = (RUNNING, 11)
OFF = (SHUTOFF, 0)


def record(uuid: str, state: tuple[DomainState, int], number: int = 1) -> DomainRecord:
    is_active = state[0] is not SHUTOFF
    return DomainRecord(uuid=uuid, name=uuid, id=number if is_active else -1, state=state[0], reason=state[1])


@pytest.mark.parametrize(
    ("states", "is_arriving"),
    [
        ([OFF, STARTING, WAITING, WAITING, ARRIVED], [False, False, True, True, False]),
        ([STARTING, WAITING, PAUSED_BY_ADMIN], [False, True, False]),
        ([WAITING, ARRIVED], [True, False]),
        ([STARTING, WAITING, POSTCOPY, ARRIVED], [False, True, True, False]),
        ([WAITING, POSTCOPY, POSTCOPY_FAILED], [True, True, True]),
        ([OFF, STARTING, BOOTED, WAITING], [False, False, False, False]),
        ([BOOTED, WAITING, BOOTED], [False, False, False]),
        ([BOOTED, PAUSED_BY_ADMIN], [False, False]),
        ([PAUSED_BY_ADMIN, WAITING], [False, False]),
        ([ARRIVED, WAITING], [False, False]),
    ],
    ids=[
        "arrives",
        "arrives-paused",
        "list-began-later",
        "postcopy",
        "postcopy-fails",
        "leaves",
        "leaves-in-vain",
        "paused-by-an-admin",
        "leaves-paused",
        "leaves-again",
    ],
)
def test_a_guest_arrives_until_it_runs_here(
    states: Sequence[tuple[DomainState, int]], is_arriving: list[bool]
) -> None:
    arriving = ArrivingGuests()
    assert [bool(arriving.find([record("a", state)])) for state in states] == is_arriving


def test_a_guest_that_comes_back_has_another_id() -> None:
    """It left, and libvirt lists it again under the next id: it is arriving, though it once ran here."""
    arriving = ArrivingGuests()
    assert arriving.find([record("a", BOOTED, 1), record("b", BOOTED, 2)]) == frozenset()
    assert arriving.find([record("b", BOOTED, 2)]) == frozenset()
    assert arriving.find([record("a", WAITING, 3), record("b", WAITING, 2)]) == {"a"}


def test_nothing_is_kept_of_guests_that_are_gone() -> None:
    """libvirtd counts its ids from 1 again after a reboot of the host."""
    arriving = ArrivingGuests()
    arriving.find([record("a", BOOTED, 1)])
    arriving.find([])
    assert arriving.find([record("a", WAITING, 1)]) == {"a"}


def test_the_whole_way_from_the_list_to_the_series() -> None:
    """What it claims is claimed here, as in Placement, and told beside it."""
    bench = Bench(needs=capacity.COLLECTOR.needs)
    bench.add_guest(1, vcpus=2)
    bench.add_guest(2, vcpus=4, state=PAUSED, reason=2)
    snapshot = replace(make_snapshot(), resources=bench.read())
    values = {
        sample.metric.name: sample.value
        for sample in capacity.COLLECTOR.collect(snapshot)
        if sample.labels["resource_class"] == "VCPU"
    }
    assert values["hypervisor_claimed"] == 6
    assert values["hypervisor_migrating_in_claimed"] == 4


# The fleet's totals on the page, in the table and in JSON.


def look_at(name: str, *guests: int, arriving: Sequence[int] = ()) -> HostView:
    """Return the view of a host with these guests, each with 2 vCPUs and 100 MiB."""
    records = [make_guest(number, maximum_vcpus=2, maximum_memory_kib=100 * 1024) for number in guests]
    domains = replace(
        make_domains_reading(records),
        arriving=frozenset(make_guest(number).uuid for number in arriving),
    )
    reading = replace(
        make_reading(), domains=domains, storage_identity=make_storage_identity(id=f"host:{name}")
    )
    resources = get_available_resource(reading, HypervisorConfig(uri="test:///default"))
    return make_view(
        target=name,
        snapshot=replace(make_snapshot(), resources=replace(resources, hypervisor_hostname=name)),
    )


def test_the_fleet_claims_a_guest_once_that_is_on_two_of_its_hypervisors() -> None:
    """Each of the two claims it."""
    fleet = make_fleet([look_at("a", 1, 2), look_at("b", 2, 3, arriving=[2])])
    assert [row.cpu.amount.claimed for row in fleet.rows] == [4, 4]
    assert fleet.cpu.claimed == 6
    assert fleet.memory.claimed == 300 * 2**20


def test_a_guest_counts_that_comes_from_a_hypervisor_of_another_fleet() -> None:
    assert make_fleet([look_at("b", 2, 3, arriving=[2])]).cpu.claimed == 4

"""Guests of a simulated hypervisor, to look at: of every kind and in every state that is shown otherwise."""

from __future__ import annotations

from dataclasses import replace

from exporter.model import (
    AnyResourceClass,
    DomainRecord,
    DomainsReading,
    DomainState,
    Guest,
    NovaFlavor,
    NovaInstance,
    ResourceClass,
    Resources,
)
from tests.support.records import make_guest, make_uuid

# Name, vCPUs, GiB of memory and of disk.
_FLAVORS = (
    ("m1.small", 1, 2, 20),
    ("m1.large", 4, 16, 80),
    ("r1.huge", 16, 128, 40),
    ("c1.medium", 8, 8, 40),
)
_NAMES = ("web", "shop-db", "mail", "ci-runner", "jumphost", "batch", "billing")
_PROJECTS = (
    ("7d1b3f5a9c8e4d2b6f0a1c3e5d7b9f8a", "shop"),
    ("0c4f2a6e8b1d3f5a7c9e0b2d4f6a8c1e", "platform"),
)
# State and reason by the guest's number; all others run since they were booted.
_STATES = {
    2: (DomainState.PAUSED, 5),
    5: (DomainState.PAUSED, 1),
    7: (DomainState.PAUSED, 2),
    11: (DomainState.SHUTOFF, 1),
    13: (DomainState.SHUTOFF, 3),
    17: (DomainState.SHUTOFF, 1),
}
_MIGRATING_IN, _FOREIGN, _UNREAD = 7, 9, 10


def add_guests(resources: Resources, count: int) -> Resources:
    """Return these resources with so many guests, of which one is not Nova's, and one cannot be read."""
    numbers = range(1, count + 1)
    claims: dict[str, dict[AnyResourceClass, int | None]] = {
        make_uuid(number): _make_claim(number) for number in numbers if number != _UNREAD
    }
    domains = DomainsReading(
        domains=tuple(_make_record(number) for number in numbers),
        guests={make_uuid(number): _make_guest(number) for number in numbers},
        images={},
        arriving=frozenset({make_uuid(_MIGRATING_IN)}),
    )
    return replace(resources, domains=domains, guest_claims=claims)


def _make_name(number: int) -> str:
    return f"instance-{number:08x}"


def _make_record(number: int) -> DomainRecord:
    state, reason = _STATES.get(number, (DomainState.RUNNING, 1))
    is_active = state is not DomainState.SHUTOFF
    return DomainRecord(
        uuid=make_uuid(number),
        name=_make_name(number),
        id=number if is_active else -1,
        state=state,
        reason=reason,
    )


def _choose_flavor(number: int) -> tuple[str, int, int, int]:
    return _FLAVORS[number * 7 % len(_FLAVORS)]


def _make_claim(number: int) -> dict[AnyResourceClass, int | None]:
    _, vcpus, memory_gib, disk_gb = _choose_flavor(number)
    return {
        ResourceClass.VCPU: vcpus,
        ResourceClass.MEMORY_MB: memory_gib * 1024,
        ResourceClass.DISK_GB: disk_gb,
    }


def _make_guest(number: int) -> Guest | None:
    if number == _UNREAD:
        return None
    guest = make_guest(number, name=_make_name(number))
    if number == _FOREIGN:
        return guest
    name, vcpus, memory_gib, disk_gb = _choose_flavor(number)
    project_id, project_name = _PROJECTS[number % 3 % 2]
    flavor = NovaFlavor(
        name=name,
        vcpus=vcpus,
        memory_mb=memory_gib * 1024,
        root_gb=disk_gb,
        ephemeral_gb=0,
        swap_mb=0,
        resources={},
    )
    instance = NovaInstance(
        instance_name=f"{_NAMES[number % len(_NAMES)]}-{number}",
        project_id=project_id,
        project_name=project_name,
    )
    return replace(guest, nova_flavor=flavor, nova_instance=instance)

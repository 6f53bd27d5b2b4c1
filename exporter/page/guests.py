"""The guests of one hypervisor for people: who each one is, how it is, and what it claims.

Pure functions on the view that a scrape uses, as `exporter.page.fleet` has them for the hypervisors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from exporter.guest_records import AllGuestStatistics
from exporter.model import (
    AnyResourceClass,
    DomainRecord,
    DomainState,
    Guest,
    HostView,
    NovaInstance,
    ResourceClass,
    Resources,
)
from exporter.page.fleet import GIB, MIB, HostRow, make_row
from exporter.page.guest_rates import GuestRate
from exporter.placement.holders import sum_shut_off
from exporter.state_reasons import get_reason

# More guests are counted and not listed: the document stays small, whatever a hypervisor has.
MAX_GUESTS = 1000

# Who is in such a state does not work, and nobody wanted that.
_FAULTS: Mapping[tuple[DomainState, str], str] = {
    (DomainState.PAUSED, "ioerror"): "paused by an I/O error",
    (DomainState.PAUSED, "watchdog"): "paused by its watchdog",
    (DomainState.PAUSED, "crashed"): "paused after a crash",
    (DomainState.PAUSED, "api_error"): "paused after an error of libvirt",
    (DomainState.PAUSED, "postcopy_failed"): "paused by a migration that failed",
    (DomainState.RUNNING, "postcopy_failed"): "in a migration that failed",
    (DomainState.SHUTOFF, "crashed"): "shut off by a crash",
    (DomainState.SHUTOFF, "failed"): "shut off, as it could not be started",
}
_UNRESPONSIVE = "QEMU does not answer"
_NOBODY = NovaInstance()
UNKNOWN_RATE = GuestRate(cpus=None, waiting=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class GuestRow:
    """One guest. Texts that are not known are empty.

    :ivar domain: libvirt's name
    :ivar project_name: empty also where it is not to be shown
    :ivar vcpus: what it claims, pinned ones too; None if that is not known
    :ivar reason: libvirt's word for why it is in its state
    :ivar fault: what is wrong with it, in words
    :ivar is_responsive: whether its QEMU answers; None if it was not asked
    """

    domain: str
    uuid: str
    instance_name: str
    flavor: str
    project_id: str
    project_name: str
    state: DomainState
    reason: str
    vcpus: int | None
    memory_bytes: int | None
    disk_bytes: int | None
    fault: str
    use: GuestRate = UNKNOWN_RATE
    is_responsive: bool | None = None

    @property
    def project(self) -> str:
        """The project's name; its id if the name is not known, or not to be shown."""
        return self.project_name or self.project_id

    @property
    def state_name(self) -> str:
        """The state, as in hypervisor_domains."""
        return self.state.name.lower()


@dataclass(frozen=True, kw_only=True, slots=True)
class GuestList:
    """The guests of a hypervisor: first who has a fault, then who claims the most memory.

    :ivar are_known: whether libvirt lists them
    :ivar rows: MAX_GUESTS at most
    :ivar count: how many there are
    :ivar shut_off: what those claim that are shut off; empty if it is not known
    :ivar has_use: whether the collector `guests` reads what guests use
    """

    host: HostRow
    are_known: bool
    rows: tuple[GuestRow, ...]
    count: int
    states: Mapping[DomainState, int]
    faults: Mapping[str, int]
    shut_off: Mapping[AnyResourceClass, int | None]
    has_use: bool = False

    @property
    def omitted(self) -> int:
        """How many are not among the rows."""
        return self.count - len(self.rows)


def make_guest_list(
    view: HostView, *, rates: Mapping[str, GuestRate] | None = None, show_owner_names: bool = True
) -> GuestList:
    """Return the record of a hypervisor's guests.

    :param rates: what they use, by UUID; None where nothing reads it
    :param show_owner_names: whether the names of projects are shown
    """
    host = make_row(view)
    resources = None if view.snapshot is None else view.snapshot.resources
    if resources is None or resources.domains is None:
        return GuestList(host=host, are_known=False, rows=(), count=0, states={}, faults={}, shut_off={})
    statistics = view.snapshot.get_part("guest statistics", AllGuestStatistics) if view.snapshot else None
    answers = {} if statistics is None else statistics.is_responsive
    rows = [
        _make_guest_row(record, resources, show_owner_names=show_owner_names, answers=answers)
        for record in resources.domains.domains
    ]
    if rates:
        rows = [replace(row, use=rates.get(row.uuid, UNKNOWN_RATE)) for row in rows]
    rows.sort(key=lambda row: (not row.fault, -(row.memory_bytes or 0), row.domain))
    return GuestList(
        host=host,
        are_known=True,
        rows=tuple(rows[:MAX_GUESTS]),
        count=len(rows),
        states=Counter(row.state for row in rows),
        faults=Counter(row.fault for row in rows if row.fault),
        shut_off=sum_shut_off(resources),
        has_use=rates is not None,
    )


def _make_guest_row(
    record: DomainRecord, resources: Resources, *, show_owner_names: bool, answers: Mapping[str, bool]
) -> GuestRow:
    guest = resources.domains.guests.get(record.uuid) if resources.domains else None
    instance = _NOBODY if guest is None else guest.nova_instance
    claim = resources.guest_claims.get(record.uuid)
    reason = get_reason(record.state, record.reason)
    fault = _FAULTS.get((record.state, reason), "")
    if not fault and not answers.get(record.uuid, True):
        fault = _UNRESPONSIVE
    return GuestRow(
        domain=record.name,
        uuid=record.uuid,
        instance_name=instance.instance_name,
        flavor=_get_flavor(guest),
        project_id=instance.project_id,
        project_name=instance.project_name if show_owner_names else "",
        state=record.state,
        reason=_describe_reason(record, reason, resources),
        vcpus=_add(claim, ResourceClass.VCPU, ResourceClass.PCPU),
        memory_bytes=_add(claim, ResourceClass.MEMORY_MB, unit=MIB),
        disk_bytes=_add(claim, ResourceClass.DISK_GB, unit=GIB),
        fault=fault,
        is_responsive=answers.get(record.uuid),
    )


def _describe_reason(record: DomainRecord, reason: str, resources: Resources) -> str:
    """Return libvirt's word for the reason, or that the guest is migrating in; empty if there is none."""
    if resources.domains is not None and record.uuid in resources.domains.arriving:
        return "migrating in"
    return "" if reason == "unknown" else reason


def _get_flavor(guest: Guest | None) -> str:
    return "" if guest is None or guest.nova_flavor is None else guest.nova_flavor.name


def _add(
    claim: Mapping[AnyResourceClass, int | None] | None, *classes: ResourceClass, unit: int = 1
) -> int | None:
    """Return what a guest claims of these classes; None if it is not known of one."""
    amounts = [None] if claim is None else [claim.get(each, 0) for each in classes]
    return None if None in amounts else sum(amount or 0 for amount in amounts) * unit

"""The fleet as the page, the table and JSON show it: numbers, states and problems of each hypervisor.

Pure functions on the same views that a scrape uses. So all three agree with `/metrics`.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from exporter.model import (
    AnyResourceClass,
    DomainState,
    HostView,
    Ignored,
    Inventory,
    Problem,
    ResourceClass,
    Resources,
    Severity,
    StorageIdentity,
)
from exporter.page.advice import IGNORED, get_advice
from exporter.page.amount import UNKNOWN_AMOUNT, Amount, subtract, sum_amounts
from exporter.page.storages import SharedStorage, StorageUse, find_shared_storages, list_own, sum_disks
from exporter.placement.holders import sum_claims_of

# The names of the sources that page, table and JSON depend on (exporter/virt/sources/).
NEEDS = frozenset({"capabilities", "guests", "images", "online CPUs", "storage"})

_Claims = Mapping[AnyResourceClass, int | None]

MIB = 2**20
GIB = 2**30

# At most this many hypervisors are listed per problem: after a network failure all have the same one.
TROUBLES_SHOWN = 8


class HostStatus(enum.Enum):
    """The state of a hypervisor in one word; the worst state first."""

    DOWN = "down"  # it does not answer, and its last numbers are too old to be shown
    STALE = "stale"  # it does not answer; these are its last numbers
    DUPLICATE = "duplicate"  # another target has the same host name; only one of them is shown
    INCOMPLETE = "incomplete"  # it answers, but some numbers are missing
    WAITING = "waiting"  # it has not answered yet
    UP = "up"


@dataclass(frozen=True, kw_only=True, slots=True)
class Resource:
    """CPU, memory or disk of one hypervisor."""

    name: str
    amount: Amount
    fullness: float | None  # sorts the hypervisors; 1 is full


@dataclass(frozen=True, kw_only=True, slots=True)
class Trouble:
    """A problem of the hypervisor `name`."""

    name: str
    reason: str
    message: str
    action: str  # what to do about it
    is_note: bool  # a property of the host rather than a fault


@dataclass(frozen=True, kw_only=True, slots=True)
class HostRow:
    """One hypervisor.

    :ivar hostname: None while it is not known
    :ivar age_seconds: of the numbers; None if there are none
    :ivar down_seconds: since its last complete answer; None if it never answered completely
    """

    target: str
    hostname: str | None
    status: HostStatus
    is_up: bool
    age_seconds: float | None
    down_seconds: float | None
    cpu: Resource
    memory: Resource
    disk: Resource
    storage: StorageIdentity | None
    sharers: int  # how many of these hypervisors have the same storage, this one among them
    running_vms: int | None
    domains: Mapping[DomainState, int]
    flavor_slots: Mapping[str, int]  # how many more guests of each flavor fit
    flavor_disk: Mapping[str, int]  # what one guest of each flavor claims of the disk, in GiB
    troubles: tuple[Trouble, ...]

    @property
    def name(self) -> str:
        """The name that is shown."""
        return self.hostname or self.target

    @property
    def resources(self) -> tuple[Resource, ...]:
        """CPU, memory and disk, in the order in which they are shown."""
        return (self.cpu, self.memory, self.disk)

    @property
    def fullest(self) -> Resource | None:
        """The resource that runs out first; None if nothing is known."""
        known = [each for each in self.resources if each.fullness is not None]
        return max(known, key=lambda each: each.fullness or 0, default=None)

    @property
    def fullness(self) -> float | None:
        """How full the fullest resource is; 1 is full."""
        return self.fullest.fullness if self.fullest else None


@dataclass(frozen=True, kw_only=True, slots=True)
class TroubleGroup:
    """Hypervisors with the same problem and the same action."""

    reason: str
    action: str
    troubles: tuple[Trouble, ...]
    is_note: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class FlavorRoom:
    """How many more guests of one flavor fit, and which hypervisor has room for the most."""

    flavor: str
    slots: int
    best: str
    best_slots: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Fleet:
    """All hypervisors: the fullest first, those without known numbers last."""

    rows: tuple[HostRow, ...]
    cpu: Amount
    memory: Amount
    disk: Amount
    storages: tuple[SharedStorage, ...]  # each is in `disk` once
    flavors: tuple[FlavorRoom, ...]
    troubles: tuple[TroubleGroup, ...]

    @property
    def faults(self) -> tuple[TroubleGroup, ...]:
        """Problems that somebody has to fix."""
        return tuple(group for group in self.troubles if not group.is_note)

    @property
    def notes(self) -> tuple[TroubleGroup, ...]:
        """Notes that need no action."""
        return tuple(group for group in self.troubles if group.is_note)

    @property
    def up(self) -> int:
        """How many hypervisors answer."""
        return sum(row.is_up for row in self.rows)

    @property
    def shown(self) -> int:
        """How many hypervisors have numbers here."""
        return sum(row.age_seconds is not None for row in self.rows)

    @property
    def running_vms(self) -> int | None:
        """Active domains, of the hypervisors whose domains are known; None if there is no such one."""
        known = [row.running_vms for row in self.rows if row.running_vms is not None]
        return sum(known) if known else None

    @property
    def without_guests(self) -> int:
        """How many have numbers but no list of domains, so that all guest numbers are missing."""
        return sum(row.age_seconds is not None and row.running_vms is None for row in self.rows)

    @property
    def oldest_seconds(self) -> float | None:
        """The age of the oldest numbers."""
        return max((row.age_seconds for row in self.rows if row.age_seconds is not None), default=None)


def make_fleet(views: Sequence[HostView]) -> Fleet:
    """Return the record of all hypervisors."""
    twice = _list_on_two(views)
    rows = [make_row(view, twice=twice) for view in views]
    uses = [_use(row) for row in rows]
    storages = find_shared_storages(uses)
    sharers = {storage.id: len(storage.names) for storage in storages}
    rows = sorted((_with_sharers(row, sharers) for row in rows), key=_order)
    return Fleet(
        rows=tuple(rows),
        cpu=sum_amounts(row.cpu.amount for row in rows),
        memory=sum_amounts(row.memory.amount for row in rows),
        disk=sum_disks(uses, storages),
        storages=storages,
        flavors=tuple(_flavor_rooms(uses, storages)),
        troubles=tuple(_group(trouble for row in rows for trouble in row.troubles)),
    )


def _use(row: HostRow) -> StorageUse:
    return StorageUse(
        name=row.name,
        identity=row.storage,
        amount=row.disk.amount,
        slots=row.flavor_slots,
        requests=row.flavor_disk,
    )


def _with_sharers(row: HostRow, sharers: Mapping[str, int]) -> HostRow:
    return row if row.storage is None else replace(row, sharers=sharers.get(row.storage.id, 1))


def _list_on_two(views: Sequence[HostView]) -> frozenset[str]:
    """Return the UUIDs of guests that are migrating from one of these hypervisors to another one of them."""
    readings = [view.snapshot.resources.domains for view in views if view.snapshot is not None]
    arriving = frozenset().union(*(each.arriving for each in readings if each is not None))
    if not arriving:
        return arriving
    there = Counter(record.uuid for each in readings if each is not None for record in each.domains)
    return frozenset(uuid for uuid in arriving if there[uuid] > 1)


def make_row(view: HostView, *, twice: Collection[str] = ()) -> HostRow:
    """Return the record of one hypervisor.

    :param twice: UUIDs of guests that are migrating between two of the hypervisors that are shown
    """
    resources = view.snapshot.resources if view.snapshot is not None else None
    hostname = resources.hypervisor_hostname if resources is not None else None
    name = hostname or view.target
    arriving = _sum_arriving(resources, twice)
    cpu, memory, disk = _cpu(resources, arriving), _memory(resources, arriving), _disk(resources, arriving)
    return HostRow(
        target=view.target,
        hostname=hostname,
        status=_status(view),
        is_up=view.is_up,
        age_seconds=view.age_seconds,
        down_seconds=view.seconds_since_success,
        cpu=Resource(name="cpu", amount=cpu, fullness=_first(cpu.claimed_share, cpu.used_share)),
        memory=Resource(name="memory", amount=memory, fullness=_fullness(memory)),
        disk=Resource(name="disk", amount=disk, fullness=_fullness(disk)),
        storage=resources.storage_identity if resources is not None else None,
        sharers=1,
        running_vms=resources.running_vms if resources is not None else None,
        domains=(resources.domains_by_state or {}) if resources is not None else {},
        flavor_slots={each.flavor: each.slots for each in resources.flavor_slots} if resources else {},
        flavor_disk=_flavor_disk(resources) if resources else {},
        troubles=(
            *(_trouble(name, problem) for problem in view.problems),
            *(_make_note(name, ignored) for ignored in view.ignored),
        ),
    )


def _status(view: HostView) -> HostStatus:
    if view.is_up:
        return HostStatus.UP
    reasons = {problem.reason for problem in view.problems if problem.severity is Severity.FATAL}
    if "duplicate" in reasons:
        return HostStatus.DUPLICATE
    if view.snapshot is not None:
        has_numbers = bool(reasons) and all(get_advice(reason).has_numbers for reason in reasons)
        return HostStatus.INCOMPLETE if has_numbers else HostStatus.STALE
    is_first = view.refresh is None and view.seconds_since_success is None
    return HostStatus.WAITING if is_first and view.is_refreshing and not reasons else HostStatus.DOWN


def _sum_arriving(resources: Resources | None, twice: Collection[str]) -> _Claims:
    """Return what these guests claim of a hypervisor that they are migrating to."""
    if resources is None or resources.domains is None:
        return {}
    return sum_claims_of(resources, resources.domains.arriving.intersection(twice))


def _cpu(resources: Resources | None, arriving: _Claims) -> Amount:
    if resources is None:
        return UNKNOWN_AMOUNT
    total, used = resources.vcpus, resources.vcpus_used
    # A hypervisor may have only CPUs for pinned guests. If it has both kinds, most guests share CPUs.
    inventory = _inventory(resources, ResourceClass.VCPU) or _inventory(resources, ResourceClass.PCPU)
    return _amount(total, used, subtract(total, used), inventory, arriving, unit=1)


def _memory(resources: Resources | None, arriving: _Claims) -> Amount:
    if resources is None:
        return UNKNOWN_AMOUNT
    total, used = _bytes(resources.memory_mb), _bytes(resources.memory_mb_used)
    inventory = _inventory(resources, ResourceClass.MEMORY_MB)
    return _amount(total, used, subtract(total, used), inventory, arriving, unit=MIB)


def _disk(resources: Resources | None, arriving: _Claims) -> Amount:
    if resources is None or resources.storage is None:
        return UNKNOWN_AMOUNT
    storage, inventory = resources.storage, _inventory(resources, ResourceClass.DISK_GB)
    amount = _amount(
        storage.size_bytes, storage.used_bytes, storage.free_bytes, inventory, arriving, unit=GIB
    )
    # An image can take more space than its size, for example a raw image with extra blocks of its file
    # system. Such images make Nova's sum negative. They do not grow any more, but they do not shrink either.
    growth = resources.storage_overcommitted_bytes
    return replace(amount, growth=None if growth is None else max(0, growth))


def _amount(
    total: int | None,
    used: int | None,
    free: int | None,
    inventory: Inventory | None,
    arriving: _Claims,
    *,
    unit: int,
) -> Amount:
    """Join the measured amount and the claims of one resource.

    :param unit: bytes (or CPUs) for each unit of the inventory
    """
    capacity = inventory.capacity if inventory is not None else None
    claimed = inventory.claimed if inventory is not None and capacity is not None else None
    return Amount(
        total=total,
        used=used,
        free=free,
        capacity=None if capacity is None else capacity * unit,
        claimed=None if claimed is None else claimed * unit,
        claimed_twice=0 if inventory is None else (arriving.get(inventory.resource_class) or 0) * unit,
    )


def _inventory(resources: Resources, resource_class: ResourceClass) -> Inventory | None:
    offered = (each for each in resources.inventories if each.resource_class is resource_class)
    return next(offered, None)


def _flavor_disk(resources: Resources) -> dict[str, int]:
    return {each.flavor: each.request.get(ResourceClass.DISK_GB, 0) for each in resources.flavor_slots}


def _flavor_rooms(uses: Sequence[StorageUse], storages: Sequence[SharedStorage]) -> Iterator[FlavorRoom]:
    """Add up each flavor's slots over the hypervisors that know it; a shared storage has room only once."""
    own = list_own(uses, storages)
    for flavor in dict.fromkeys(flavor for use in uses for flavor in use.slots):
        counts = [(use.slots[flavor], use.name) for use in own if flavor in use.slots]
        slots = sum(count for count, _ in counts) + sum(each.count_slots(flavor) for each in storages)
        best_slots, best = max([*counts, *(room for each in storages for room in each.get_slots(flavor))])
        yield FlavorRoom(flavor=flavor, slots=slots, best=best, best_slots=best_slots)


def _trouble(name: str, problem: Problem) -> Trouble:
    return Trouble(
        name=name,
        reason=problem.reason,
        message=problem.message,
        action=f"{problem.advice}." if problem.advice else get_advice(problem.reason).action,
        is_note=problem.severity is Severity.NOTE,
    )


def _make_note(name: str, ignored: Ignored) -> Trouble:
    action = get_advice(IGNORED).action
    return Trouble(name=name, reason=IGNORED, message=str(ignored), action=action, is_note=True)


def list_faults(row: HostRow) -> tuple[TroubleGroup, ...]:
    """Return what somebody has to fix of one hypervisor."""
    return tuple(group for group in _group(row.troubles) if not group.is_note)


def _group(troubles: Iterable[Trouble]) -> Iterator[TroubleGroup]:
    """Group problems with the same reason and action; faults come before notes."""
    groups: dict[tuple[bool, str, str], list[Trouble]] = {}
    for trouble in troubles:
        groups.setdefault((trouble.is_note, trouble.reason, trouble.action), []).append(trouble)
    for (is_note, reason, action), members in sorted(groups.items(), key=lambda each: each[0][0]):
        yield TroubleGroup(reason=reason, action=action, troubles=tuple(members), is_note=is_note)


def _order(row: HostRow) -> tuple[float, str]:
    return (-(row.fullness if row.fullness is not None else -1), row.name)


def _fullness(amount: Amount) -> float | None:
    """Return the larger share: memory and disk can run out by use, and by claims."""
    return max((each for each in (amount.used_share, amount.claimed_share) if each is not None), default=None)


def _first(*shares: float | None) -> float | None:
    """Return the first known share. vCPUs may exceed CPUs up to the ratio, and nothing runs out."""
    return next((each for each in shares if each is not None), None)


def _bytes(mib: int | None) -> int | None:
    return mib * MIB if mib is not None else None

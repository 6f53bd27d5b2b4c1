"""The fleet as a JSON document, for programs. docs/page.md describes it. Keys are only ever added."""

from __future__ import annotations

import json
from typing import Any

from exporter.page.advice import get_advice
from exporter.page.amount import Amount
from exporter.page.fleet import Fleet, HostRow, Trouble
from exporter.page.guests import GuestList, GuestRow
from exporter.page.storages import SharedStorage

VERSION = 1


def render_json(fleet: Fleet, *, now: float) -> str:
    """Return the document, with a line end. null means not known.

    :param now: seconds since the epoch
    """
    document = {
        "version": VERSION,
        "timestamp_seconds": round(now, 3),
        "fleet": {
            "hypervisors": len(fleet.rows),
            "up": fleet.up,
            "with_numbers": fleet.shown,
            "running_vms": fleet.running_vms,
            **_amounts(fleet.cpu, fleet.memory, fleet.disk),
            "shared_storages": [_shared_storage(each) for each in fleet.storages],
            "flavor_slots": {each.flavor: each.slots for each in fleet.flavors},
        },
        "hypervisors": [_hypervisor(row) for row in fleet.rows],
    }
    return json.dumps(document, indent=2) + "\n"


def render_guests_json(guests: GuestList, *, now: float) -> str:
    """Return the document of one hypervisor's guests, with a line end. null means not known.

    :param now: seconds since the epoch
    """
    document = {
        "version": VERSION,
        "timestamp_seconds": round(now, 3),
        "hypervisor": _hypervisor(guests.host),
        "count": guests.count if guests.are_known else None,
        "guests": [_guest(row) for row in guests.rows],
    }
    return json.dumps(document, indent=2) + "\n"


def _guest(row: GuestRow) -> dict[str, Any]:
    return {
        "domain": row.domain,
        "uuid": row.uuid,
        "instance_name": row.instance_name or None,
        "flavor": row.flavor or None,
        "project_id": row.project_id or None,
        "project_name": row.project_name or None,
        "state": row.state_name,
        "reason": row.reason or None,
        "fault": row.fault or None,
        "claimed_vcpus": row.vcpus,
        "claimed_memory_bytes": row.memory_bytes,
        "claimed_disk_bytes": row.disk_bytes,
        "used_cpus": _round(row.use.cpus),
        "waiting_share": _round(row.use.waiting),
        "responsive": row.is_responsive,
    }


def _hypervisor(row: HostRow) -> dict[str, Any]:
    fullest = row.fullest
    return {
        "target": row.target,
        "hypervisor_hostname": row.hostname,
        "state": row.status.value,
        "up": row.is_up,
        "age_seconds": _round(row.age_seconds),
        "seconds_since_success": _round(row.down_seconds),
        "fullest": None if fullest is None else {"resource": fullest.name, "share": _round(fullest.fullness)},
        "running_vms": row.running_vms,
        "domains": {state.name.lower(): count for state, count in row.domains.items()},
        **_amounts(row.cpu.amount, row.memory.amount, row.disk.amount),
        "storage": _storage(row),
        "flavor_slots": dict(row.flavor_slots),
        "problems": [_problem(trouble) for trouble in row.troubles],
    }


def _storage(row: HostRow) -> dict[str, Any] | None:
    if row.storage is None:
        return None
    return {
        "id": row.storage.id,
        "kind": row.storage.kind,
        "source": row.storage.source,
        "hypervisors": row.sharers,
    }


def _shared_storage(storage: SharedStorage) -> dict[str, Any]:
    return {
        "id": storage.id,
        "hypervisors": list(storage.names),
        "disk": _disk(storage.amount),
    }


def _disk(amount: Amount) -> dict[str, Any]:
    growth = {"growth_bytes": None if amount.used is None else amount.growth}
    return _amount(amount, "_bytes") | growth


def _amounts(cpu: Amount, memory: Amount, disk: Amount) -> dict[str, Any]:
    return {
        "cpu": _amount(cpu, ""),
        "memory": _amount(memory, "_bytes"),
        "disk": _disk(disk),
    }


def _amount(amount: Amount, unit: str) -> dict[str, Any]:
    return {
        f"total{unit}": amount.total,
        f"used{unit}": amount.used,
        f"free{unit}": amount.free,
        f"capacity{unit}": amount.capacity,
        f"claimed{unit}": amount.claimed,
        "used_share": _round(amount.used_share),
        "claimed_share": _round(amount.claimed_share),
    }


def _problem(trouble: Trouble) -> dict[str, Any]:
    return {
        "reason": trouble.reason,
        "message": trouble.message,
        "meaning": get_advice(trouble.reason).meaning,
        "action": trouble.action,
        "is_note": trouble.is_note,
    }


def _round(number: float | None) -> float | None:
    return None if number is None else round(number, 4)
